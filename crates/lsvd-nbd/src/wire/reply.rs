//! The headers of replies: simple, structured and extended.

use super::constants::{MAGIC_EXTENDED_REPLY, MAGIC_SIMPLE_REPLY, MAGIC_STRUCTURED_REPLY};
use super::{WireError, take_u16, take_u32, take_u64};

/// The form of requests and replies that a connection has negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplyMode {
    /// Simple replies only.
    #[default]
    Simple,
    /// Reads and block status have structured replies.
    Structured,
    /// Extended headers, for requests and for all replies.
    Extended,
}

/// The header of a reply or of a reply chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A whole reply; the data of a successful read follows.
    Simple {
        /// 0, or an error number.
        error: u32,
        /// The request's.
        cookie: u64,
    },
    /// A chunk of a structured or extended reply.
    Chunk {
        /// [`REPLY_FLAG_DONE`](super::constants::REPLY_FLAG_DONE) on the last chunk.
        flags: u16,
        /// The kind of chunk.
        kind: u16,
        /// The request's.
        cookie: u64,
        /// The request's offset; only extended headers carry it.
        offset: u64,
        /// Bytes of payload that follow.
        length: u64,
    },
}

impl ReplyHeader {
    /// Bytes of a simple reply.
    pub const SIMPLE_LEN: usize = 16;
    /// Bytes of a structured chunk's header.
    pub const STRUCTURED_LEN: usize = 20;
    /// Bytes of an extended chunk's header.
    pub const EXTENDED_LEN: usize = 32;

    /// The header at the front of `bytes` and its length; `None` until all of it has arrived.
    ///
    /// # Errors
    /// The magic is none that this mode allows.
    pub fn decode(mode: ReplyMode, mut bytes: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        let bytes = &mut bytes;
        let Some(magic) = take_u32(bytes) else {
            return Ok(None);
        };
        let known = match magic {
            MAGIC_SIMPLE_REPLY => mode != ReplyMode::Extended,
            MAGIC_STRUCTURED_REPLY => mode == ReplyMode::Structured,
            MAGIC_EXTENDED_REPLY => mode == ReplyMode::Extended,
            _ => false,
        };
        if !known {
            return Err(WireError::BadMagic(magic.into()));
        }
        Ok(Self::decode_fields(magic, bytes))
    }

    fn decode_fields(magic: u32, bytes: &mut &[u8]) -> Option<(Self, usize)> {
        if magic == MAGIC_SIMPLE_REPLY {
            let error = take_u32(bytes)?;
            let cookie = take_u64(bytes)?;
            return Some((Self::Simple { error, cookie }, Self::SIMPLE_LEN));
        }
        let flags = take_u16(bytes)?;
        let kind = take_u16(bytes)?;
        let cookie = take_u64(bytes)?;
        let (offset, length, len) = if magic == MAGIC_EXTENDED_REPLY {
            (take_u64(bytes)?, take_u64(bytes)?, Self::EXTENDED_LEN)
        } else {
            (0, take_u32(bytes)?.into(), Self::STRUCTURED_LEN)
        };
        let chunk = Self::Chunk {
            flags,
            kind,
            cookie,
            offset,
            length,
        };
        Some((chunk, len))
    }

    /// Bytes of this header in this mode.
    #[must_use]
    pub const fn len(&self, mode: ReplyMode) -> usize {
        match (self, mode) {
            (Self::Simple { .. }, _) => Self::SIMPLE_LEN,
            (Self::Chunk { .. }, ReplyMode::Extended) => Self::EXTENDED_LEN,
            (Self::Chunk { .. }, _) => Self::STRUCTURED_LEN,
        }
    }

    /// Writes the header to the front of `out` and returns its length.
    ///
    /// # Errors
    /// `out` is too short, or the payload's length does not fit in a structured chunk.
    pub fn encode(&self, mode: ReplyMode, out: &mut [u8]) -> Result<usize, WireError> {
        let len = self.len(mode);
        let out = out.get_mut(..len).ok_or(WireError::BadLength)?;
        match *self {
            Self::Simple { error, cookie } => {
                out[..4].copy_from_slice(&MAGIC_SIMPLE_REPLY.to_be_bytes());
                out[4..8].copy_from_slice(&error.to_be_bytes());
                out[8..16].copy_from_slice(&cookie.to_be_bytes());
            }
            Self::Chunk {
                flags,
                kind,
                cookie,
                offset,
                length,
            } => {
                out[4..6].copy_from_slice(&flags.to_be_bytes());
                out[6..8].copy_from_slice(&kind.to_be_bytes());
                out[8..16].copy_from_slice(&cookie.to_be_bytes());
                if mode == ReplyMode::Extended {
                    out[..4].copy_from_slice(&MAGIC_EXTENDED_REPLY.to_be_bytes());
                    out[16..24].copy_from_slice(&offset.to_be_bytes());
                    out[24..32].copy_from_slice(&length.to_be_bytes());
                } else {
                    let length = u32::try_from(length).map_err(|_| WireError::BadLength)?;
                    out[..4].copy_from_slice(&MAGIC_STRUCTURED_REPLY.to_be_bytes());
                    out[16..20].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
        Ok(len)
    }
}

/// Longest message that an error chunk of this server carries, in bytes.
pub(crate) const ERROR_MESSAGE_LEN_MAX: usize = 256;

/// The payload of an error chunk: the number and a message, cut to 256 bytes.
#[must_use]
pub fn encode_error_payload(code: u32, message: &str) -> Vec<u8> {
    let mut end = message.len().min(ERROR_MESSAGE_LEN_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let message = &message.as_bytes()[..end];
    let mut payload = Vec::with_capacity(6 + message.len());
    payload.extend_from_slice(&code.to_be_bytes());
    let len = u16::try_from(message.len()).unwrap_or(0);
    payload.extend_from_slice(&len.to_be_bytes());
    payload.extend_from_slice(message);
    payload
}
