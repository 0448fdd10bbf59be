//! A small NBD client: one connection, any number of requests in flight.
//!
//! It sends what it is told to, also what a server must refuse: that makes it fit for testing
//! servers. It does not reconnect.

mod handshake;
mod replies;
mod uri;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::device::{BlockSizes, Extent};
use crate::errno::Errno;
use crate::wire::constants::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE,
    CMD_FLAG_PAYLOAD_LEN, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
};
use crate::wire::{ReplyMode, RequestHeader, WireError};
use replies::Replies;
pub use uri::{Uri, UriError};

/// Requests that may wait for the socket before a sender has to wait itself.
const SEND_QUEUE: usize = 64;

/// Why the client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection broke or could not be made.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server sent what is not the protocol.
    #[error("the server does not keep to the protocol")]
    Wire(#[from] WireError),
    /// The server sent what does not fit the request or the handshake.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// The server refused an option of the handshake.
    #[error("the server refused option {option} with {kind:#x}: {message}")]
    Refused {
        /// The option.
        option: u32,
        /// The kind of error reply.
        kind: u32,
        /// What the server says about it.
        message: String,
    },
    /// The server answered a request with an error.
    #[error("the server answered {} ({message})", name_of(*code))]
    Server {
        /// The error number.
        code: u32,
        /// What the server says about it; empty in simple replies.
        message: String,
    },
    /// The connection had ended before the answer came.
    #[error("the connection has ended")]
    Closed,
}

impl ClientError {
    /// The number of the server's answer, if this is one that the protocol names.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Server { code, .. } => Errno::from_code(*code),
            _ => None,
        }
    }
}

fn name_of(code: u32) -> String {
    Errno::from_code(code).map_or_else(|| format!("error {code}"), |errno| errno.name().to_owned())
}

/// What to ask for in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The export's name.
    pub export: String,
    /// The best mode to ask for; a server that refuses it gets asked for the next best.
    pub mode: ReplyMode,
    /// Whether to ask for `base:allocation`; needs structured replies.
    pub block_status: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            export: String::new(),
            mode: ReplyMode::Extended,
            block_status: true,
        }
    }
}

/// What the server said in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Size in bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Block sizes, if the server named them.
    pub block_sizes: Option<BlockSizes>,
    /// The mode that was agreed on.
    pub mode: ReplyMode,
    /// The id of `base:allocation`, if it was agreed on.
    pub context: Option<u32>,
    /// The description, if the server has one.
    pub description: Option<String>,
}

/// What a reply brought, for requests that bring something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The data of a read.
    pub data: Vec<u8>,
    /// The extents of a block status.
    pub extents: Vec<Extent>,
}

/// A connection to an NBD server. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    info: Arc<ExportInfo>,
    requests: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    cookies: Arc<AtomicU64>,
}

/// The requests that have no answer yet.
#[derive(Debug, Default)]
struct Waiting {
    by_cookie: Mutex<Option<HashMap<u64, Asked>>>,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct Asked {
    command: u16,
    offset: u64,
    length: u64,
    answer: oneshot::Sender<Result<Reply, ClientError>>,
}

impl Waiting {
    /// `false` when the connection has ended and no answer will come.
    fn insert(&self, cookie: u64, asked: Asked) -> bool {
        let mut waiting = self
            .by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) => {
                waiting.insert(cookie, asked);
                true
            }
            None => false,
        }
    }

    fn remove(&self, cookie: u64) -> Option<Asked> {
        let mut waiting = self
            .by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.remove(&cookie)
    }

    /// Looks at a request without removing it.
    fn peek(&self, cookie: u64) -> Option<(u16, u64, u64)> {
        let waiting = self
            .by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let asked = waiting.as_ref()?.get(&cookie)?;
        Some((asked.command, asked.offset, asked.length))
    }

    /// Drops all that wait, which tells them, and lets no more wait.
    fn close(&self) {
        let mut waiting = self
            .by_cookie
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *waiting = None;
    }
}

impl Client {
    /// Connects to a unix socket.
    ///
    /// # Errors
    /// The connection or its handshake fails.
    pub async fn unix(
        path: impl AsRef<Path>,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        Self::connect(UnixStream::connect(path).await?, options).await
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// The connection or its handshake fails.
    pub async fn tcp(
        address: impl ToSocketAddrs,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::connect(stream, options).await
    }

    /// Shakes hands on a stream and starts the two tasks that send and receive.
    ///
    /// # Errors
    /// The handshake fails.
    pub async fn connect<S>(mut stream: S, options: &ClientOptions) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let info = Arc::new(handshake::go(&mut stream, options).await?);
        let (reader, writer) = tokio::io::split(stream);
        let waiting = Arc::new(Waiting {
            by_cookie: Mutex::new(Some(HashMap::new())),
        });
        let (requests, queue) = mpsc::channel(SEND_QUEUE);
        drop(tokio::spawn(send(writer, queue)));
        let replies = Replies::new(reader, Arc::clone(&info), Arc::clone(&waiting));
        drop(tokio::spawn(replies.run()));
        Ok(Self {
            info,
            requests,
            waiting,
            cookies: Arc::new(AtomicU64::new(1)),
        })
    }

    /// What the server said in the handshake.
    #[must_use]
    pub fn info(&self) -> &ExportInfo {
        &self.info
    }

