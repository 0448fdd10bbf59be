//! The pieces of a checkpoint: the payload in which they lie, and the rows that list them.

use std::ops::Range;

use super::{ObjectRow, content, header_len};
use crate::bytes::fields::{u16_at, u32_at, u64_at};
use crate::bytes::object_header::ObjectError;
use crate::words::name::ObjectId;
use crate::words::units::{Extent, Lba, ObjectSlot};

/// Bytes of a row of the list of pieces.
pub(super) const PIECE_ROW_BYTES: usize = 32;

/// Where the fields of a row of the list of pieces lie.
mod at {
    use std::ops::Range;

    pub(super) const KIND: usize = 0;
    pub(super) const RESERVED: usize = 1;
    pub(super) const OBJECT: Range<usize> = 2..4;
    pub(super) const COUNT: Range<usize> = 4..8;
    pub(super) const START: Range<usize> = 8..16;
    pub(super) const OFFSET: Range<usize> = 16..24;
    pub(super) const LEN: Range<usize> = 24..28;
    pub(super) const CRC: Range<usize> = 28..32;
}

const _: () = assert!(at::CRC.end == PIECE_ROW_BYTES);

/// The fields of a row of the list of pieces, as [`HEAD_FIELDS`](super::HEAD_FIELDS).
pub const PIECE_FIELDS: [(&str, Range<usize>); 8] = [
    ("kind", at::KIND..at::KIND + 1),
    ("reserved", at::RESERVED..at::RESERVED + 1),
    ("object", at::OBJECT),
    ("count", at::COUNT),
    ("start", at::START),
    ("offset", at::OFFSET),
    ("length", at::LEN),
    ("CRC", at::CRC),
];

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceStart {
    /// Rows of the object table, from this slot on.
    Rows(ObjectSlot),
    /// Extents, from this sector on to the next piece or the end of the region.
    Extents(Lba),
}

/// A piece, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it holds, and from where on.
    pub start: PieceStart,
    /// Number of rows or extents.
    pub count: u32,
    /// The checkpoint object that has it.
    pub object: ObjectId,
    /// Where in that object, in bytes from its beginning.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// Its CRC32C.
    pub crc: u32,
}

/// Pieces for an object that is not finished: the payload as it grows.
#[derive(Debug, Default)]
pub struct Payload {
    bytes: Vec<u8>,
    pieces: Vec<(PieceStart, u32, Range<usize>, u32)>,
}

impl Payload {
    /// Bytes so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds extents of a region, ascending: from `start` on, which is where the region begins or
    /// the first of them does.
    pub fn push_extents(&mut self, start: Lba, extents: &[Extent]) {
        self.push(PieceStart::Extents(start), extents.len(), |bytes| {
            content::encode_extents(start, extents, bytes);
        });
    }

    /// Adds rows of the object table, from slot `start` on.
    pub fn push_rows(&mut self, start: ObjectSlot, rows: &[ObjectRow]) {
        self.push(PieceStart::Rows(start), rows.len(), |bytes| {
            content::encode_rows(rows, bytes);
        });
    }

    fn push(&mut self, start: PieceStart, count: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        encode(&mut self.bytes);
        let crc = crc32c::crc32c(&self.bytes[from..]);
        let count = u32::try_from(count).expect("a piece has a bound");
        let range = from..self.bytes.len();
        self.pieces.push((start, count, range, crc));
    }

    /// The bytes, and the pieces as they lie in object `id` behind a header that also lists
    /// `others` pieces and `references` objects.
    #[must_use]
    pub fn finish(self, id: ObjectId, others: usize, references: usize) -> (Vec<u8>, Vec<Piece>) {
        let header_len = header_len(references, others + self.pieces.len());
        let placed = |(start, count, range, crc): (_, _, Range<usize>, _)| Piece {
            start,
            count,
            object: id,
            offset: (header_len + range.start) as u64,
            len: u32::try_from(range.len()).expect("a piece has a bound"),
            crc,
        };
        (self.bytes, self.pieces.into_iter().map(placed).collect())
    }
}

const KIND_ROWS: u8 = 1;
const KIND_EXTENTS: u8 = 2;

pub(super) fn encode_piece(
    piece: &Piece,
    own: ObjectId,
    references: &[ObjectId],
) -> Result<[u8; PIECE_ROW_BYTES], ObjectError> {
    let (kind, start) = match piece.start {
        PieceStart::Rows(slot) => (KIND_ROWS, u64::from(slot.0)),
        PieceStart::Extents(lba) => (KIND_EXTENTS, lba.0),
    };
    let object = if piece.object == own {
        0
    } else {
        let found = references.binary_search(&piece.object);
        let at = found.map_err(|_| ObjectError::Index("a piece is in no object"))?;
        u16::try_from(at + 1).map_err(|_| ObjectError::Length)?
    };
    let mut row = [0; PIECE_ROW_BYTES];
    row[at::KIND] = kind;
    row[at::OBJECT].copy_from_slice(&object.to_le_bytes());
    row[at::COUNT].copy_from_slice(&piece.count.to_le_bytes());
    row[at::START].copy_from_slice(&start.to_le_bytes());
    row[at::OFFSET].copy_from_slice(&piece.offset.to_le_bytes());
    row[at::LEN].copy_from_slice(&piece.len.to_le_bytes());
    row[at::CRC].copy_from_slice(&piece.crc.to_le_bytes());
    Ok(row)
}

pub(super) fn decode_piece(
    row: &[u8; PIECE_ROW_BYTES],
    own: ObjectId,
    references: &[ObjectId],
) -> Result<Piece, ObjectError> {
    let start = u64_at(row, at::START);
    let start = match row[at::KIND] {
        KIND_ROWS => u32::try_from(start)
            .map(|slot| PieceStart::Rows(ObjectSlot(slot)))
            .ok(),
        KIND_EXTENTS => Some(PieceStart::Extents(Lba(start))),
        _ => None,
    };
    let object = match u16_at(row, at::OBJECT).checked_sub(1) {
        None => Some(own),
        Some(at) => references.get(usize::from(at)).copied(),
    };
    let (Some(start), Some(object), 0) = (start, object, row[at::RESERVED]) else {
        return Err(ObjectError::Index("a piece is of no kind, or in no object"));
    };
    Ok(Piece {
        start,
        count: u32_at(row, at::COUNT),
        object,
        offset: u64_at(row, at::OFFSET),
        len: u32_at(row, at::LEN),
        crc: u32_at(row, at::CRC),
    })
}
