//! The data object: what a batch becomes in the store. `docs/format.md` has the byte table.
//!
//! A header with the entry list, and behind it the data area in blocks of 4 KiB, each followed by
//! its checksum, so that a ranged read gets both with one request.

use std::fmt;
use std::ops::Range;

use super::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES};
use super::entry::{ENTRY_BYTES, Entry, EntryKind};
use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};
use crate::words::units::{DataOffset, SECTOR_BYTES};

/// First bytes of every data object. The last two catch a transfer that rewrites line ends.
pub const MAGIC: [u8; 8] = *b"LSVDob\r\n";

/// Version of the format that this program writes, and the only one that it reads.
pub const VERSION: u16 = 1;

/// Bytes of the header before the entry list.
pub const FIXED_HEADER_BYTES: usize = 112;

/// Most entries of an object: as many as the largest data area has sectors.
pub const ENTRIES_MAX: usize = (OBJECT_BYTES_MAX / SECTOR_BYTES) as usize;

/// Stands for "none" where an object id is optional.
const NO_OBJECT: u64 = u64::MAX;

mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..8;
    pub(super) const VERSION: Range<usize> = 8..10;
    pub(super) const KIND: usize = 10;
    pub(super) const RESERVED_1: usize = 11;
    pub(super) const HEADER_LEN: Range<usize> = 12..16;
    pub(super) const VOLUME: Range<usize> = 16..32;
    pub(super) const ID: Range<usize> = 32..40;
    pub(super) const PREDECESSOR: Range<usize> = 40..48;
    pub(super) const WRITE_ID: Range<usize> = 48..64;
    pub(super) const WALL_TIME: Range<usize> = 64..72;
    pub(super) const PERSISTED: Range<usize> = 72..80;
    pub(super) const DATA_LEN: Range<usize> = 80..88;
    pub(super) const ENTRY_COUNT: Range<usize> = 88..92;
    pub(super) const RESERVED_2: Range<usize> = 92..108;
    pub(super) const CRC: Range<usize> = 108..112;
}

const _: () = assert!(at::CRC.end == FIXED_HEADER_BYTES);

/// The fields of the fixed header by name, in order and without gaps: what `docs/format.md` shows.
pub const FIELDS: [(&str, Range<usize>); 15] = [
    ("magic", at::MAGIC),
    ("version", at::VERSION),
    ("kind", at::KIND..at::KIND + 1),
    ("reserved 1", at::RESERVED_1..at::RESERVED_1 + 1),
    ("header length", at::HEADER_LEN),
    ("volume", at::VOLUME),
    ("id", at::ID),
    ("predecessor", at::PREDECESSOR),
    ("write id", at::WRITE_ID),
    ("wall time", at::WALL_TIME),
    ("persisted", at::PERSISTED),
    ("data length", at::DATA_LEN),
    ("entry count", at::ENTRY_COUNT),
    ("reserved 2", at::RESERVED_2),
    ("header CRC", at::CRC),
];

/// Everything about a data object but its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The volume it belongs to.
    pub volume: VolumeUuid,
    /// Its id, and so its name.
    pub id: ObjectId,
    /// The data object before it in the stream.
    pub predecessor: Option<ObjectId>,
    /// Random bits that tell this very object from any other under the same name.
    pub write_id: u128,
    /// When its upload began: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The last data object known to be persisted when its upload began.
    pub persisted: Option<ObjectId>,
    /// Bytes of the data area that are in use, a multiple of 512.
    pub data_len: u64,
    /// What clients did, in order.
    pub entries: Vec<Entry>,
}

impl DataHeader {
    /// Name of the object.
    #[must_use]
    pub const fn name(&self) -> ObjectName {
        ObjectName::data(self.id)
    }

    /// Where the parts of the object lie.
    ///
    /// # Errors
    /// When there are more entries, or more data, than an object can hold.
    pub fn layout(&self) -> Result<Layout, ObjectError> {
        Layout::new(self.entries.len(), self.data_len)
    }

