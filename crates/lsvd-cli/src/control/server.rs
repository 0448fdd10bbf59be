//! Answering on a control socket, for as long as a volume is served.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::protocol::{
    Answer, REQUEST_BYTES_MAX, Refusal, RefusalKind, Verb, VolumeStatus, decode_request,
    encode_reply,
};
use super::{SOCKET_NAME, SocketDirectory};

/// Most connections at once; the next ones wait until one of these ends.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may take for its next request, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted, as when all descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// What a server says of its volume.
pub(crate) type AskStatus = Arc<dyn Fn() -> VolumeStatus + Send + Sync>;

/// A control socket, answered until this is dropped; then its file goes.
pub(crate) struct ControlServer {
    directory: SocketDirectory,
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl ControlServer {
    /// Listens in `directory`, which belongs to this process alone: a socket that is there is a dead
    /// server's. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(directory: &Path, status: AskStatus) -> std::io::Result<Self> {
        let path = directory.join(SOCKET_NAME);
        let directory = SocketDirectory::open(directory)?;
        remove_dead(&directory)?;
        let socket = bind(&directory)?;
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let accepting = tokio::spawn(accept(listener, status));
        Ok(Self {
            directory,
            path,
            accepting,
        })
    }
}

impl fmt::Debug for ControlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlServer({})", self.path.display())
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Err(errno) = remove_dead(&self.directory) {
            tracing::warn!(path = %self.path.display(), "the control socket's file stays: {errno}");
        }
    }
}

/// Removes the socket file, if there is one; a file of another kind stays.
fn remove_dead(directory: &SocketDirectory) -> Result<(), Errno> {
    let found = rustix::fs::statat(&directory.0, SOCKET_NAME, AtFlags::SYMLINK_NOFOLLOW);
    match found {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_socket() => {
            rustix::fs::unlinkat(&directory.0, SOCKET_NAME, AtFlags::empty())
        }
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A socket that listens, for this user alone. Nobody can connect before it listens, and by then its
/// file has the right mode.
fn bind(directory: &SocketDirectory) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &directory.address()?)?;
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::chmodat(&directory.0, SOCKET_NAME, mode, AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

async fn accept(listener: UnixListener, status: AskStatus) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Aborted with this task.
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let status = Arc::clone(&status);
                connections.spawn(async move {
                    let _permit = permit;
                    converse(stream, &status).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the control socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one connection until it ends, breaks a rule, or takes too long.
async fn converse(stream: UnixStream, status: &AskStatus) {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut request = (&mut input).take(REQUEST_BYTES_MAX);
        let read = request.read_until(b'\n', &mut line);
        let Ok(Ok(_)) = timeout(PATIENCE, read).await else {
            return;
        };
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        let too_long = !whole && line.len() as u64 == REQUEST_BYTES_MAX;
        let answer = match decode_request(&line) {
            _ if too_long => {
                let message = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
                Answer::Error(Refusal::new(RefusalKind::TooLong, message))
            }
            // The other side ended, in the midst of a request or between two.
            _ if !whole => return,
            Ok(Verb::Status) => Answer::Status(Box::new(status())),
            Err(refusal) => Answer::Error(refusal),
        };
        let reply = encode_reply(&answer);
        let sent = timeout(PATIENCE, output.write_all(reply.as_bytes())).await;
        // Whatever follows what is too long cannot be told from a request.
        if too_long || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
