//! Options of the handshake and their replies.

use super::constants::{MAGIC_OPTION, MAGIC_OPTION_REPLY, STRING_LEN_MAX};
use super::{WireError, take_u16, take_u32, take_u64};

/// The header of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// The option's number, known or not.
    pub option: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

impl OptionHeader {
    /// Bytes of the header.
    pub const LEN: usize = 16;

    /// Decodes a header.
    ///
    /// # Errors
    /// The magic is wrong.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, WireError> {
        let mut bytes = bytes.as_slice();
        let mut fields = || {
            Some((
                take_u64(&mut bytes)?,
                take_u32(&mut bytes)?,
                take_u32(&mut bytes)?,
            ))
        };
        let (magic, option, length) = fields().ok_or(WireError::BadLength)?;
        if magic != MAGIC_OPTION {
            return Err(WireError::BadMagic(magic));
        }
        Ok(Self { option, length })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC_OPTION.to_be_bytes());
        out.extend_from_slice(&self.option.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }
}

/// The header of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option that is answered.
    pub option: u32,
    /// The kind of reply.
    pub kind: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

impl OptionReplyHeader {
    /// Bytes of the header.
    pub const LEN: usize = 20;

    /// Decodes a header.
    ///
    /// # Errors
    /// The magic is wrong.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, WireError> {
        let mut bytes = bytes.as_slice();
        let magic = take_u64(&mut bytes).ok_or(WireError::BadLength)?;
        if magic != MAGIC_OPTION_REPLY {
            return Err(WireError::BadMagic(magic));
        }
        let mut fields = || {
            Some(Self {
                option: take_u32(&mut bytes)?,
                kind: take_u32(&mut bytes)?,
                length: take_u32(&mut bytes)?,
            })
        };
        fields().ok_or(WireError::BadLength)
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC_OPTION_REPLY.to_be_bytes());
        out.extend_from_slice(&self.option.to_be_bytes());
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }
}

/// The data of INFO and GO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest {
    /// The export's name.
    pub name: String,
    /// The kinds of information asked for.
    pub infos: Vec<u16>,
}

impl InfoRequest {
    /// Decodes the data of the option, all of it.
    ///
    /// # Errors
    /// Its lengths do not fit, or the name is not a string of the protocol.
    pub fn decode(mut data: &[u8]) -> Result<Self, WireError> {
        let name = take_string(&mut data)?;
        let count = take_u16(&mut data).ok_or(WireError::BadLength)?;
        if data.len() != usize::from(count) * 2 {
            return Err(WireError::BadLength);
        }
        let mut infos = Vec::with_capacity(count.into());
        while let Some(info) = take_u16(&mut data) {
            infos.push(info);
        }
        Ok(Self { name, infos })
    }

    /// Appends the data of the option.
    ///
    /// # Errors
    /// The name or the list is longer than its length field can say.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        put_string(out, &self.name)?;
        let count = u16::try_from(self.infos.len()).map_err(|_| WireError::BadLength)?;
        out.extend_from_slice(&count.to_be_bytes());
        for info in &self.infos {
            out.extend_from_slice(&info.to_be_bytes());
        }
        Ok(())
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest {
    /// The export's name.
    pub name: String,
    /// The contexts asked for, or patterns of them.
    pub queries: Vec<String>,
}

impl MetaRequest {
    /// Decodes the data of the option, all of it.
    ///
    /// # Errors
    /// Its lengths do not fit, or it holds what is not a string of the protocol.
    pub fn decode(mut data: &[u8]) -> Result<Self, WireError> {
        let name = take_string(&mut data)?;
        let count = take_u32(&mut data).ok_or(WireError::BadLength)?;
        // Not reserved from the count: each query must have arrived before it takes memory.
        let mut queries = Vec::new();
        for _ in 0..count {
            queries.push(take_string(&mut data)?);
        }
        if !data.is_empty() {
            return Err(WireError::BadLength);
        }
        Ok(Self { name, queries })
    }

    /// Appends the data of the option.
    ///
    /// # Errors
    /// A string or the list is longer than its length field can say.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        put_string(out, &self.name)?;
        let count = u32::try_from(self.queries.len()).map_err(|_| WireError::BadLength)?;
        out.extend_from_slice(&count.to_be_bytes());
        for query in &self.queries {
            put_string(out, query)?;
        }
        Ok(())
    }
}

fn put_string(out: &mut Vec<u8>, string: &str) -> Result<(), WireError> {
    if string.len() > STRING_LEN_MAX {
        return Err(WireError::BadString);
    }
    let len = u32::try_from(string.len()).map_err(|_| WireError::BadString)?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(string.as_bytes());
    Ok(())
}

fn take_string(data: &mut &[u8]) -> Result<String, WireError> {
    let len = take_u32(data).ok_or(WireError::BadLength)?;
    let len = usize::try_from(len).map_err(|_| WireError::BadLength)?;
    let (string, rest) = data.split_at_checked(len).ok_or(WireError::BadLength)?;
    *data = rest;
    string_of(string)
}

/// The string that these bytes are, by the protocol's rules.
pub(crate) fn string_of(bytes: &[u8]) -> Result<String, WireError> {
    if bytes.len() > STRING_LEN_MAX {
        return Err(WireError::BadString);
    }
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| WireError::BadString)
}
