//! The checkpoint: extent map and object table as they were at one point of the data stream, its
//! cut. `docs/format.md` has the byte tables.
//!
//! A checkpoint consists of pieces: extents of a part of a region of the volume, or rows of the
//! object table. Pieces lie in the payload of checkpoint objects, each under a checksum of its own.
//! The *root* is the object that lists all of them, those of older objects included; a *part* lists
//! those that it holds itself.

mod content;
mod piece;
mod varint;

use std::ops::Range;

use super::fields::{u32_at, u64_at};
use super::object_header::{FIXED_HEADER_BYTES, ObjectError, ObjectHeader};
use crate::words::limits::VOLUME_BYTES_MAX;
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};
use crate::words::units::{Extent, Lba, LbaRange, SECTOR_BYTES};

use piece::{PIECE_ROW_BYTES, decode_piece, encode_piece};

pub use content::ObjectRow;
pub use piece::{PIECE_FIELDS, Payload, Piece, PieceStart};

/// Most rows of the object table in a piece. All but the last piece of a table have as many, so
/// that a full one never changes as objects are added.
pub const PIECE_ROWS_MAX: usize = 4096;

/// Most extents in a piece; a region with more has more pieces.
pub const PIECE_EXTENTS_MAX: usize = 1 << 16;

/// Largest piece in bytes: no extent takes more than 24.
pub const PIECE_BYTES_MAX: u64 = 24 * PIECE_EXTENTS_MAX as u64;

/// Most pieces that a checkpoint lists.
pub const PIECES_MAX: usize = 1 << 21;

/// Most other objects that a checkpoint names.
pub const REFERENCES_MAX: usize = 1 << 12;

/// Largest checkpoint object in bytes that is written or read: the longest list, and as much payload as any
/// writer puts into one object.
pub const CHECKPOINT_BYTES_MAX: u64 = 256 << 20;

/// Bytes of what follows the fixed header, before the lists.
const HEAD_BYTES: usize = 40;

const REFERENCE_BYTES: usize = 8;

/// Where the fields behind the fixed header lie, from its end on.
mod at {
    use std::ops::Range;

    pub(super) const FORM: usize = 0;
    pub(super) const RESERVED_1: Range<usize> = 1..4;
    pub(super) const OBJECT_COUNT: Range<usize> = 4..8;
    pub(super) const SECTORS: Range<usize> = 8..16;
    pub(super) const REGION_SECTORS: Range<usize> = 16..24;
    pub(super) const CUT: Range<usize> = 24..32;
    pub(super) const REFERENCE_COUNT: Range<usize> = 32..36;
    pub(super) const RESERVED_2: Range<usize> = 36..40;
}

const _: () = assert!(at::RESERVED_2.end == HEAD_BYTES);

/// The fields behind the fixed header by name, in order and without gaps: what `docs/format.md`
/// shows.
pub const HEAD_FIELDS: [(&str, Range<usize>); 8] = [
    ("form", at::FORM..at::FORM + 1),
    ("reserved 1", at::RESERVED_1),
    ("object count", at::OBJECT_COUNT),
    ("sectors", at::SECTORS),
    ("region sectors", at::REGION_SECTORS),
    ("cut", at::CUT),
    ("reference count", at::REFERENCE_COUNT),
    ("reserved 2", at::RESERVED_2),
];

/// What a checkpoint object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// It holds pieces for a root.
    Part = 1,
    /// It is the checkpoint.
    Root = 2,
}

/// Everything about a checkpoint object but its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The volume it belongs to.
    pub volume: VolumeUuid,
    /// Its id, and so its name.
    pub id: ObjectId,
    /// The root of the checkpoint before it.
    pub predecessor: Option<ObjectId>,
    /// Random bits that tell this very object from any other under the same name.
    pub write_id: u128,
    /// When it was made: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The last data object known to be persisted when it was made.
    pub persisted: Option<ObjectId>,
    /// What it is for.
    pub form: Form,
    /// Number of rows of the object table; 0 in a part.
    pub object_count: u32,
    /// Sectors of the volume.
    pub sectors: u64,
    /// Sectors of a region, a power of two.
    pub region_sectors: u64,
    /// The last data object whose writes are in it.
    pub cut: ObjectId,
    /// Its pieces: first the rows, then the extents, each ascending.
    pub pieces: Vec<Piece>,
    /// Bytes behind the header.
    pub payload_len: u64,
}

