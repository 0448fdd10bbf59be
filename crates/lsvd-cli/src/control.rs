//! The control socket of a server: how other commands ask it what only it knows.
//!
//! It lies beside the server's local state, so whoever knows the volume finds it, and it is for the
//! server's user alone. One line of JSON is a request, one line the reply: [`protocol`] has the form.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

/// Name of the socket in the directory of the local state.
pub(crate) const SOCKET_NAME: &str = "control.sock";

/// The directory of a control socket, open. A socket's address has 108 bytes, and the path of a
/// directory may be longer; by way of its descriptor it is always short.
#[derive(Debug)]
struct SocketDirectory(OwnedFd);

impl SocketDirectory {
    fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// The address of the socket in it; good for as long as `self` is open.
    fn address(&self) -> Result<SocketAddrUnix, Errno> {
        let directory = self.0.as_raw_fd();
        SocketAddrUnix::new(format!("/proc/self/fd/{directory}/{SOCKET_NAME}"))
    }
}