    /// The bytes of the header.
    ///
    /// # Errors
    /// When there are more entries, or more data, than an object can hold.
    pub fn encode(&self) -> Result<Vec<u8>, ObjectError> {
        let header_len = self.layout()?.header_len;
        let entry_count = u32::try_from(self.entries.len()).map_err(|_| ObjectError::Entries)?;
        let id_or_none = |id: Option<ObjectId>| id.map_or(NO_OBJECT, ObjectId::as_u64);
        let mut bytes = vec![0; FIXED_HEADER_BYTES];
        bytes.reserve_exact(self.entries.len() * ENTRY_BYTES);
        bytes[at::MAGIC].copy_from_slice(&MAGIC);
        bytes[at::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        bytes[at::KIND] = ObjectKind::Data as u8;
        bytes[at::HEADER_LEN].copy_from_slice(&header_len.to_le_bytes());
        bytes[at::VOLUME].copy_from_slice(self.volume.as_bytes());
        bytes[at::ID].copy_from_slice(&self.id.as_u64().to_le_bytes());
        bytes[at::PREDECESSOR].copy_from_slice(&id_or_none(self.predecessor).to_le_bytes());
        bytes[at::WRITE_ID].copy_from_slice(&self.write_id.to_le_bytes());
        bytes[at::WALL_TIME].copy_from_slice(&self.wall_time_ns.to_le_bytes());
        bytes[at::PERSISTED].copy_from_slice(&id_or_none(self.persisted).to_le_bytes());
        bytes[at::DATA_LEN].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[at::ENTRY_COUNT].copy_from_slice(&entry_count.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.encode());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes[at::CRC].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a header back from the first bytes of an object; `bytes` may go on behind it.
    ///
    /// # Errors
    /// What does not check. [`ObjectError::Truncated`] says how many bytes it needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let header_len = Self::len_of(bytes)?;
        let header = bytes
            .get(..header_len)
            .ok_or(ObjectError::Truncated { needed: header_len })?;
        let (fixed, entries) = header.split_at(FIXED_HEADER_BYTES);
        let mut crc = crc32c::crc32c(&fixed[..at::CRC.start]);
        crc = crc32c::crc32c_append(crc, &[0; 4]);
        crc = crc32c::crc32c_append(crc, entries);
        if crc != u32_at(fixed, at::CRC) {
            return Err(ObjectError::Checksum);
        }
        // From here on the bytes are what somebody wrote; what does not hold now was written so.
        if fixed[at::KIND] != ObjectKind::Data as u8 {
            return Err(ObjectError::Kind(fixed[at::KIND]));
        }
        if fixed[at::RESERVED_1] != 0 || fixed[at::RESERVED_2] != [0; 16] {
            return Err(ObjectError::Reserved);
        }
        let object_or_none = |id| (id != NO_OBJECT).then(|| ObjectId::from_u64(id));
        let this = Self {
            volume: VolumeUuid::from_bytes(array_at(fixed, at::VOLUME)),
            id: ObjectId::from_u64(u64_at(fixed, at::ID)),
            predecessor: object_or_none(u64_at(fixed, at::PREDECESSOR)),
            write_id: u128::from_le_bytes(array_at(fixed, at::WRITE_ID)),
            wall_time_ns: u64_at(fixed, at::WALL_TIME),
            persisted: object_or_none(u64_at(fixed, at::PERSISTED)),
            data_len: u64_at(fixed, at::DATA_LEN),
            entries: decode_entries(entries)?,
        };
        this.check_entries()?;
        Ok(this)
    }

    /// Whether it is the header of this object of this volume.
    ///
    /// # Errors
    /// [`ObjectError::Identity`] where it belongs somewhere else.
    pub fn check_identity(&self, volume: VolumeUuid, name: ObjectName) -> Result<(), ObjectError> {
        if self.volume == volume && self.name() == name {
            Ok(())
        } else {
            Err(ObjectError::Identity {
                volume: self.volume,
                name: self.name(),
            })
        }
    }

    /// Reads a whole object: its header, its exact length and the checksum of every block.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode_object(bytes: &[u8]) -> Result<Self, ObjectError> {
        let this = Self::decode(bytes)?;
        let layout = this.layout()?;
        if bytes.len() as u64 != layout.object_len() {
            return Err(ObjectError::ObjectLength {
                expected: layout.object_len(),
                found: bytes.len() as u64,
            });
        }
        let place = Place::of(this.volume, this.name());
        let blocks = bytes[layout.header_len() as usize..].chunks(STORED_BLOCK_BYTES);
        for (number, block) in (0..).zip(blocks) {
            if place.verify(number, block).is_none() {
                return Err(ObjectError::Block(number));
            }
        }
        Ok(this)
    }

