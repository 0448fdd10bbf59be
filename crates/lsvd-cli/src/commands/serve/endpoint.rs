//! Where a server listens: chosen from the arguments, then bound.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lsvd_nbd::Listener;
use lsvd_store::StoreUrl;

use super::Arguments;
use crate::failure::Failure;
use crate::machine::absolute;
use crate::values::HostPort;

/// Bytes of a path that fit `sockaddr_un`, without the zero byte behind it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A place to listen.
#[derive(Debug)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    Tcp(HostPort),
}

impl Endpoint {
    /// What the arguments say; for a directory without a word, the socket beside it. Never in it:
    /// an ephemeral volume's directory holds objects and nothing else.
    pub(super) fn choose(arguments: &Arguments) -> Result<Self, Failure> {
        if let Some(address) = &arguments.listen {
            return Ok(Self::Tcp(address.clone()));
        }
        let path = match (&arguments.socket, &arguments.volume.url) {
            (Some(path), _) => path.clone(),
            (None, StoreUrl::LocalDirectory(directory)) => beside(directory)?,
            (None, url) => {
                return Err(Failure::usage(format!(
                    "{url} has no place for a socket: say where to listen with --socket PATH or \
                     --listen HOST:PORT"
                )));
            }
        };
        let path = absolute(&path)?;
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes, {} has {bytes}: \
                 give a shorter one with --socket",
                path.display()
            )));
        }
        Ok(Self::Unix(path))
    }

    /// Listens there.
    pub(super) async fn bind(&self) -> Result<Listener, Failure> {
        match self {
            Self::Unix(path) => Listener::unix(path).await.map_err(|error| {
                let path = path.display();
                Failure::failed(match error.kind() {
                    io::ErrorKind::AddrInUse => format!(
                        "the socket {path} is in use by another server: end that one, or give \
                         another path with --socket"
                    ),
                    _ => format!(
                        "cannot listen on the socket {path}: {error}; give another path with \
                         --socket"
                    ),
                })
            }),
            Self::Tcp(address) => {
                let bound = Listener::tcp((address.host.as_str(), address.port)).await;
                bound.map_err(|error| {
                    Failure::failed(match error.kind() {
                        io::ErrorKind::AddrInUse => format!(
                            "{address} is in use by another program: end that one, or give \
                             another --listen, where port 0 takes a free one"
                        ),
                        _ => format!("cannot listen on {address}: {error}; give another --listen"),
                    })
                })
            }
        }
    }
}

/// The path of the directory with `.sock` behind its name.
fn beside(directory: &Path) -> Result<PathBuf, Failure> {
    let mut path = absolute(directory)?;
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(format!(
            "{} has no name to put .sock behind: say where to listen with --socket",
            directory.display()
        )));
    };
    let mut name = name.to_owned();
    name.push(".sock");
    path.set_file_name(name);
    Ok(path)
}
