//! The server under test: connections to it, what it can do, and what its disk shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lsvd_nbd::client::{Client, ClientError, ClientOptions, Uri};
use lsvd_nbd::wire::ReplyMode;
use lsvd_nbd::wire::constants::{
    FLAG_CAN_MULTI_CONN, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_FUA, FLAG_SEND_TRIM,
    FLAG_SEND_WRITE_ZEROES,
};

use super::stamp::{Content, SECTOR};
use super::workload::Abilities;
use crate::failure::Failure;

/// How often a server that does not answer is asked anew.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// How long one handshake is waited for, where there is time for another: what stands before a
/// machine that boots takes connections that nobody ever answers.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Reads in flight on each connection.
const READS_IN_FLIGHT: usize = 2;

/// Where the server is, and how it is talked to.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) uri: Uri,
    pub(super) connections: u16,
    /// How long it may take to answer anything.
    pub(super) timeout: Duration,
}

/// What the server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) size: u64,
    /// Requests are multiples of so many sectors.
    pub(super) grain: usize,
    pub(super) abilities: Abilities,
}

impl Server {
    /// Connects, as often as the run wants connections, as soon as the server answers.
    pub(super) async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut clients = Vec::with_capacity(self.connections.into());
        while clients.len() < self.connections.into() {
            let patience = self.timeout.min(HANDSHAKE_PATIENCE);
            let late = Instant::now() >= deadline;
            match tokio::time::timeout(patience, self.connect_one()).await {
                Ok(Ok(client)) => clients.push(client),
                Ok(Err(error)) if late => return Err(self.gone(&error)),
                Err(_) if late => return Err(self.silent("a handshake")),
                // A server that is about to die takes a connection and drops it: try all anew.
                Ok(Err(_)) | Err(_) => {
                    clients.clear();
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
        Ok(clients)
    }

    async fn connect_one(&self) -> Result<Client, ClientError> {
        let options = ClientOptions {
            mode: ReplyMode::Structured,
            block_status: false,
            ..ClientOptions::default()
        };
        self.uri.connect(&options).await
    }

    fn gone(&self, error: &ClientError) -> Failure {
        Failure::failed(format!(
            "no server answers at {} within {:?} ({}): start it, or correct --restart, or give a \
             longer --timeout",
            self.uri,
            self.timeout,
            chain(error)
        ))
    }

    fn silent(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "the server at {} did not answer {what} within {:?}: see what holds it up, or give a \
             longer --timeout",
            self.uri, self.timeout
        ))
    }

    /// What the server offers, if a run on so many connections can make use of it.
    pub(super) fn offer(&self, clients: &[Client]) -> Result<Offer, Failure> {
        let Some(info) = clients.first().map(Client::info) else {
            return Err(Failure::usage("at least one connection is needed"));
        };
        let has = |flag: u16| info.flags & flag != 0;
        let refused = |why: &str| Failure::failed(format!("the export at {} {why}", self.uri));
        if has(FLAG_READ_ONLY) {
            return Err(refused("is read-only: export it for writing"));
        }
        if self.connections > 1 && !has(FLAG_CAN_MULTI_CONN) {
            return Err(refused(
                "does not promise that a flush on one connection covers the others (multi-conn): \
                 give --connections 1",
            ));
        }
        let minimum = info.block_sizes.map_or(1, |sizes| sizes.minimum) as usize;
        Ok(Offer {
            size: info.size,
            grain: minimum.div_ceil(SECTOR).max(1),
            abilities: Abilities {
                flush: has(FLAG_SEND_FLUSH),
                fua: has(FLAG_SEND_FUA),
                trim: has(FLAG_SEND_TRIM),
                write_zeroes: has(FLAG_SEND_WRITE_ZEROES),
            },
        })
    }

    /// Flushes, which makes all that can be read now durable.
    pub(super) async fn flush(&self, clients: &[Client]) -> Result<(), Failure> {
        let Some(client) = clients.first() else {
            return Ok(());
        };
        match tokio::time::timeout(self.timeout, client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::failed(format!(
                "the server at {} cannot flush what it opened with: {}",
                self.uri,
                chain(&error)
            ))),
            Err(_) => Err(self.silent("a flush")),
        }
    }

    /// What the first `sectors` sectors of the disk show.
    pub(super) async fn read(
        &self,
        clients: &[Client],
        seed: u64,
        sectors: usize,
    ) -> Result<Vec<Content>, Failure> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut readers = tokio::task::JoinSet::new();
        for client in clients {
            for _ in 0..READS_IN_FLIGHT {
                let reader = Reader {
                    server: self.clone(),
                    client: client.clone(),
                    next: Arc::clone(&next),
                    sectors,
                    seed,
                };
                readers.spawn(reader.run());
            }
        }
        let mut contents = vec![Content::ZEROES; sectors];
        while let Some(outcome) = readers.join_next().await {
            let pieces = outcome
                .map_err(|error| Failure::failed(format!("a reader did not end: {error}")))??;
            for (first, piece) in pieces {
                contents[first..first + piece.len()].copy_from_slice(&piece);
            }
        }
        Ok(contents)
    }
}

/// Reads pieces until none is left.
struct Reader {
    server: Server,
    client: Client,
    /// The next piece that nobody reads yet.
    next: Arc<AtomicUsize>,
    sectors: usize,
    seed: u64,
}

impl Reader {
    async fn run(self) -> Result<Vec<(usize, Vec<Content>)>, Failure> {
        let piece = READ_BYTES / SECTOR;
        let mut pieces = Vec::new();
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed) * piece;
            if first >= self.sectors {
                return Ok(pieces);
            }
            let count = piece.min(self.sectors - first);
            let bytes = self.read(first, count).await?;
            let read = |(address, sector)| Content::read(sector, self.seed, address);
            let sectors = (first as u64..).zip(bytes.chunks(SECTOR));
            pieces.push((first, sectors.map(read).collect()));
        }
    }

    async fn read(&self, first: usize, count: usize) -> Result<Vec<u8>, Failure> {
        let offset = (first * SECTOR) as u64;
        let len = u32::try_from(count * SECTOR).unwrap_or(u32::MAX);
        let server = &self.server;
        match tokio::time::timeout(server.timeout, self.client.read(offset, len)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Failure::failed(format!(
                "the server at {} cannot read {len} bytes at {offset}: {}",
                server.uri,
                chain(&error)
            ))),
            Err(_) => Err(server.silent("a read")),
        }
    }
}

/// An error with its causes.
fn chain(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
