//! One extent of a chunk in ten bytes.

use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::units::{DataOffset, Location, ObjectSlot, SECTOR_BYTES};

use super::{CHUNK_BITS, CHUNK_SECTORS, LEAF_BITS, LEAF_SECTORS};

/// Bits of a start, which is counted from the start of the leaf.
const START_BITS: u32 = CHUNK_BITS + LEAF_BITS;
const LEN_BITS: u32 = CHUNK_BITS;
const OFFSET_BITS: u32 = 17;

/// Bits of the offset that go with the object slot; the rest go with the start.
const OFFSET_LOW_BITS: u32 = 16;
const OFFSET_HIGH_BITS: u32 = OFFSET_BITS - OFFSET_LOW_BITS;
const LEN_SHIFT: u32 = OFFSET_HIGH_BITS;
const START_SHIFT: u32 = LEN_SHIFT + LEN_BITS;

/// Sectors in the data area of the largest object, the bound of every location.
pub(super) const OBJECT_SECTORS_MAX: u64 = OBJECT_BYTES_MAX / SECTOR_BYTES;

const _: () = assert!(OBJECT_SECTORS_MAX <= 1 << OFFSET_BITS);
const _: () = assert!(START_SHIFT + START_BITS == u32::BITS);

/// An extent, or a part of one, with sector numbers counted from the start of its leaf (of its
/// chunk, outside the directory). It lies in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) location: Location,
}

impl Piece {
    /// The part of it that lies inside `start..end`, which must overlap it.
    pub(super) fn clip(self, start: u32, end: u32) -> Self {
        let start = self.start.max(start);
        Self {
            start,
            end: self.end.min(end),
            location: advance(self.location, start - self.start),
        }
    }

    /// The same extent, counted from a point that lies `sectors` further ahead.
    pub(super) fn moved_up(self, sectors: u32) -> Self {
        Self {
            start: self.start + sectors,
            end: self.end + sectors,
            location: self.location,
        }
    }

    /// The same extent, counted from a point that lies `sectors` further behind.
    pub(super) fn moved_down(self, sectors: u32) -> Self {
        Self {
            start: self.start - sectors,
            end: self.end - sectors,
            location: self.location,
        }
    }

    /// Whether `next` follows without a gap, on the volume and in the same object. The neighbours
    /// of a chunk in its leaf are not its neighbours on the volume, so that nothing continues
    /// over a chunk's border.
    pub(super) fn continues_into(self, next: Self) -> bool {
        self.end == next.start
            && !u64::from(next.start).is_multiple_of(CHUNK_SECTORS)
            && self.location.object == next.location.object
            && self.location.offset.0 + (self.end - self.start) == next.location.offset.0
    }
}

/// Where the sector lives that lies `sectors` behind the one at `location`.
pub(super) fn advance(location: Location, sectors: u32) -> Location {
    Location {
        object: location.object,
        offset: DataOffset(location.offset.0 + sectors),
    }
}

/// A [`Piece`] as an array stores it. The start stands in the highest bits of the first word, since
/// it is all that a search reads; below it the length less one, and the top of the offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedExtent {
    head: [u8; 4],
    object: [u8; 4],
    offset: [u8; 2],
}

const _: () = assert!(size_of::<PackedExtent>() == 10);

impl PackedExtent {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bits of the offset are cut off on purpose"
    )]
    pub(super) fn pack(piece: Piece) -> Self {
        let Location { object, offset } = piece.location;
        debug_assert!(piece.start < piece.end && u64::from(piece.end) <= LEAF_SECTORS);
        debug_assert!(piece.start >> CHUNK_BITS == (piece.end - 1) >> CHUNK_BITS);
        debug_assert!(offset.0 >> OFFSET_BITS == 0);
        let head = piece.start << START_SHIFT
            | (piece.end - piece.start - 1) << LEN_SHIFT
            | offset.0 >> OFFSET_LOW_BITS;
        Self {
            head: head.to_le_bytes(),
            object: object.0.to_le_bytes(),
            offset: (offset.0 as u16).to_le_bytes(),
        }
    }

    pub(super) fn unpack(self) -> Piece {
        let head = u32::from_le_bytes(self.head);
        let start = head >> START_SHIFT;
        let len = (head >> LEN_SHIFT & ((1 << LEN_BITS) - 1)) + 1;
        let offset_high = head & ((1 << OFFSET_HIGH_BITS) - 1);
        let offset_low = u32::from(u16::from_le_bytes(self.offset));
        Piece {
            start,
            end: start + len,
            location: Location {
                object: ObjectSlot(u32::from_le_bytes(self.object)),
                offset: DataOffset(offset_high << OFFSET_LOW_BITS | offset_low),
            },
        }
    }

    pub(super) fn start(self) -> u32 {
        u32::from_le_bytes(self.head) >> START_SHIFT
    }

    pub(super) fn end(self) -> u32 {
        self.unpack().end
    }
}