const fn header_len(references: usize, pieces: usize) -> usize {
    FIXED_HEADER_BYTES + HEAD_BYTES + references * REFERENCE_BYTES + pieces * PIECE_ROW_BYTES
}

impl Checkpoint {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> ObjectName {
        Self::name_of(self.id)
    }

    /// The name of the checkpoint object with this id.
    #[must_use]
    pub const fn name_of(id: ObjectId) -> ObjectName {
        ObjectName {
            kind: ObjectKind::Checkpoint,
            id,
        }
    }

    /// Bytes of the whole object.
    #[must_use]
    pub fn object_len(&self) -> u64 {
        header_len(self.references().len(), self.pieces.len()) as u64 + self.payload_len
    }

    /// The other objects that hold pieces of it, ascending.
    #[must_use]
    pub fn references(&self) -> Vec<ObjectId> {
        let objects = self.pieces.iter().map(|piece| piece.object);
        let mut others: Vec<ObjectId> = objects.filter(|object| *object != self.id).collect();
        others.sort_unstable();
        others.dedup();
        others
    }

    /// The bytes of the header; the payload follows them.
    ///
    /// # Errors
    /// When it says what no checkpoint may say.
    pub fn encode(&self) -> Result<Vec<u8>, ObjectError> {
        let references = self.references();
        self.check(&references)?;
        let mut rest = vec![0; HEAD_BYTES];
        rest[at::FORM] = self.form as u8;
        rest[at::OBJECT_COUNT].copy_from_slice(&self.object_count.to_le_bytes());
        rest[at::SECTORS].copy_from_slice(&self.sectors.to_le_bytes());
        rest[at::REGION_SECTORS].copy_from_slice(&self.region_sectors.to_le_bytes());
        rest[at::CUT].copy_from_slice(&self.cut.as_u64().to_le_bytes());
        let count = |count: usize| u32::try_from(count).map_err(|_| ObjectError::Length);
        let reference_count = count(references.len())?;
        rest[at::REFERENCE_COUNT].copy_from_slice(&reference_count.to_le_bytes());
        for reference in &references {
            rest.extend_from_slice(&reference.as_u64().to_le_bytes());
        }
        for piece in &self.pieces {
            rest.extend_from_slice(&encode_piece(piece, self.id, &references)?);
        }
        let header = ObjectHeader {
            name: self.name(),
            volume: self.volume,
            predecessor: self.predecessor,
            write_id: self.write_id,
            wall_time_ns: self.wall_time_ns,
            persisted: self.persisted,
            data_len: self.payload_len,
            entry_count: count(self.pieces.len())?,
        };
        header.encode(&rest)
    }

    /// Reads the length of the header, in bytes, from the first bytes of an object.
    ///
    /// # Errors
    /// [`ObjectError::Truncated`] where it says how many it needs; else what is wrong.
    pub fn header_len_of(bytes: &[u8]) -> Result<usize, ObjectError> {
        let claimed = ObjectHeader::claimed_lengths(bytes)?;
        let needed = FIXED_HEADER_BYTES + HEAD_BYTES;
        let head = bytes.get(FIXED_HEADER_BYTES..needed);
        let head = head.ok_or(ObjectError::Truncated { needed })?;
        let references = u32_at(head, at::REFERENCE_COUNT) as usize;
        let pieces = claimed.entry_count as usize;
        if references > REFERENCES_MAX
            || pieces > PIECES_MAX
            || claimed.header_len as usize != header_len(references, pieces)
            || claimed.data_len > CHECKPOINT_BYTES_MAX - u64::from(claimed.header_len)
        {
            return Err(ObjectError::Length);
        }
        Ok(claimed.header_len as usize)
    }

