//! Entries: what clients did, in order, as a batch and its object list it.

use std::ops::Range;

use crate::words::units::{DataOffset, Lba, LbaRange};

/// Bytes of an encoded entry.
pub const ENTRY_BYTES: usize = 16;

/// Bits of an LBA in an entry.
const LBA_BITS: u32 = 48;

const KIND_WRITE: u8 = 1;
const KIND_DISCARD: u8 = 2;
const KIND_WRITE_ZEROES: u8 = 3;

/// What was done to a range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Data was written, and lies at this offset of the object's data area.
    Write(DataOffset),
    /// The content was given up: the range reads as zeroes.
    Discard,
    /// Zeroes were written, without data.
    WriteZeroes,
}

/// One write, discard or write-zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sectors of the volume.
    pub range: LbaRange,
    /// What was done to them.
    pub kind: EntryKind,
}

/// Whether the data of all entries lies in these sectors of the data area, in order and without overlap.
#[must_use]
pub(super) fn have_their_data(entries: &[Entry], sectors: Range<u64>) -> bool {
    let mut free = sectors.start;
    let follow = entries.iter().all(|entry| match entry.kind {
        EntryKind::Write(offset) => {
            let start = u64::from(offset.0);
            let follows = start >= free;
            free = start + entry.data_sectors();
            follows
        }
        EntryKind::Discard | EntryKind::WriteZeroes => true,
    });
    follow && free <= sectors.end
}

impl Entry {
    /// Sectors of the object's data area that the entry takes.
    #[must_use]
    pub const fn data_sectors(&self) -> u64 {
        match self.kind {
            EntryKind::Write(_) => self.range.sectors(),
            EntryKind::Discard | EntryKind::WriteZeroes => 0,
        }
    }

    /// The bytes of the entry.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let sectors = self.range.sectors();
        let (kind, tail) = match self.kind {
            // A write is at most as long as an object, which is far below 32 bits of sectors.
            EntryKind::Write(offset) => (KIND_WRITE, u64::from(offset.0) << 32 | sectors),
            EntryKind::Discard => (KIND_DISCARD, sectors),
            EntryKind::WriteZeroes => (KIND_WRITE_ZEROES, sectors),
        };
        let head = u64::from(kind) << LBA_BITS | self.range.start.0;
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&head.to_le_bytes());
        bytes[8..].copy_from_slice(&tail.to_le_bytes());
        bytes
    }

    /// Reads an entry back; nothing where it is not one that [`encode`](Self::encode) makes.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (head, tail) = bytes.split_at(8);
        let head = u64::from_le_bytes(head.try_into().ok()?);
        let tail = u64::from_le_bytes(tail.try_into().ok()?);
        let start = head & ((1 << LBA_BITS) - 1);
        let kind = u8::try_from(head >> LBA_BITS).ok()?;
        let (kind, sectors) = match kind {
            KIND_WRITE => {
                let offset = DataOffset(u32::try_from(tail >> 32).ok()?);
                (EntryKind::Write(offset), tail & u64::from(u32::MAX))
            }
            KIND_DISCARD => (EntryKind::Discard, tail),
            KIND_WRITE_ZEROES => (EntryKind::WriteZeroes, tail),
            _ => return None,
        };
        let end = start.checked_add(sectors)?;
        (sectors > 0 && end <= 1 << LBA_BITS).then(|| Self {
            range: LbaRange::new(Lba(start), Lba(end)),
            kind,
        })
    }
}
