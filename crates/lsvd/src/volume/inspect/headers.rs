//! Reading the header of an object of any kind, and saying what is wrong with it.

use ::bytes::Bytes;

use crate::bytes::data_object::DataHeader;
use crate::bytes::object_header::{FIXED_HEADER_BYTES, ObjectError, ObjectHeader};
use crate::bytes::superblock::{SUPERBLOCK_BYTES_MAX, Superblock};
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ObjectStore, StoreErrorKind};
use crate::words::error::{Error, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};

/// First read of an object. Holds the header of a data object with 250 entries; a longer one costs
/// a second read.
const FIRST_READ_BYTES: u64 = 4096;

/// Reads headers from a store.
pub(super) struct Headers<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) runtime: &'a dyn Runtime,
}

/// What a look at an object showed.
pub(super) enum Seen {
    Header(Header),
    /// It does not check, for this reason.
    Damaged(String),
    /// It is not there, or not as long as it was listed.
    Gone,
}

/// What the header of any object says.
pub(super) struct Header {
    pub(super) volume: VolumeUuid,
    pub(super) wall_time_ns: u64,
    pub(super) persisted: Option<ObjectId>,
    pub(super) data_len: u64,
    pub(super) entry_count: u32,
}

impl Headers<'_> {
    /// The header of an object that is `len` bytes long.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read(&self, name: ObjectName, len: u64) -> Result<Seen> {
        if len < FIXED_HEADER_BYTES as u64 {
            return Ok(Seen::Damaged(format!("{len} bytes are no object")));
        }
        let Some(bytes) = self.part(name, len.min(FIRST_READ_BYTES)).await? else {
            return Ok(Seen::Gone);
        };
        let mut decoded = decode(&bytes, name, len);
        if let Err(ObjectError::Truncated { needed }) = decoded
            && needed as u64 <= len
        {
            let Some(bytes) = self.part(name, needed as u64).await? else {
                return Ok(Seen::Gone);
            };
            decoded = decode(&bytes, name, len);
        }
        Ok(decoded.map_or_else(|error| Seen::Damaged(error.to_string()), Seen::Header))
    }

    /// The header of a data object of unknown length.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn read_data(&self, name: ObjectName) -> Result<Seen> {
        let Some(fixed) = self.part(name, FIXED_HEADER_BYTES as u64).await? else {
            return Ok(Seen::Gone);
        };
        let needed = match DataHeader::len_of(&fixed) {
            Ok(needed) => needed as u64,
            Err(error) => return Ok(Seen::Damaged(error.to_string())),
        };
        let Some(bytes) = self.part(name, needed).await? else {
            return Ok(Seen::Gone);
        };
        let decoded = DataHeader::decode(&bytes).and_then(|header| {
            header.check_identity(header.volume, name)?;
            Ok(Header::of_data(&header))
        });
        Ok(decoded.map_or_else(|error| Seen::Damaged(error.to_string()), Seen::Header))
    }

    /// The first `len` bytes, or nothing where they are not there.
    async fn part(&self, name: ObjectName, len: u64) -> Result<Option<Bytes>> {
        let text = name.to_string();
        let request = self.store.get_range(&text, 0..len);
        match within(self.runtime, STORE_PATIENCE, self.store, request).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if matches!(
                    error.kind(),
                    StoreErrorKind::NotFound | StoreErrorKind::Truncated
                ) =>
            {
                Ok(None)
            }
            Err(error) => {
                let message = format!("cannot read the header of {name} in {}", self.store.url());
                Err(Error::new(error.kind().for_user(), message).because(error))
            }
        }
    }
}

impl Header {
    fn of_data(header: &DataHeader) -> Self {
        Self {
            volume: header.volume,
            wall_time_ns: header.wall_time_ns,
            persisted: header.persisted,
            data_len: header.data_len,
            entry_count: u32::try_from(header.entries.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Reads the header of object `name`, which is `len` bytes long, from its first bytes.
fn decode(bytes: &[u8], name: ObjectName, len: u64) -> Result<Header, ObjectError> {
    match name.kind {
        ObjectKind::Data => decode_data(bytes, name, len),
        ObjectKind::Checkpoint => decode_checkpoint(bytes, name, len),
        ObjectKind::Superblock => decode_superblock(bytes, name, len),
    }
}

fn decode_data(bytes: &[u8], name: ObjectName, len: u64) -> Result<Header, ObjectError> {
    let header = DataHeader::decode(bytes)?;
    header.check_identity(header.volume, name)?;
    let expected = header.layout()?.object_len();
    if expected != len {
        return Err(ObjectError::ObjectLength {
            expected,
            found: len,
        });
    }
    Ok(Header::of_data(&header))
}

fn decode_checkpoint(bytes: &[u8], name: ObjectName, len: u64) -> Result<Header, ObjectError> {
    let header_len = ObjectHeader::claimed_lengths(bytes)?.header_len;
    if u64::from(header_len) > len {
        return Err(ObjectError::ObjectLength {
            expected: u64::from(header_len),
            found: len,
        });
    }
    let (header, _) = ObjectHeader::decode(bytes, header_len as usize, name.kind)?;
    if header.name != name {
        return Err(ObjectError::Identity {
            volume: header.volume,
            name: header.name,
        });
    }
    Ok(Header {
        volume: header.volume,
        wall_time_ns: header.wall_time_ns,
        persisted: header.persisted,
        data_len: header.data_len,
        entry_count: header.entry_count,
    })
}

fn decode_superblock(bytes: &[u8], name: ObjectName, len: u64) -> Result<Header, ObjectError> {
    if len > SUPERBLOCK_BYTES_MAX as u64 {
        return Err(ObjectError::Length);
    }
    if (bytes.len() as u64) < len {
        let needed = usize::try_from(len).map_err(|_| ObjectError::Length)?;
        return Err(ObjectError::Truncated { needed });
    }
    let superblock = Superblock::decode(bytes, name.id.as_u64())?;
    Ok(Header {
        volume: superblock.volume,
        wall_time_ns: superblock.wall_time_ns,
        persisted: superblock.persisted,
        data_len: 0,
        entry_count: 0,
    })
}