    /// Sends any request and returns its answer. The cookie is chosen here.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn request(
        &self,
        command: u16,
        flags: u16,
        (offset, length): (u64, u64),
        payload: &[u8],
    ) -> Result<Reply, ClientError> {
        let cookie = self.cookies.fetch_add(1, Ordering::Relaxed);
        let mut message = Vec::with_capacity(RequestHeader::EXTENDED_LEN + payload.len());
        RequestHeader {
            flags,
            command,
            cookie,
            offset,
            length,
        }
        .encode(self.info.mode, &mut message)?;
        message.extend_from_slice(payload);
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            command,
            offset,
            length,
            answer,
        };
        if !self.waiting.insert(cookie, asked) {
            return Err(ClientError::Closed);
        }
        if self.requests.send(message).await.is_err() {
            self.waiting.remove(cookie);
            return Err(ClientError::Closed);
        }
        answered.await.map_err(|_| ClientError::Closed)?
    }

    /// Reads.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, ClientError> {
        let reply = self.request(CMD_READ, 0, (offset, len.into()), &[]).await?;
        Ok(reply.data)
    }

    /// Writes.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn write(&self, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.write_with(0, offset, data).await
    }

    /// Writes with FUA: when it returns, this write is durable.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn write_fua(&self, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.write_with(CMD_FLAG_FUA, offset, data).await
    }

    async fn write_with(&self, flags: u16, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let payload_len = match self.info.mode {
            ReplyMode::Extended => CMD_FLAG_PAYLOAD_LEN,
            ReplyMode::Simple | ReplyMode::Structured => 0,
        };
        let range = (offset, data.len() as u64);
        self.request(CMD_WRITE, flags | payload_len, range, data)
            .await?;
        Ok(())
    }

    /// Flushes: when it returns, all that was answered before it was sent is durable.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.request(CMD_FLUSH, 0, (0, 0), &[]).await?;
        Ok(())
    }

    /// Trims.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn trim(&self, offset: u64, len: u64) -> Result<(), ClientError> {
        self.request(CMD_TRIM, 0, (offset, len), &[]).await?;
        Ok(())
    }

    /// Trims with FUA: when it returns, the trim is durable.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn trim_fua(&self, offset: u64, len: u64) -> Result<(), ClientError> {
        self.request(CMD_TRIM, CMD_FLAG_FUA, (offset, len), &[])
            .await?;
        Ok(())
    }

    /// Zeroes.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        zeroing: crate::Zeroing,
    ) -> Result<(), ClientError> {
        self.write_zeroes_with(0, (offset, len), zeroing).await
    }

    /// Zeroes with FUA: when it returns, the zeroes are durable.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn write_zeroes_fua(
        &self,
        offset: u64,
        len: u64,
        zeroing: crate::Zeroing,
    ) -> Result<(), ClientError> {
        self.write_zeroes_with(CMD_FLAG_FUA, (offset, len), zeroing)
            .await
    }

    async fn write_zeroes_with(
        &self,
        flags: u16,
        range: (u64, u64),
        zeroing: crate::Zeroing,
    ) -> Result<(), ClientError> {
        let no_hole = if zeroing.no_hole { CMD_FLAG_NO_HOLE } else { 0 };
        let fast = if zeroing.fast { CMD_FLAG_FAST_ZERO } else { 0 };
        self.request(CMD_WRITE_ZEROES, flags | no_hole | fast, range, &[])
            .await?;
        Ok(())
    }

    /// Says that the range will be read soon.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn cache(&self, offset: u64, len: u64) -> Result<(), ClientError> {
        self.request(CMD_CACHE, 0, (offset, len), &[]).await?;
        Ok(())
    }

    /// The states of the bytes from `offset` on; they may end before the range does.
    ///
    /// # Errors
    /// The server answers with an error, or the connection ends.
    pub async fn block_status(&self, offset: u64, len: u64) -> Result<Vec<Extent>, ClientError> {
        let reply = self
            .request(CMD_BLOCK_STATUS, 0, (offset, len), &[])
            .await?;
        Ok(reply.extents)
    }

    /// Says goodbye; the server finishes what is in work and hangs up. Requests in flight get
    /// their answers.
    ///
    /// # Errors
    /// The connection had ended before.
    pub async fn disconnect(&self) -> Result<(), ClientError> {
        let mut message = Vec::with_capacity(RequestHeader::EXTENDED_LEN);
        RequestHeader {
            flags: 0,
            command: CMD_DISC,
            cookie: 0,
            offset: 0,
            length: 0,
        }
        .encode(self.info.mode, &mut message)?;
        let sent = self.requests.send(message).await;
        sent.map_err(|_| ClientError::Closed)
    }
}

/// Sends requests, many in one system call when they come fast. A task of its own: a caller
/// that gives up in the middle of its request must not leave half of it in the stream.
async fn send<W: AsyncWrite + Unpin>(writer: W, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    while let Some(mut message) = queue.recv().await {
        loop {
            if let Err(error) = writer.write_all(&message).await {
                tracing::debug!("cannot send: {error}");
                return;
            }
            match queue.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        if let Err(error) = writer.flush().await {
            tracing::debug!("cannot send: {error}");
            return;
        }
    }
    // All clients are gone. The stream's other half ends when the server hangs up.
    let _ = writer.shutdown().await;
}