    /// Reads the length of the whole header, in bytes, from its fixed part.
    ///
    /// # Errors
    /// [`ObjectError::Truncated`] where the fixed part is not all there; else what is wrong.
    pub fn len_of(bytes: &[u8]) -> Result<usize, ObjectError> {
        let fixed = bytes
            .get(..FIXED_HEADER_BYTES)
            .ok_or(ObjectError::Truncated {
                needed: FIXED_HEADER_BYTES,
            })?;
        if fixed[at::MAGIC] != MAGIC {
            return Err(ObjectError::Magic);
        }
        let version = u16::from_le_bytes(array_at(fixed, at::VERSION));
        if version != VERSION {
            return Err(ObjectError::Version(version));
        }
        // Lengths are checked against each other before anything is read with them: the checksum
        // can only be computed once the length is believed.
        let entry_count = u32_at(fixed, at::ENTRY_COUNT) as usize;
        let layout = Layout::new(entry_count, u64_at(fixed, at::DATA_LEN))?;
        if u32_at(fixed, at::HEADER_LEN) != layout.header_len {
            return Err(ObjectError::Length);
        }
        Ok(layout.header_len as usize)
    }

    /// Data of the entries lies in the data area, in order and without overlap.
    fn check_entries(&self) -> Result<(), ObjectError> {
        let mut free = 0;
        for entry in &self.entries {
            if let EntryKind::Write(offset) = entry.kind {
                if u64::from(offset.0) < free {
                    return Err(ObjectError::Entries);
                }
                free = u64::from(offset.0) + entry.data_sectors();
            }
        }
        if free * SECTOR_BYTES > self.data_len {
            Err(ObjectError::Entries)
        } else {
            Ok(())
        }
    }
}

fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, ObjectError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(ObjectError::Entries);
    }
    entries
        .iter()
        .map(|entry| Entry::decode(entry).ok_or(ObjectError::Entries))
        .collect()
}

/// Where the parts of a data object lie, all in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    header_len: u32,
    block_count: u32,
}

impl Layout {
    /// The layout of an object with so many entries and so many bytes of data.
    ///
    /// # Errors
    /// When an object cannot hold as much.
    pub fn new(entry_count: usize, data_len: u64) -> Result<Self, ObjectError> {
        if entry_count > ENTRIES_MAX {
            return Err(ObjectError::Entries);
        }
        if data_len > OBJECT_BYTES_MAX || !data_len.is_multiple_of(SECTOR_BYTES) {
            return Err(ObjectError::DataLength(data_len));
        }
        let header_len = u32::try_from(FIXED_HEADER_BYTES + entry_count * ENTRY_BYTES)
            .map_err(|_| ObjectError::Entries)?;
        let block_count = u32::try_from(data_len.div_ceil(BLOCK_BYTES as u64))
            .map_err(|_| ObjectError::DataLength(data_len))?;
        Ok(Self {
            header_len,
            block_count,
        })
    }

    /// Length of the header, and so the start of the data area.
    #[must_use]
    pub const fn header_len(&self) -> u32 {
        self.header_len
    }

    /// Number of blocks in the data area.
    #[must_use]
    pub const fn block_count(&self) -> u32 {
        self.block_count
    }

    /// Length of the whole object.
    #[must_use]
    pub const fn object_len(&self) -> u64 {
        self.header_len as u64 + self.block_count as u64 * STORED_BLOCK_BYTES as u64
    }
}

/// The stored blocks that hold a run of sectors of a data area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpan {
    /// Number of the first block.
    pub first_block: u32,
    /// Number of blocks.
    pub block_count: u32,
    /// Where the wanted bytes lie in the blocks' data, checksums not counted.
    pub data: Range<usize>,
}

