//! The file of a unix socket: who may make it, and who removes it.
//!
//! Whether a socket file is a dead server's can only be tried, and between the trial and its
//! replacement another server may have put its own there. So all of that is done holding a lock on
//! a file beside the socket, which is there for that moment only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

/// Longest wait for the lock. Whoever holds it makes three or four system calls that do not wait.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How often the lock is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Binds the socket `path`, in place of one that nobody listens on any more.
pub(crate) async fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    // Until the listener listens: a socket that is bound and does not is as dead to the next one.
    let _lock = StartLock::take(path).await?;
    remove_dead(path).await?;
    let listener = UnixListener::bind(path)?;
    let meta = std::fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: meta.dev(),
        inode: meta.ino(),
    };
    Ok((listener, file))
}

/// Makes room for a socket, or says why there is none.
async fn remove_dead(path: &Path) -> io::Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        let message = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            match std::fs::remove_file(path) {
                // A server that ends removes its own without the lock.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => {
            let message = format!("a server listens on {} already", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
    }
}

/// The file of a bound socket, removed when this is dropped. That must be before the listener
/// closes: as long as it listens nobody takes the file for a dead one and puts another there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed ours by hand, and another server put its own there.
        if is_file(&self.path, self.device, self.inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), "the socket's file stays: {error}");
        }
    }
}

/// The right to replace a socket file: an exclusive lock on the file `PATH.lock`. Dropping it
/// removes that file; where the process is killed meanwhile, the next one to lock it does.
#[derive(Debug)]
struct StartLock {
    path: PathBuf,
    file: File,
}

impl StartLock {
    async fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = Self::try_take(&path)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                let path = path.display();
                let message = format!("another program has held the lock {path} for too long");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            sleep(LOCK_INTERVAL).await;
        }
    }

    /// The lock, or nothing where another holds it.
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let failed = |error: io::Error| match error.kind() {
            // The folder is what is not there, and the socket's own path says which.
            io::ErrorKind::NotFound => error,
            kind => io::Error::new(kind, format!("cannot lock {}: {error}", path.display())),
        };
        // Made or opened, never both in one call: that would follow a link and make a file where it
        // leads, and folders for sockets are often everybody's.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A link is not followed, and a FIFO that nobody reads does not make this wait.
                let opened = OpenOptions::new()
                    .write(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(path);
                match opened {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(_) if is_of_another_kind(path) => return Err(another_kind(path)),
                    opened => opened,
                }
            }
            made => made,
        }
        .map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(another_kind(path));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever held it before has removed the file: what was locked is nobody else's lock.
        if !is_file(path, meta.dev(), meta.ino()) {
            return Ok(None);
        }
        let path = path.to_owned();
        Ok(Some(Self { path, file }))
    }
}

impl Drop for StartLock {
    fn drop(&mut self) {
        // Removed while it is locked, so that it is nobody else's.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), "the lock file stays: {error}");
        }
        // Closing would do it, too, but not while a child process has the file open.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(path = %self.path.display(), "the lock stays: {error}");
        }
    }
}

/// Whether there is something other than a regular file.
fn is_of_another_kind(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file())
}

fn another_kind(path: &Path) -> io::Error {
    let path = path.display();
    let message = format!("{path} is needed as a lock and is not a regular file: remove it");
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

/// Whether `path` leads to the very file with this device and inode.
fn is_file(path: &Path, device: u64, inode: u64) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.dev() == device && meta.ino() == inode)
}
