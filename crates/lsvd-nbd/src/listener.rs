//! Where connections come from: unix sockets and TCP.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::socket_file::{self, SocketFile};

/// How long a TCP connection is silent before its other end is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unix {
        // Dropped in this order: the file goes while the socket still listens.
        file: SocketFile,
        listener: UnixListener,
    },
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
}

/// An accepted connection.
pub(crate) enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    /// Binds a unix socket. A socket file that nobody listens on any more is replaced; one that
    /// is in use, or a file of another kind, is an error. Of any number of servers that try at
    /// once, one gets it. They take turns by locking the file `PATH.lock`, which is removed before
    /// this returns; one that a killed process left there does no harm.
    ///
    /// # Errors
    /// The socket cannot be bound. Has to be called within a Tokio runtime.
    pub async fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let (listener, file) = socket_file::bind(&path).await?;
        Ok(Self {
            kind: Kind::Unix { file, listener },
        })
    }

    /// Binds a TCP socket: `HOST:PORT`, port 0 for a free one.
    ///
    /// # Errors
    /// The socket cannot be bound. Has to be called within a Tokio runtime.
    pub async fn tcp(address: impl tokio::net::ToSocketAddrs) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            kind: Kind::Tcp { listener, address },
        })
    }

    /// The bound address, if it is TCP.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Unix { .. } => None,
            Kind::Tcp { address, .. } => Some(*address),
        }
    }

    /// The NBD URI of an export behind this socket.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        match &self.kind {
            Kind::Unix { file, .. } => {
                let path = escape(file.path().as_os_str().as_bytes());
                format!("nbd+unix:///{}?socket={path}", escape(export.as_bytes()))
            }
            Kind::Tcp { address, .. } if export.is_empty() => format!("nbd://{address}"),
            Kind::Tcp { address, .. } => format!("nbd://{address}/{}", escape(export.as_bytes())),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.kind {
            Kind::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
            Kind::Tcp { listener, .. } => {
                let stream = listener.accept().await?.0;
                // Replies are gathered before they are sent: nothing is won by waiting for more.
                stream.set_nodelay(true)?;
                // A client whose host vanished must not keep its place for ever.
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Accepted::Tcp(stream))
            }
        }
    }
}

/// Percent-encodes what has a meaning of its own in a URI.
fn escape(text: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"/-._~:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
