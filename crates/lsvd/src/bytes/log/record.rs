//! One record of a log segment.

use std::ops::Range;

use uuid::Uuid;

use super::LogError;
use crate::bytes::block::{BLOCK_BYTES, contribution};
use crate::bytes::entry::{ENTRY_BYTES, Entry};
use crate::bytes::fields::{array_at, checks, object_at, object_bytes, u16_at, u32_at, u64_at};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::name::ObjectId;
use crate::words::units::{SECTOR, SECTOR_32, SECTOR_BYTES};

/// Bytes of a record's header before its entries.
pub const RECORD_HEADER_BYTES: usize = 112;

const MAGIC: [u8; 8] = *b"LSVDrec\n";
const VERSION: u16 = 1;

/// The record ends its batch: the object's fixed header follows its own.
const FLAG_END: u8 = 1;
/// The record adds nothing and is overwritten by the next: it only shows what was synced.
const FLAG_MARK: u8 = 2;

mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..8;
    pub(super) const VERSION: Range<usize> = 8..10;
    pub(super) const FLAGS: usize = 10;
    pub(super) const RESERVED_1: Range<usize> = 11..12;
    pub(super) const HEADER_LEN: Range<usize> = 12..16;
    pub(super) const LOG: Range<usize> = 16..32;
    pub(super) const BATCH: Range<usize> = 32..40;
    pub(super) const PREDECESSOR: Range<usize> = 40..48;
    pub(super) const PLACE: Range<usize> = 48..52;
    pub(super) const FIRST_ENTRY: Range<usize> = 52..56;
    pub(super) const ENTRY_COUNT: Range<usize> = 56..60;
    pub(super) const FIRST_SECTOR: Range<usize> = 60..64;
    pub(super) const SECTORS: Range<usize> = 64..68;
    pub(super) const SYNCED_POSITION: Range<usize> = 68..72;
    pub(super) const SYNCED_BATCH: Range<usize> = 72..80;
    pub(super) const PERSISTED: Range<usize> = 80..88;
    pub(super) const WALL_TIME: Range<usize> = 88..96;
    pub(super) const RESERVED_2: Range<usize> = 96..108;
    pub(super) const CRC: Range<usize> = 108..112;
}

const _: () = assert!(at::CRC.end == RECORD_HEADER_BYTES);

/// The fields of a record's header by name, in order and without gaps: what `docs/format.md` shows.
pub const RECORD_FIELDS: [(&str, Range<usize>); 18] = [
    ("magic", at::MAGIC),
    ("version", at::VERSION),
    ("flags", at::FLAGS..at::FLAGS + 1),
    ("reserved 1", at::RESERVED_1),
    ("header length", at::HEADER_LEN),
    ("log", at::LOG),
    ("batch", at::BATCH),
    ("predecessor", at::PREDECESSOR),
    ("place", at::PLACE),
    ("first entry", at::FIRST_ENTRY),
    ("entry count", at::ENTRY_COUNT),
    ("first sector", at::FIRST_SECTOR),
    ("sectors", at::SECTORS),
    ("synced position", at::SYNCED_POSITION),
    ("synced batch", at::SYNCED_BATCH),
    ("persisted", at::PERSISTED),
    ("wall time", at::WALL_TIME),
    ("reserved 2 and CRC", at::RESERVED_2.start..at::CRC.end),
];

/// Up to where the log was durable when a record was written: a batch, and the position in its
/// segment, in bytes. What lies before it and does not check was not torn but damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyncedMark {
    /// The batch.
    pub batch: ObjectId,
    /// Bytes of its segment.
    pub position: u32,
}

/// What a record says, but for its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identity of the log.
    pub log: Uuid,
    /// The batch, whose object has the same number.
    pub batch: ObjectId,
    /// The batch before it in the stream.
    pub predecessor: Option<ObjectId>,
    /// Where the record begins in its segment, in bytes.
    pub place: u32,
    /// Index of its first entry in the batch.
    pub first_entry: u32,
    /// The entries that it adds.
    pub entries: Vec<Entry>,
    /// First sector of the batch's data area that it adds.
    pub first_sector: u32,
    /// Number of sectors that it adds.
    pub sectors: u32,
    /// For every block of the data area that it touches, what it contributes to the checksum.
    pub sums: Vec<u32>,
    /// What was durable.
    pub synced: Option<SyncedMark>,
    /// The newest data object known to be persisted.
    pub persisted: Option<ObjectId>,
    /// When it was written: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The fixed header of the object, in the record that ends the batch.
    pub object_header: Option<[u8; FIXED_HEADER_BYTES]>,
    /// Whether the record adds nothing and the next is written over it.
    pub is_mark: bool,
}

/// How long a record of so many entries and sectors is, at most: what has to be kept free.
#[derive(Clone, Copy, Debug)]
pub struct RecordBounds {
    /// Unit of every write in bytes.
    pub block_bytes: u32,
}