    /// Reads a header back from the first bytes of object `id`; `bytes` may go on behind it.
    ///
    /// # Errors
    /// What does not check. [`ObjectError::Truncated`] says how many bytes it needs.
    pub fn decode(bytes: &[u8], volume: VolumeUuid, id: ObjectId) -> Result<Self, ObjectError> {
        let header_len = Self::header_len_of(bytes)?;
        let (header, rest) = ObjectHeader::decode(bytes, header_len, ObjectKind::Checkpoint)?;
        if header.name != Self::name_of(id) || header.volume != volume {
            return Err(ObjectError::Identity {
                volume: header.volume,
                name: header.name,
            });
        }
        let (head, lists) = rest.split_at(HEAD_BYTES);
        let reserved = [&head[at::RESERVED_1], &head[at::RESERVED_2]].concat();
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(ObjectError::Reserved);
        }
        let reference_count = u32_at(head, at::REFERENCE_COUNT) as usize;
        let (references, pieces) = lists.split_at(reference_count * REFERENCE_BYTES);
        let (references, _) = references.as_chunks::<REFERENCE_BYTES>();
        let references: Vec<ObjectId> = references
            .iter()
            .map(|id| ObjectId::from_u64(u64::from_le_bytes(*id)))
            .collect();
        let (pieces, _) = pieces.as_chunks::<PIECE_ROW_BYTES>();
        let pieces = pieces.iter().map(|row| decode_piece(row, id, &references));
        let this = Self {
            volume,
            id,
            predecessor: header.predecessor,
            write_id: header.write_id,
            wall_time_ns: header.wall_time_ns,
            persisted: header.persisted,
            form: match head[at::FORM] {
                1 => Form::Part,
                2 => Form::Root,
                _ => return Err(ObjectError::Index("its form is not known")),
            },
            object_count: u32_at(head, at::OBJECT_COUNT),
            sectors: u64_at(head, at::SECTORS),
            region_sectors: u64_at(head, at::REGION_SECTORS),
            cut: ObjectId::from_u64(u64_at(head, at::CUT)),
            pieces: pieces.collect::<Result<_, _>>()?,
            payload_len: header.data_len,
        };
        this.check(&references)?;
        Ok(this)
    }

    /// What holds in every checkpoint object that is written.
    fn check(&self, references: &[ObjectId]) -> Result<(), ObjectError> {
        let rule = |holds: bool, rule| holds.then_some(()).ok_or(ObjectError::Index(rule));
        rule(
            (1..=VOLUME_BYTES_MAX / SECTOR_BYTES).contains(&self.sectors),
            "the size of the volume is out of range",
        )?;
        rule(
            self.region_sectors.is_power_of_two(),
            "the size of a region is out of range",
        )?;
        rule(
            references.is_sorted_by(|one, next| one < next)
                && references.last().is_none_or(|last| *last < self.id)
                && references == self.references(),
            "the objects that it names are not older ones in order",
        )?;
        rule(
            self.form == Form::Root || (references.is_empty() && self.object_count == 0),
            "a part names what it does not hold",
        )?;
        let limits = self.pieces.len() <= PIECES_MAX && references.len() <= REFERENCES_MAX;
        rule(limits, "its lists are too long")?;
        let len = self
            .payload_len
            .saturating_add(header_len(references.len(), self.pieces.len()) as u64);
        rule(len <= CHECKPOINT_BYTES_MAX, "it is too large to be read")?;
        self.check_order()?;
        self.check_places(references.len())
    }

    /// The pieces are in order, the rows without gaps, each inside what it can be of.
    fn check_order(&self) -> Result<(), ObjectError> {
        let wrong = || ObjectError::Index("its pieces are out of order");
        let mut rows_end = 0;
        for piece in &self.pieces {
            let count = u64::from(piece.count);
            let (max, in_order) = match piece.start {
                PieceStart::Rows(slot) => {
                    let gapless = self.form == Form::Part || u64::from(slot.0) == rows_end;
                    rows_end = u64::from(slot.0) + count;
                    (PIECE_ROWS_MAX as u64, gapless)
                }
                PieceStart::Extents(lba) => (PIECE_EXTENTS_MAX as u64, lba.0 < self.sectors),
            };
            let bounded =
                (1..=max).contains(&count) && (1..=PIECE_BYTES_MAX).contains(&u64::from(piece.len));
            if !in_order || !bounded {
                return Err(wrong());
            }
        }
        let ascending = self.pieces.is_sorted_by(|one, next| one.start < next.start);
        let complete = self.form == Form::Part || rows_end == u64::from(self.object_count);
        (ascending && complete).then_some(()).ok_or_else(wrong)
    }

    /// The pieces that it holds itself are its payload, all of it; those of other objects lie behind
    /// their headers.
    fn check_places(&self, references: usize) -> Result<(), ObjectError> {
        let header_len = header_len(references, self.pieces.len()) as u64;
        let mut own: Vec<(u64, u32)> = Vec::new();
        let mut inside = true;
        for piece in &self.pieces {
            if piece.object == self.id {
                own.push((piece.offset, piece.len));
            } else {
                let end = piece.offset.checked_add(u64::from(piece.len));
                inside &= piece.offset >= (FIXED_HEADER_BYTES + HEAD_BYTES) as u64
                    && end.is_some_and(|end| end <= CHECKPOINT_BYTES_MAX);
            }
        }
        own.sort_unstable();
        let mut end = header_len;
        for (offset, len) in own {
            inside &= offset == end;
            end = end.saturating_add(u64::from(len));
        }
        if inside && end == header_len.saturating_add(self.payload_len) {
            Ok(())
        } else {
            Err(ObjectError::Index("its pieces are not its payload"))
        }
    }

    /// The sectors that piece `index` is of; empty for rows of the object table.
    #[must_use]
    pub fn span(&self, index: usize) -> LbaRange {
        let start_of = |index: usize| match self.pieces.get(index)?.start {
            PieceStart::Extents(lba) => Some(lba),
            PieceStart::Rows(_) => None,
        };
        let Some(start) = start_of(index) else {
            return LbaRange::new(Lba(0), Lba(0));
        };
        let region = start.0 - start.0 % self.region_sectors;
        let region_end = region.saturating_add(self.region_sectors).min(self.sectors);
        let next = start_of(index + 1).map_or(u64::MAX, |lba| lba.0);
        LbaRange::new(start, Lba(region_end.min(next)))
    }

    /// Reads the rows of the object table from piece `index`, whose bytes are `bytes`.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode_rows(&self, index: usize, bytes: &[u8]) -> Result<Vec<ObjectRow>, ObjectError> {
        let piece = self.checked(index, bytes)?;
        let rows = content::decode_rows(bytes, piece.count);
        rows.ok_or(ObjectError::PieceContent(piece.offset))
    }

    /// Calls `visit` with the extents of piece `index`, whose bytes are `bytes`, ascending; `visit`
    /// says whether they can be.
    ///
    /// # Errors
    /// What does not check; some extents were visited then.
    pub fn decode_extents(
        &self,
        index: usize,
        bytes: &[u8],
        mut visit: impl FnMut(Extent) -> bool,
    ) -> Result<(), ObjectError> {
        let piece = self.checked(index, bytes)?;
        let visit = |extent| visit(extent).then_some(());
        content::decode_extents(bytes, self.span(index), piece.count, visit)
            .ok_or(ObjectError::PieceContent(piece.offset))
    }

    fn checked(&self, index: usize, bytes: &[u8]) -> Result<&Piece, ObjectError> {
        let piece = self.pieces.get(index);
        let piece = piece.ok_or(ObjectError::Index("it has no such piece"))?;
        if bytes.len() == piece.len as usize && crc32c::crc32c(bytes) == piece.crc {
            Ok(piece)
        } else {
            Err(ObjectError::Piece(piece.offset))
        }
    }

    /// Reads a whole object: its header, its exact length, and every piece that it holds.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode_object(
        bytes: &[u8],
        volume: VolumeUuid,
        id: ObjectId,
    ) -> Result<Self, ObjectError> {
        let this = Self::decode(bytes, volume, id)?;
        if bytes.len() as u64 != this.object_len() {
            return Err(ObjectError::ObjectLength {
                expected: this.object_len(),
                found: bytes.len() as u64,
            });
        }
        for (index, piece) in this.pieces.iter().enumerate() {
            if piece.object != id {
                continue;
            }
            let wrong = ObjectError::PieceContent(piece.offset);
            let start = usize::try_from(piece.offset).map_err(|_| wrong.clone())?;
            let content = bytes.get(start..start + piece.len as usize).ok_or(wrong)?;
            match piece.start {
                PieceStart::Rows(_) => drop(this.decode_rows(index, content)?),
                PieceStart::Extents(_) => this.decode_extents(index, content, |_| true)?,
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests;
