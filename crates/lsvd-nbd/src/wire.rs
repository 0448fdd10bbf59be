//! The bytes of the protocol: constants, and types that are encoded and decoded, without I/O.
//!
//! All numbers are big-endian. A decoder takes what has arrived and answers with a value, with
//! "not yet whole", or with a [`WireError`]; it never panics and never allocates more than it
//! was given.

pub mod constants;
mod option;
mod reply;
mod request;

pub(crate) use option::string_of;
pub use option::{InfoRequest, MetaRequest, OptionHeader, OptionReplyHeader};
pub use reply::{ReplyHeader, ReplyMode, encode_error_payload};
pub use request::RequestHeader;

/// Bytes that do not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The magic number that opens a message is wrong: the stream is out of step.
    #[error("wrong magic {0:#x}: not this protocol, or the stream is out of step")]
    BadMagic(u64),
    /// A length field contradicts the message that holds it.
    #[error("a length field contradicts the length of its message")]
    BadLength,
    /// A string is longer than the protocol allows, or not UTF-8.
    #[error("a string is longer than 4096 bytes or not UTF-8")]
    BadString,
}

/// Takes `N` bytes off the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

/// Takes a big-endian `u16` off the front.
pub(crate) fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes).map(u16::from_be_bytes)
}

/// Takes a big-endian `u32` off the front.
pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_be_bytes)
}

/// Takes a big-endian `u64` off the front.
pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
