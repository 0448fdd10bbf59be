//! Receiving replies, putting their chunks together and handing them to who asked.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use super::{ClientError, ExportInfo, Reply, Waiting};
use crate::device::Extent;
use crate::wire::constants::{
    CMD_BLOCK_STATUS, CMD_READ, REPLY_BLOCK_STATUS, REPLY_BLOCK_STATUS_EXT, REPLY_ERROR_BIT,
    REPLY_FLAG_DONE, REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE, STATE_HOLE, STATE_ZERO,
};
use crate::wire::{ReplyHeader, ReplyMode, WireError, take_u16, take_u32, take_u64};

/// Longest payload of a chunk, in bytes: the longest read, and room for its offset.
const PAYLOAD_LEN_MAX: u64 = (32 << 20) + 64;

/// The receiving half of a connection.
pub(super) struct Replies<R> {
    reader: BufReader<R>,
    info: Arc<ExportInfo>,
    waiting: Arc<Waiting>,
    /// What has come of replies that are not done.
    partial: HashMap<u64, Partial>,
}

#[derive(Default)]
struct Partial {
    reply: Reply,
    /// Bytes of the read that chunks have brought.
    covered: u64,
    error: Option<(u32, String)>,
}

/// A chunk's fields without its cookie, which says whose it is.
struct Chunk {
    kind: u16,
    done: bool,
    payload: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Replies<R> {
    pub(super) fn new(reader: R, info: Arc<ExportInfo>, waiting: Arc<Waiting>) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            info,
            waiting,
            partial: HashMap::new(),
        }
    }

    /// Receives until the connection ends; who waits then is told.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.receive().await {
                tracing::debug!("receiving ended: {error}");
                self.waiting.close();
                return;
            }
        }
    }

    async fn receive(&mut self) -> Result<(), ClientError> {
        match self.header().await? {
            ReplyHeader::Simple { error, cookie } => self.simple(error, cookie).await,
            ReplyHeader::Chunk {
                flags,
                kind,
                cookie,
                length,
                ..
            } => {
                if length > PAYLOAD_LEN_MAX {
                    return Err(ClientError::Protocol(
                        "a chunk longer than the longest read",
                    ));
                }
                // Grows with what arrives, not with what was announced.
                let mut payload = Vec::new();
                (&mut self.reader)
                    .take(length)
                    .read_to_end(&mut payload)
                    .await?;
                if payload.len() as u64 != length {
                    return Err(ClientError::Closed);
                }
                let done = flags & REPLY_FLAG_DONE != 0;
                self.chunk(
                    cookie,
                    Chunk {
                        kind,
                        done,
                        payload,
                    },
                )
            }
        }
    }

    async fn header(&mut self) -> Result<ReplyHeader, ClientError> {
        let mut bytes = [0; ReplyHeader::EXTENDED_LEN];
        let mut have = 0;
        loop {
            if let Some((header, _)) = ReplyHeader::decode(self.info.mode, &bytes[..have])? {
                return Ok(header);
            }
            // Byte counts at which a header can be whole; the reads are from a buffer.
            let want = match have {
                0 => 4,
                4 => ReplyHeader::SIMPLE_LEN,
                ReplyHeader::SIMPLE_LEN => ReplyHeader::STRUCTURED_LEN,
                _ => ReplyHeader::EXTENDED_LEN,
            };
            self.reader.read_exact(&mut bytes[have..want]).await?;
            have = want;
        }
    }

    async fn simple(&mut self, error: u32, cookie: u64) -> Result<(), ClientError> {
        let asked = self.waiting.peek(cookie);
        let (command, _, length) = asked.ok_or(ClientError::Protocol("an unknown cookie"))?;
        let mut partial = Partial::default();
        if error != 0 {
            partial.error = Some((error, String::new()));
        } else if command == CMD_READ {
            if self.info.mode != ReplyMode::Simple {
                return Err(ClientError::Protocol("a simple reply to a read"));
            }
            (&mut self.reader)
                .take(length)
                .read_to_end(&mut partial.reply.data)
                .await?;
            partial.covered = partial.reply.data.len() as u64;
        }
        self.finish(cookie, partial)
    }

    fn chunk(&mut self, cookie: u64, chunk: Chunk) -> Result<(), ClientError> {
        let asked = self.waiting.peek(cookie);
        let (command, offset, length) = asked.ok_or(ClientError::Protocol("an unknown cookie"))?;
        let mut partial = self.partial.remove(&cookie).unwrap_or_default();
        let mut payload = chunk.payload.as_slice();
        match (command, chunk.kind) {
            (_, REPLY_NONE) if payload.is_empty() => {}
            (CMD_READ, REPLY_OFFSET_DATA) => {
                let at = take_u64(&mut payload).ok_or(WireError::BadLength)?;
                partial
                    .place(at, payload.len() as u64, (offset, length))?
                    .copy_from_slice(payload);
            }
            (CMD_READ, REPLY_OFFSET_HOLE) => {
                let at = take_u64(&mut payload).ok_or(WireError::BadLength)?;
                let len = take_u32(&mut payload).ok_or(WireError::BadLength)?;
                partial.place(at, len.into(), (offset, length))?.fill(0);
            }
            (CMD_BLOCK_STATUS, REPLY_BLOCK_STATUS | REPLY_BLOCK_STATUS_EXT) => {
                partial.reply.extents = extents(chunk.kind, payload, self.info.context)?;
            }
            (_, kind) if kind & REPLY_ERROR_BIT != 0 => {
                let code = take_u32(&mut payload).ok_or(WireError::BadLength)?;
                let len = take_u16(&mut payload).ok_or(WireError::BadLength)?;
                let message = payload.get(..len.into()).ok_or(WireError::BadLength)?;
                let message = String::from_utf8_lossy(message).into_owned();
                partial.error.get_or_insert((code, message));
            }
            _ => {
                return Err(ClientError::Protocol(
                    "a chunk that the request does not have",
                ));
            }
        }
        if chunk.done {
            self.finish(cookie, partial)
        } else {
            self.partial.insert(cookie, partial);
            Ok(())
        }
    }

    fn finish(&mut self, cookie: u64, partial: Partial) -> Result<(), ClientError> {
        let asked = self.waiting.remove(cookie);
        let asked = asked.ok_or(ClientError::Protocol("an unknown cookie"))?;
        let result = match partial.error {
            Some((code, message)) => Err(ClientError::Server { code, message }),
            None if asked.command == CMD_READ && partial.covered != asked.length => {
                return Err(ClientError::Protocol("a read that brought too little"));
            }
            None => Ok(partial.reply),
        };
        // Who asked may have given up.
        let _ = asked.answer.send(result);
        Ok(())
    }
}

