//! Asking a server through its control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::SocketDirectory;
use super::protocol::{Answer, REPLY_BYTES_MAX, Verb, VolumeStatus, decode_reply, encode_request};

/// How long a server may take for each step. One that is stopped never answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status of the volume whose server has its local state in `directory`; nothing where there is
/// no server.
///
/// # Errors
/// One line, where there is a server and it does not answer.
pub(crate) fn status(directory: &Path) -> Result<Option<VolumeStatus>, String> {
    let Some(stream) = connect(directory).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    match ask(stream, Verb::Status)? {
        Answer::Status(status) => Ok(Some(*status)),
        Answer::Error(refusal) => Err(refusal.message),
    }
}

/// A connection, or nothing where nobody listens.
fn connect(directory: &Path) -> Result<Option<UnixStream>, Errno> {
    let try_connect = || {
        let directory = SocketDirectory::open(directory)?;
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // For the connection as well: a server that is stopped does not accept it.
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        rustix::net::connect(&socket, &directory.address()?)?;
        Ok(UnixStream::from(socket))
    };
    match try_connect() {
        Ok(stream) => Ok(Some(stream)),
        // No directory, no socket in it, or a dead server's.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn ask(mut stream: UnixStream, verb: Verb) -> Result<Answer, String> {
    let seconds = PATIENCE.as_secs();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("it does not answer within {seconds} s")
        }
        _ => error.to_string(),
    };
    stream
        .write_all(encode_request(verb).as_bytes())
        .map_err(failed)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REPLY_BYTES_MAX))
        .read_until(b'\n', &mut line)
        .map_err(failed)?;
    match line.pop() {
        Some(b'\n') => decode_reply(&line),
        _ => Err("its reply is cut short".to_owned()),
    }
}
