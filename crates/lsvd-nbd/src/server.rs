//! The server: exports, listeners, and the bounds that all connections share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use crate::export::Export;
use crate::handshake::Handshake;
use crate::limits::Limits;
use crate::listener::{Accepted, Listener};
use crate::pool::Pool;
use crate::session::{Session, SessionError};
use crate::shutdown::Shutdown;

/// Least shared memory: two of the longest reads.
const MEMORY_MIN: usize = 64 << 20;

/// Most connections that can be configured.
const CONNECTIONS_MAX: usize = 1 << 20;

/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest part of a shutdown's grace that is kept for connections that are cut.
const CUT_TIME: Duration = Duration::from_millis(100);

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is nothing to serve.
    #[error("a server needs at least one export")]
    NoExport,
    /// Two exports have the same name.
    #[error("two exports are named {0:?}")]
    DuplicateName(String),
    /// An export breaks a rule of the protocol.
    #[error("export {name:?}: {fault}")]
    Export {
        /// The export's name.
        name: String,
        /// The rule.
        fault: &'static str,
    },
    /// A limit leaves no room to work.
    #[error("limits: {0}")]
    Limits(&'static str),
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All requests in work were finished and answered.
    All,
    /// Time ran out; so many connections were cut.
    Cut(usize),
}

/// An NBD server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("exports", &self.shared.exports)
            .finish_non_exhaustive()
    }
}

struct Shared {
    exports: Vec<Arc<Export>>,
    limits: Limits,
    pool: Arc<Pool>,
    slots: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Server {
    /// A server of these exports; the one named `""` is what clients get that name none.
    ///
    /// # Errors
    /// An export or a limit breaks a rule.
    pub fn new(
        exports: impl IntoIterator<Item = Export>,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let exports: Vec<_> = exports.into_iter().map(Arc::new).collect();
        if exports.is_empty() {
            return Err(ConfigError::NoExport);
        }
        for (at, export) in exports.iter().enumerate() {
            let name = export.name.clone();
            if let Some(fault) = export.fault() {
                return Err(ConfigError::Export { name, fault });
            }
            if exports[..at].iter().any(|other| other.name == name) {
                return Err(ConfigError::DuplicateName(name));
            }
        }
        if limits.memory < MEMORY_MIN {
            return Err(ConfigError::Limits("memory must be at least 64 MiB"));
        }
        if !(1..=CONNECTIONS_MAX).contains(&limits.connections) {
            return Err(ConfigError::Limits("connections must be from 1 to 1048576"));
        }
        if limits.requests_in_flight == 0 {
            return Err(ConfigError::Limits("requests_in_flight must be at least 1"));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                exports,
                pool: Pool::new(limits.memory),
                slots: Arc::new(Semaphore::new(limits.connections)),
                limits,
                shutdown: Shutdown::new(),
            }),
        })
    }

    /// Accepts connections and serves each in a task of its own, until [`shutdown`] is called.
    /// A server may have several listeners.
    ///
    /// [`shutdown`]: Server::shutdown
    pub async fn serve(&self, listener: Listener) {
        let (mut refusing, mut failing) = (false, false);
        loop {
            let accepted = tokio::select! {
                () = self.shared.shutdown.requested() => return,
                accepted = listener.accept() => accepted,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Tried again ten times a second, and said once until it works again.
                    if !failing {
                        tracing::warn!("cannot accept connections: {error}");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failing = false;
            let Ok(slot) = Arc::clone(&self.shared.slots).try_acquire_owned() else {
                // Said once for each time that it happens, not for each connection.
                if !refusing {
                    tracing::warn!("all connections are taken: further ones are closed");
                }
                refusing = true;
                continue;
            };
            refusing = false;
            match accepted {
                Accepted::Unix(stream) => self.spawn(stream, slot),
                Accepted::Tcp(stream) => self.spawn(stream, slot),
            }
        }
    }

    fn spawn<S>(&self, stream: S, slot: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.clone();
        let span = tracing::debug_span!("nbd");
        let task = async move {
            match server.run(stream).await {
                Ok(()) => tracing::debug!("the connection ended"),
                Err(error) => tracing::info!("the connection ended: {}", chain(&error)),
            }
            drop(slot);
        };
        drop(tokio::spawn(task.instrument(span)));
    }

    /// Serves one connection on a stream that came from elsewhere, to its end.
    ///
    /// # Errors
    /// The connection ended out of order.
    pub async fn serve_stream<S>(&self, stream: S) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let slot = Arc::clone(&self.shared.slots).try_acquire_owned();
        let _slot = slot.map_err(|_| SessionError::TooManyConnections)?;
        self.run(stream).await
    }

    async fn run<S>(&self, stream: S) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        tokio::select! {
            () = self.shared.shutdown.is_cut() => Err(SessionError::Cut),
            result = self.converse(stream) => result,
        }
    }

    async fn converse<S>(&self, mut stream: S) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let shared = &*self.shared;
        let handshake = Handshake::new(&mut stream, &shared.exports).run();
        let agreed = tokio::select! {
            () = shared.shutdown.requested() => return Ok(()),
            agreed = timeout(shared.limits.handshake_timeout, handshake) => agreed,
        };
        let Some(agreed) = agreed.map_err(|_| SessionError::HandshakeTimeout)?? else {
            return Ok(());
        };
        tracing::debug!(export = agreed.export.name, mode = ?agreed.mode, "a client is there");
        let limits = shared.limits.clone();
        Session::new(stream, agreed, limits, Arc::clone(&shared.pool))
            .run(&shared.shutdown)
            .await
    }

    /// Ends the server: accepts nothing more, answers further requests with `ESHUTDOWN`, waits
    /// for those in work, and closes all connections. All of that takes up to `grace`. A client
    /// that takes none of its replies for a second, and has nothing in work, is not waited for.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        self.shared.shutdown.request();
        let all = u32::try_from(self.shared.limits.connections).unwrap_or(u32::MAX);
        // Connections that are cut end at their next poll, which is within the grace, too.
        let ending = (grace / 10).min(CUT_TIME);
        let drained = timeout(grace - ending, self.shared.slots.acquire_many(all)).await;
        if drained.is_ok() {
            return Drained::All;
        }
        let open = self.shared.limits.connections - self.shared.slots.available_permits();
        self.shared.shutdown.cut();
        // Only so that most are gone when this returns; those that are not were counted as cut.
        let _ = timeout(ending, self.shared.slots.acquire_many(all)).await;
        Drained::Cut(open)
    }

    /// How many clients are connected now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.limits.connections - self.shared.slots.available_permits()
    }
}

/// An error and its causes in one line.
fn chain(error: &SessionError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// Whether an error of accepting is that one connection's, which is gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}
