//! One extent of a chunk in ten bytes.

use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::units::{DataOffset, Location, ObjectSlot, SECTOR_BYTES};

use super::CHUNK_SECTORS;

const OFFSET_BITS: u32 = 17;
const OFFSET_SHIFT: u32 = 32;
const LEN_SHIFT: u32 = OFFSET_SHIFT + OFFSET_BITS;

/// Sectors in the data area of the largest object, the bound of every location.
pub(super) const OBJECT_SECTORS_MAX: u64 = OBJECT_BYTES_MAX / SECTOR_BYTES;

const _: () = assert!(OBJECT_SECTORS_MAX <= 1 << OFFSET_BITS);
const _: () = assert!(CHUNK_SECTORS <= 1 << (u64::BITS - LEN_SHIFT));
const _: () = assert!(CHUNK_SECTORS <= 1 << u16::BITS);

/// An extent, or a part of one, with sector numbers counted from the start of its chunk.
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

    /// Whether `next` follows without a gap, on the volume and in the same object.
    pub(super) fn continues_into(self, next: Self) -> bool {
        self.end == next.start
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

/// A [`Piece`] as a chunk stores it. The start stands alone, since it is all that a search reads;
/// behind it, from the low bits up: object slot, offset, length less one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedExtent {
    start: u16,
    rest: [u8; 8],
}

const _: () = assert!(size_of::<PackedExtent>() == 10);

impl PackedExtent {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a piece starts inside its chunk, and a chunk has at most 2^16 sectors"
    )]
    pub(super) fn pack(piece: Piece) -> Self {
        debug_assert!(piece.start < piece.end && u64::from(piece.end) <= CHUNK_SECTORS);
        let word = u64::from(piece.location.object.0)
            | u64::from(piece.location.offset.0) << OFFSET_SHIFT
            | u64::from(piece.end - piece.start - 1) << LEN_SHIFT;
        Self {
            start: piece.start as u16,
            rest: word.to_le_bytes(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each field is cut to its own width"
    )]
    pub(super) fn unpack(self) -> Piece {
        let word = u64::from_le_bytes(self.rest);
        let start = self.start();
        Piece {
            start,
            end: start + (word >> LEN_SHIFT) as u32 + 1,
            location: Location {
                object: ObjectSlot(word as u32),
                offset: DataOffset((word >> OFFSET_SHIFT) as u32 & ((1 << OFFSET_BITS) - 1)),
            },
        }
    }

    pub(super) fn start(self) -> u32 {
        u32::from(self.start)
    }

    pub(super) fn end(self) -> u32 {
        self.unpack().end
    }
}