impl RecordBounds {
    /// Bytes of a record with so many entries and sectors.
    #[must_use]
    pub const fn record_max(self, entries: usize, sectors: u32) -> u64 {
        let block = self.block_bytes as u64;
        let blocks = sectors as usize / (BLOCK_BYTES / SECTOR) + 2;
        let header = RECORD_HEADER_BYTES + entries * ENTRY_BYTES + blocks * 4;
        (header as u64).next_multiple_of(block)
            + (sectors as u64 * SECTOR as u64).next_multiple_of(block)
    }

    /// Bytes of a record with so many entries and this run of sectors, which ends no batch.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a batch, and so a record, is far below 4 GiB"
    )]
    pub const fn record(self, entries: usize, first_sector: u32, sectors: u32) -> u32 {
        let sums = blocks_touched(first_sector, sectors);
        let header = RECORD_HEADER_BYTES + entries * ENTRY_BYTES + sums * 4;
        (header as u32).next_multiple_of(self.block_bytes)
            + (sectors * SECTOR_32).next_multiple_of(self.block_bytes)
    }

    /// Bytes that the end of a batch needs behind its last entries: the end record, and a mark.
    #[must_use]
    pub const fn end_max(self) -> u64 {
        let block = self.block_bytes as u64;
        ((RECORD_HEADER_BYTES + FIXED_HEADER_BYTES) as u64).next_multiple_of(block)
            + (RECORD_HEADER_BYTES as u64).next_multiple_of(block)
    }
}

/// Number of blocks that a run of sectors touches.
const fn blocks_touched(first_sector: u32, sectors: u32) -> usize {
    if sectors == 0 {
        return 0;
    }
    let per_block = BLOCK_BYTES / SECTOR;
    let end = first_sector as usize + sectors as usize;
    end.div_ceil(per_block) - first_sector as usize / per_block
}

/// The checksum contributions of `data`, which begins at sector `first_sector` of a data area: one
/// for each block touched. `whole` gives those of whole blocks where they are known already.
pub fn sums_of(first_sector: u32, data: &[u8], whole: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
    let mut at = first_sector as usize * SECTOR;
    let mut rest = data;
    let mut sums = Vec::with_capacity(data.len() / BLOCK_BYTES + 2);
    while !rest.is_empty() {
        let in_block = at % BLOCK_BYTES;
        let (piece, behind) = rest.split_at(rest.len().min(BLOCK_BYTES - in_block));
        let known = (piece.len() == BLOCK_BYTES)
            .then(|| u32::try_from(at / BLOCK_BYTES).ok().and_then(&whole))
            .flatten();
        sums.push(known.unwrap_or_else(|| contribution(in_block, piece)));
        at += piece.len();
        rest = behind;
    }
    sums
}

impl Record {
    /// Bytes of the header without padding.
    #[must_use]
    pub fn header_len(&self) -> usize {
        let object_header = self.object_header.map_or(0, |header| header.len());
        RECORD_HEADER_BYTES + object_header + self.entries.len() * ENTRY_BYTES + self.sums.len() * 4
    }

    /// Bytes of the header with its padding: where the data begins behind the record's start.
    #[must_use]
    pub fn padded_header_len(&self, block_bytes: u32) -> u32 {
        padded(self.header_len(), block_bytes)
    }

    /// Bytes of the data with its padding.
    #[must_use]
    pub const fn padded_data_len(&self, block_bytes: u32) -> u32 {
        (self.sectors * SECTOR_32).next_multiple_of(block_bytes)
    }

    /// Bytes of the whole record.
    #[must_use]
    pub fn len(&self, block_bytes: u32) -> u32 {
        self.padded_header_len(block_bytes) + self.padded_data_len(block_bytes)
    }