impl BlockSpan {
    /// The blocks of `bytes` bytes from `offset` on.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a span is part of an object's 64 MiB"
    )]
    pub fn new(offset: DataOffset, bytes: usize) -> Self {
        let block = BLOCK_BYTES as u64;
        let start = offset.bytes();
        let end = start + bytes as u64;
        let first_block = (start / block) as u32;
        let skip = (start % block) as usize;
        let block_count = end.div_ceil(block) as u32 - first_block;
        Self {
            first_block,
            block_count,
            data: skip..skip + bytes,
        }
    }

    /// Bytes of the blocks with their checksums.
    #[must_use]
    pub const fn stored_len(&self) -> usize {
        self.block_count as usize * STORED_BLOCK_BYTES
    }

    /// Where they lie in an object whose header is `header_len` bytes long.
    #[must_use]
    pub fn stored_range(&self, header_len: u32) -> Range<u64> {
        let start = u64::from(header_len) + u64::from(self.first_block) * STORED_BLOCK_BYTES as u64;
        start..start + self.stored_len() as u64
    }

    /// Checks the stored blocks and copies the wanted bytes out of them.
    ///
    /// # Errors
    /// The number of the first block that does not check; `out` is then undefined.
    pub fn extract(&self, place: Place, stored: &[u8], out: &mut [u8]) -> Result<(), u32> {
        let mut out = out;
        let mut skip = self.data.start;
        for (block, stored) in (self.first_block..).zip(stored.chunks(STORED_BLOCK_BYTES)) {
            let data = place.verify(block, stored).ok_or(block)?;
            let wanted = data.get(skip..).unwrap_or_default();
            let (now, rest) = out.split_at_mut(wanted.len().min(out.len()));
            now.copy_from_slice(&wanted[..now.len()]);
            out = rest;
            skip = 0;
        }
        if out.is_empty() {
            Ok(())
        } else {
            Err(self.first_block + self.block_count)
        }
    }
}

fn array_at<const N: usize>(bytes: &[u8], range: Range<usize>) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[range]);
    array
}

fn u32_at(bytes: &[u8], range: Range<usize>) -> u32 {
    u32::from_le_bytes(array_at(bytes, range))
}

fn u64_at(bytes: &[u8], range: Range<usize>) -> u64 {
    u64::from_le_bytes(array_at(bytes, range))
}

/// Why bytes are not a data object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// The bytes end before the header does.
    Truncated {
        /// Length that is needed, as far as it is known.
        needed: usize,
    },
    /// It does not begin as an object of ours.
    Magic,
    /// A version that this program does not read.
    Version(u16),
    /// Not a data object.
    Kind(u8),
    /// Reserved bytes are not zero.
    Reserved,
    /// The lengths in the header contradict one another.
    Length,
    /// A data length that no object has.
    DataLength(u64),
    /// The header's checksum does not match.
    Checksum,
    /// The entry list is not one that is ever written.
    Entries,
    /// It belongs to another object than the one that was asked for.
    Identity {
        /// The volume that the header names.
        volume: VolumeUuid,
        /// The name that it gives itself.
        name: ObjectName,
    },
    /// The object is shorter or longer than its header says.
    ObjectLength {
        /// Length that the header says, in bytes.
        expected: u64,
        /// Length that it has.
        found: u64,
    },
    /// The checksum of this block does not match.
    Block(u32),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed } => {
                write!(
                    f,
                    "the header is cut short (at least {needed} bytes are needed)"
                )
            }
            Self::Magic => f.write_str("it does not begin with the magic of an object"),
            Self::Version(version) => {
                write!(
                    f,
                    "format version {version} is not known here (known: {VERSION})"
                )
            }
            Self::Kind(kind) => write!(f, "it is not a data object (kind {kind})"),
            Self::Length => f.write_str("the lengths in the header contradict one another"),
            Self::DataLength(len) => write!(f, "a data length of {len} bytes is impossible"),
            Self::Checksum => f.write_str("the checksum of the header does not match"),
            Self::Entries => f.write_str("the entry list is not valid"),
            Self::Reserved => f.write_str("reserved bytes of the header are not zero"),
            Self::Identity { volume, name } => {
                write!(f, "it is object {name} of volume {volume}")
            }
            Self::ObjectLength { expected, found } => {
                write!(f, "it is {found} bytes long and should be {expected}")
            }
            Self::Block(block) => write!(f, "the checksum of block {block} does not match"),
        }
    }
}

impl std::error::Error for ObjectError {}

#[cfg(test)]
mod tests;
