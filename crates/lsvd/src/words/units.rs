//! Units as types, so that a sector never passes for a byte.

use std::fmt;
use std::ops::Range;

/// Bytes in a sector, the addressing unit of the map and the smallest unit of a request.
pub const SECTOR_BYTES: u64 = 512;

/// The same as the length of a slice.
pub const SECTOR: usize = 512;
const _: () = assert!(SECTOR as u64 == SECTOR_BYTES);

/// The same for counts of 32 bits, as they are inside a batch.
pub const SECTOR_32: u32 = 512;
const _: () = assert!(SECTOR_32 as u64 == SECTOR_BYTES);

/// Address of a sector on the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

/// A run of consecutive sectors of the volume; never empty unless it says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LbaRange {
    /// First sector.
    pub start: Lba,
    /// First sector behind the range.
    pub end: Lba,
}

impl LbaRange {
    /// The sectors from `start` up to, not including, `end`.
    ///
    /// # Panics
    /// When `end` lies before `start`: a range that was never checked is a bug of the caller.
    #[must_use]
    pub const fn new(start: Lba, end: Lba) -> Self {
        assert!(start.0 <= end.0, "an LBA range ends before it starts");
        Self { start, end }
    }

    /// `sectors` sectors from `start` on.
    #[must_use]
    pub const fn with_len(start: Lba, sectors: u64) -> Self {
        Self::new(start, Lba(start.0 + sectors))
    }

    /// Number of sectors.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Number of bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.sectors() * SECTOR_BYTES
    }

    /// Whether there is no sector in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start.0 == self.end.0
    }

    /// The same as a range of plain sector numbers.
    #[must_use]
    pub const fn as_range(&self) -> Range<u64> {
        self.start.0..self.end.0
    }
}

impl fmt::Debug for LbaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}..{}", self.start.0, self.end.0)
    }
}

/// Index of an object in the object table: what the extent map holds in place of the 64-bit id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectSlot(pub u32);

/// Sector offset inside an object's data area, as reserved in its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataOffset(pub u32);

impl DataOffset {
    /// The same in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * SECTOR_BYTES
    }
}

/// Where the first sector of an extent lives; the others follow it without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The object, by its slot in the object table.
    pub object: ObjectSlot,
    /// Offset inside the object's data area.
    pub offset: DataOffset,
}

/// A run of consecutive sectors and where they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The sectors of the volume.
    pub range: LbaRange,
    /// Where the first of them lives.
    pub location: Location,
}