impl Partial {
    /// The place of a chunk in the data of the read.
    fn place(
        &mut self,
        at: u64,
        len: u64,
        (offset, length): (u64, u64),
    ) -> Result<&mut [u8], ClientError> {
        let outside = ClientError::Protocol("a chunk outside of its read");
        if length > PAYLOAD_LEN_MAX {
            return Err(outside);
        }
        let start = at.checked_sub(offset).filter(|start| *start <= length);
        let Some(start) = start.filter(|start| len <= length - start) else {
            return Err(outside);
        };
        let whole = usize::try_from(length).map_err(|_| WireError::BadLength)?;
        self.reply.data.resize(whole, 0);
        self.covered += len;
        let start = usize::try_from(start).map_err(|_| WireError::BadLength)?;
        let len = usize::try_from(len).map_err(|_| WireError::BadLength)?;
        Ok(&mut self.reply.data[start..start + len])
    }
}

fn extents(kind: u16, payload: &[u8], context: Option<u32>) -> Result<Vec<Extent>, ClientError> {
    let mut payload = payload;
    if take_u32(&mut payload) != context || context.is_none() {
        return Err(ClientError::Protocol("a context that was not chosen"));
    }
    let wide = kind == REPLY_BLOCK_STATUS_EXT;
    let size = if wide { 16 } else { 8 };
    if wide {
        let count = take_u32(&mut payload).ok_or(WireError::BadLength)?;
        if payload.len() as u64 != u64::from(count) * size {
            return Err(WireError::BadLength.into());
        }
    }
    if payload.is_empty() || !(payload.len() as u64).is_multiple_of(size) {
        return Err(WireError::BadLength.into());
    }
    let mut extents = Vec::new();
    while !payload.is_empty() {
        let (len, state) = if wide {
            (take_u64(&mut payload), take_u64(&mut payload))
        } else {
            (
                take_u32(&mut payload).map(u64::from),
                take_u32(&mut payload).map(u64::from),
            )
        };
        let state = state.ok_or(WireError::BadLength)?;
        extents.push(Extent {
            len: len.ok_or(WireError::BadLength)?,
            hole: state & u64::from(STATE_HOLE) != 0,
            zero: state & u64::from(STATE_ZERO) != 0,
        });
    }
    Ok(extents)
}
