//! The header of a request, in its short and its extended form.

use super::constants::{CMD_FLAG_PAYLOAD_LEN, CMD_WRITE, MAGIC_EXTENDED_REQUEST, MAGIC_REQUEST};
use super::{ReplyMode, WireError, take_u16, take_u32, take_u64};

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Command flags.
    pub flags: u16,
    /// The command's number, known or not.
    pub command: u16,
    /// The client's name for the request, returned in every reply to it.
    pub cookie: u64,
    /// First byte of the range.
    pub offset: u64,
    /// Length of the range, or of the payload.
    pub length: u64,
}

impl RequestHeader {
    /// Bytes of a header without extended headers.
    pub const SHORT_LEN: usize = 28;
    /// Bytes of a header with extended headers.
    pub const EXTENDED_LEN: usize = 32;

    /// Bytes of a header in this mode.
    #[must_use]
    pub const fn len(mode: ReplyMode) -> usize {
        match mode {
            ReplyMode::Extended => Self::EXTENDED_LEN,
            ReplyMode::Simple | ReplyMode::Structured => Self::SHORT_LEN,
        }
    }

    /// The header at the front of `bytes`; `None` until all of it has arrived.
    ///
    /// # Errors
    /// The magic is wrong, told as soon as it has arrived.
    pub fn decode(mode: ReplyMode, mut bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let bytes = &mut bytes;
        let whole = bytes.len() >= Self::len(mode);
        let Some(magic) = take_u32(bytes) else {
            return Ok(None);
        };
        let expected = match mode {
            ReplyMode::Extended => MAGIC_EXTENDED_REQUEST,
            ReplyMode::Simple | ReplyMode::Structured => MAGIC_REQUEST,
        };
        if magic != expected {
            return Err(WireError::BadMagic(magic.into()));
        }
        if !whole {
            return Ok(None);
        }
        let header = || {
            Some(Self {
                flags: take_u16(bytes)?,
                command: take_u16(bytes)?,
                cookie: take_u64(bytes)?,
                offset: take_u64(bytes)?,
                length: match mode {
                    ReplyMode::Extended => take_u64(bytes)?,
                    ReplyMode::Simple | ReplyMode::Structured => take_u32(bytes)?.into(),
                },
            })
        };
        Ok({ header }())
    }

    /// Appends the header.
    ///
    /// # Errors
    /// The length does not fit in a header of this mode.
    pub fn encode(&self, mode: ReplyMode, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (magic, short) = match mode {
            ReplyMode::Extended => (MAGIC_EXTENDED_REQUEST, None),
            ReplyMode::Simple | ReplyMode::Structured => {
                let length = u32::try_from(self.length).map_err(|_| WireError::BadLength)?;
                (MAGIC_REQUEST, Some(length))
            }
        };
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.command.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        match short {
            Some(length) => out.extend_from_slice(&length.to_be_bytes()),
            None => out.extend_from_slice(&self.length.to_be_bytes()),
        }
        Ok(())
    }

    /// Bytes of payload that follow the header.
    ///
    /// A write is always followed by its data, whether or not the client said so with
    /// `PAYLOAD_LEN`; with extended headers that flag announces a payload on any command.
    #[must_use]
    pub const fn payload_len(&self, mode: ReplyMode) -> u64 {
        let announced =
            matches!(mode, ReplyMode::Extended) && self.flags & CMD_FLAG_PAYLOAD_LEN != 0;
        if announced || self.command == CMD_WRITE {
            self.length
        } else {
            0
        }
    }
}