    /// The header with its padding; the data follows it.
    ///
    /// # Panics
    /// When there are more entries than a batch can have.
    #[must_use]
    pub fn encode(&self, block_bytes: u32) -> Vec<u8> {
        let header_len = self.header_len();
        let mut bytes = Vec::with_capacity(self.padded_header_len(block_bytes) as usize);
        bytes.resize(RECORD_HEADER_BYTES, 0);
        let end = if self.object_header.is_some() {
            FLAG_END
        } else {
            0
        };
        let mark = if self.is_mark { FLAG_MARK } else { 0 };
        let entry_count = u32::try_from(self.entries.len()).expect("a batch bounds its entries");
        let header_bytes = u32::try_from(header_len).expect("a batch bounds its entries");
        bytes[at::MAGIC].copy_from_slice(&MAGIC);
        bytes[at::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        bytes[at::FLAGS] = end | mark;
        bytes[at::HEADER_LEN].copy_from_slice(&header_bytes.to_le_bytes());
        bytes[at::LOG].copy_from_slice(self.log.as_bytes());
        bytes[at::BATCH].copy_from_slice(&self.batch.as_u64().to_le_bytes());
        bytes[at::PREDECESSOR].copy_from_slice(&object_bytes(self.predecessor));
        bytes[at::PLACE].copy_from_slice(&self.place.to_le_bytes());
        bytes[at::FIRST_ENTRY].copy_from_slice(&self.first_entry.to_le_bytes());
        bytes[at::ENTRY_COUNT].copy_from_slice(&entry_count.to_le_bytes());
        bytes[at::FIRST_SECTOR].copy_from_slice(&self.first_sector.to_le_bytes());
        bytes[at::SECTORS].copy_from_slice(&self.sectors.to_le_bytes());
        let position = self.synced.map_or(0, |mark| mark.position);
        bytes[at::SYNCED_POSITION].copy_from_slice(&position.to_le_bytes());
        let synced = self.synced.map(|mark| mark.batch);
        bytes[at::SYNCED_BATCH].copy_from_slice(&object_bytes(synced));
        bytes[at::PERSISTED].copy_from_slice(&object_bytes(self.persisted));
        bytes[at::WALL_TIME].copy_from_slice(&self.wall_time_ns.to_le_bytes());
        bytes.extend(self.object_header.iter().flatten());
        bytes.extend(self.entries.iter().flat_map(Entry::encode));
        bytes.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        let crc = crc32c::crc32c(&bytes);
        bytes[at::CRC].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(self.padded_header_len(block_bytes) as usize, 0);
        bytes
    }

    /// Reads the header of the record at the start of `bytes`, which go on behind it.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let fixed = bytes
            .get(..RECORD_HEADER_BYTES)
            .ok_or(LogError::Truncated)?;
        if fixed[at::MAGIC] != MAGIC {
            return Err(LogError::Magic);
        }
        let version = u16_at(fixed, at::VERSION);
        if version != VERSION {
            return Err(LogError::Version(version));
        }
        let header_len = u32_at(fixed, at::HEADER_LEN) as usize;
        let header = bytes.get(..header_len).ok_or(LogError::Truncated)?;
        let rest = header
            .get(RECORD_HEADER_BYTES..)
            .ok_or(LogError::Field("header length"))?;
        if !checks(header, at::CRC) {
            return Err(LogError::Checksum);
        }
        // From here on the bytes are what somebody wrote; what does not hold now was written so.
        Self::decode_checked(fixed, rest)
    }

    fn decode_checked(fixed: &[u8], rest: &[u8]) -> Result<Self, LogError> {
        let flags = fixed[at::FLAGS];
        let reserved = fixed[at::RESERVED_1.start] != 0 || fixed[at::RESERVED_2] != [0; 12];
        if reserved || flags & !(FLAG_END | FLAG_MARK) != 0 {
            return Err(LogError::Field("reserved part"));
        }
        let entry_count = u32_at(fixed, at::ENTRY_COUNT) as usize;
        let first_sector = u32_at(fixed, at::FIRST_SECTOR);
        let sectors = u32_at(fixed, at::SECTORS);
        let (object_header, rest) = if flags & FLAG_END == 0 {
            (None, rest)
        } else {
            let (header, rest) = rest
                .split_first_chunk::<FIXED_HEADER_BYTES>()
                .ok_or(LogError::Field("header length"))?;
            (Some(*header), rest)
        };
        let sum_count = blocks_touched(first_sector, sectors);
        let area = OBJECT_BYTES_MAX / SECTOR_BYTES;
        if u64::from(first_sector) + u64::from(sectors) > area {
            return Err(LogError::Field("run of sectors"));
        }
        if rest.len() != entry_count * ENTRY_BYTES + sum_count * 4 {
            return Err(LogError::Field("header length"));
        }
        let (entries, sums) = rest.split_at(entry_count * ENTRY_BYTES);
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let (sums, _) = sums.as_chunks::<4>();
        let position = u32_at(fixed, at::SYNCED_POSITION);
        Ok(Self {
            log: Uuid::from_bytes(array_at(fixed, at::LOG)),
            batch: ObjectId::from_u64(u64_at(fixed, at::BATCH)),
            predecessor: object_at(fixed, at::PREDECESSOR),
            place: u32_at(fixed, at::PLACE),
            first_entry: u32_at(fixed, at::FIRST_ENTRY),
            entries: entries
                .iter()
                .map(|entry| Entry::decode(entry).ok_or(LogError::Field("entry list")))
                .collect::<Result<_, _>>()?,
            first_sector,
            sectors,
            sums: sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect(),
            synced: object_at(fixed, at::SYNCED_BATCH).map(|batch| SyncedMark { batch, position }),
            persisted: object_at(fixed, at::PERSISTED),
            wall_time_ns: u64_at(fixed, at::WALL_TIME),
            object_header,
            is_mark: flags & FLAG_MARK != 0,
        })
    }
}

/// Whether the first bytes of a segment claim to be a record of this log. Nothing is checked: it is
/// for finding out cheaply where nothing is.
#[must_use]
pub fn claims_log(bytes: &[u8], log: Uuid) -> bool {
    bytes.get(at::MAGIC) == Some(&MAGIC[..]) && bytes.get(at::LOG) == Some(&log.as_bytes()[..])
}

fn padded(len: usize, block_bytes: u32) -> u32 {
    let len = u32::try_from(len).expect("a batch bounds its entries");
    len.next_multiple_of(block_bytes)
}
