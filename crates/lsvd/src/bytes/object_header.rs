//! The fixed header: the bytes with which every object begins. `docs/format.md` has the byte table.

use std::fmt;
use std::ops::Range;

use super::fields::{array_at, checks, object_at, object_bytes, u16_at, u32_at, u64_at};
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};

/// First bytes of every object. The last two catch a transfer that rewrites line ends.
pub const MAGIC: [u8; 8] = *b"LSVDob\r\n";

/// Version of the format that this program writes, and the only one that it reads.
pub const VERSION: u16 = 1;

/// Bytes of the fixed header.
pub const FIXED_HEADER_BYTES: usize = 112;

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

/// The fields by name, in order and without gaps: what `docs/format.md` shows.
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

/// What every object says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHeader {
    /// Name of the object: its kind, and its number among those.
    pub name: ObjectName,
    /// The volume it belongs to.
    pub volume: VolumeUuid,
    /// The object of the same kind before it.
    pub predecessor: Option<ObjectId>,
    /// Random bits that tell this very object from any other under the same name.
    pub write_id: u128,
    /// When it was made: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The last data object known to be persisted when it was made.
    pub persisted: Option<ObjectId>,
    /// Bytes of the data area that are in use.
    pub data_len: u64,
    /// Number of entries in the header.
    pub entry_count: u32,
}

/// The lengths that a fixed header claims, before its checksum was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedLengths {
    /// Number of the object's kind.
    pub kind: u8,
    /// Bytes of the whole header.
    pub header_len: u32,
    /// Bytes of the data area in use.
    pub data_len: u64,
    /// Number of entries.
    pub entry_count: u32,
}

impl ObjectHeader {
    /// The fixed header and what follows it in the header, under one checksum.
    ///
    /// # Errors
    /// When that is more than a header can be.
    pub fn encode(&self, rest: &[u8]) -> Result<Vec<u8>, ObjectError> {
        let header_len =
            u32::try_from(FIXED_HEADER_BYTES + rest.len()).map_err(|_| ObjectError::Length)?;
        let mut bytes = vec![0; FIXED_HEADER_BYTES];
        bytes.reserve_exact(rest.len());
        bytes[at::MAGIC].copy_from_slice(&MAGIC);
        bytes[at::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        bytes[at::KIND] = self.name.kind as u8;
        bytes[at::HEADER_LEN].copy_from_slice(&header_len.to_le_bytes());
        bytes[at::VOLUME].copy_from_slice(self.volume.as_bytes());
        bytes[at::ID].copy_from_slice(&self.name.id.as_u64().to_le_bytes());
        bytes[at::PREDECESSOR].copy_from_slice(&object_bytes(self.predecessor));
        bytes[at::WRITE_ID].copy_from_slice(&self.write_id.to_le_bytes());
        bytes[at::WALL_TIME].copy_from_slice(&self.wall_time_ns.to_le_bytes());
        bytes[at::PERSISTED].copy_from_slice(&object_bytes(self.persisted));
        bytes[at::DATA_LEN].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[at::ENTRY_COUNT].copy_from_slice(&self.entry_count.to_le_bytes());
        bytes.extend_from_slice(rest);
        let crc = crc32c::crc32c(&bytes);
        bytes[at::CRC].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Reads the lengths from the first bytes of an object. Whoever knows the kind checks them
    /// against each other before anything is read with them: the checksum can only be computed
    /// once the length is believed.
    ///
    /// # Errors
    /// [`ObjectError::Truncated`] where the fixed header is not all there; else what is wrong.
    pub fn claimed_lengths(bytes: &[u8]) -> Result<ClaimedLengths, ObjectError> {
        let needed = FIXED_HEADER_BYTES;
        let fixed = bytes
            .get(..needed)
            .ok_or(ObjectError::Truncated { needed })?;
        if fixed[at::MAGIC] != MAGIC {
            return Err(ObjectError::Magic);
        }
        let version = u16_at(fixed, at::VERSION);
        if version != VERSION {
            return Err(ObjectError::Version(version));
        }
        Ok(ClaimedLengths {
            kind: fixed[at::KIND],
            header_len: u32_at(fixed, at::HEADER_LEN),
            data_len: u64_at(fixed, at::DATA_LEN),
            entry_count: u32_at(fixed, at::ENTRY_COUNT),
        })
    }

    /// Reads a header of `header_len` bytes, which is believed, and what follows the fixed part.
    /// `bytes` may go on behind it.
    ///
    /// # Errors
    /// What does not check. [`ObjectError::Truncated`] says how many bytes it needs.
    pub fn decode(
        bytes: &[u8],
        header_len: usize,
        kind: ObjectKind,
    ) -> Result<(Self, &[u8]), ObjectError> {
        let truncated = ObjectError::Truncated { needed: header_len };
        let header = bytes.get(..header_len).ok_or(truncated)?;
        let (fixed, rest) = header
            .split_at_checked(FIXED_HEADER_BYTES)
            .ok_or(ObjectError::Length)?;
        if !checks(header, at::CRC) {
            return Err(ObjectError::Checksum);
        }
        // From here on the bytes are what somebody wrote; what does not hold now was written so.
        if fixed[at::KIND] != kind as u8 {
            return Err(ObjectError::Kind {
                expected: kind,
                found: fixed[at::KIND],
            });
        }
        if fixed[at::RESERVED_1] != 0 || fixed[at::RESERVED_2] != [0; 16] {
            return Err(ObjectError::Reserved);
        }
        let this = Self {
            name: ObjectName {
                kind,
                id: ObjectId::from_u64(u64_at(fixed, at::ID)),
            },
            volume: VolumeUuid::from_bytes(array_at(fixed, at::VOLUME)),
            predecessor: object_at(fixed, at::PREDECESSOR),
            write_id: u128::from_le_bytes(array_at(fixed, at::WRITE_ID)),
            wall_time_ns: u64_at(fixed, at::WALL_TIME),
            persisted: object_at(fixed, at::PERSISTED),
            data_len: u64_at(fixed, at::DATA_LEN),
            entry_count: u32_at(fixed, at::ENTRY_COUNT),
        };
        Ok((this, rest))
    }
}

/// Why bytes are not the object that they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// An object of another kind.
    Kind {
        /// The kind that was asked for.
        expected: ObjectKind,
        /// The number of the kind that it is.
        found: u8,
    },
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
    /// The text of a superblock is not one that is ever written.
    Text(String),
    /// The list of a checkpoint is not one that is ever written.
    Index(&'static str),
    /// The checksum of the piece of a checkpoint at this offset does not match.
    Piece(u64),
    /// The piece of a checkpoint at this offset is not one that is ever written.
    PieceContent(u64),
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
            Self::Kind { expected, found } => {
                write!(f, "it is not a {expected} object (kind {found})")
            }
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
            Self::Text(why) => write!(f, "its text is not valid: {why}"),
            Self::Index(why) => write!(f, "its list is not valid: {why}"),
            Self::Piece(offset) => {
                write!(
                    f,
                    "the checksum of the piece at offset {offset} does not match"
                )
            }
            Self::PieceContent(offset) => {
                write!(f, "the piece at offset {offset} is not valid")
            }
        }
    }
}

impl std::error::Error for ObjectError {}
