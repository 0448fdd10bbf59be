//! What the pieces of a checkpoint hold: extents of the map, and rows of the object table, each in
//! as few bytes as their neighbours allow.

use super::varint::{fold, read, unfold, write};
use super::{PIECE_EXTENTS_MAX, PIECE_ROWS_MAX};
use crate::bytes::data_object::Layout;
use crate::bytes::entry::ENTRY_BYTES;
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::name::{ObjectId, ObjectKind};
use crate::words::units::{DataOffset, Extent, Lba, LbaRange, Location, ObjectSlot, SECTOR_BYTES};

/// Sectors of the largest data area.
const OBJECT_SECTORS_MAX: u64 = OBJECT_BYTES_MAX / SECTOR_BYTES;

/// Largest shift: clients mostly write in multiples of eight sectors.
const SHIFT_MAX: u32 = 3;

/// A data object, as the object table lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its id, and so its name.
    pub id: ObjectId,
    /// Bytes before its data area; known, and above zero, once it can be read from the store.
    pub header_len: u32,
    /// Sectors of its data area in use; known when the length of the header is.
    pub data_sectors: u32,
}

/// Encodes `extents`, which ascend without overlap from `start` on and are at most
/// [`PIECE_EXTENTS_MAX`].
pub(super) fn encode_extents(start: Lba, extents: &[Extent], out: &mut Vec<u8>) {
    debug_assert!(extents.len() <= PIECE_EXTENTS_MAX);
    let bits = extents.iter().fold(start.0, |bits, extent| {
        let Extent { range, location } = extent;
        bits | range.start.0 | range.end.0 | u64::from(location.offset.0)
    });
    let shift = bits.trailing_zeros().min(SHIFT_MAX);
    write(out, u64::from(shift));
    let mut end = start.0;
    let (mut len, mut slot) = (0, 0);
    for Extent { range, location } in extents {
        let gap = (range.start.0 - end) >> shift;
        let sectors = range.sectors() >> shift;
        write(out, gap << 1 | u64::from(sectors == len));
        if sectors != len {
            write(out, sectors);
        }
        let object = i64::from(location.object.0);
        write(out, fold(object - slot));
        write(out, u64::from(location.offset.0 >> shift));
        (end, len, slot) = (range.end.0, sectors, object);
    }
}

/// Calls `visit` with `count` extents that lie in `span`; nothing where the bytes are not what
/// [`encode_extents`] makes of such.
pub(super) fn decode_extents(
    mut bytes: &[u8],
    span: LbaRange,
    count: u32,
    mut visit: impl FnMut(Extent) -> Option<()>,
) -> Option<()> {
    let shift = read(&mut bytes)?;
    if shift > u64::from(SHIFT_MAX) {
        return None;
    }
    let mut end = span.start.0;
    let (mut len, mut slot) = (0, 0);
    for _ in 0..count {
        let first = read(&mut bytes)?;
        let start = end.checked_add(unshift(first >> 1, shift)?)?;
        if first & 1 == 0 {
            len = unshift(read(&mut bytes)?, shift)?;
        }
        end = start.checked_add(len)?;
        slot = unfold(read(&mut bytes)?).checked_add(slot)?;
        let offset = unshift(read(&mut bytes)?, shift)?;
        if len == 0 || end > span.end.0 || offset.checked_add(len)? > OBJECT_SECTORS_MAX {
            return None;
        }
        visit(Extent {
            range: LbaRange::new(Lba(start), Lba(end)),
            location: Location {
                object: ObjectSlot(u32::try_from(slot).ok()?),
                offset: DataOffset(u32::try_from(offset).ok()?),
            },
        })?;
    }
    bytes.is_empty().then_some(())
}

fn unshift(value: u64, shift: u64) -> Option<u64> {
    let unshifted = value << shift;
    (unshifted >> shift == value).then_some(unshifted)
}

/// Encodes rows of the object table, at most [`PIECE_ROWS_MAX`].
pub(super) fn encode_rows(rows: &[ObjectRow], out: &mut Vec<u8>) {
    debug_assert!(rows.len() <= PIECE_ROWS_MAX);
    let mut previous = 0_u64;
    for row in rows {
        let id = row.id.as_u64();
        out.push(ObjectKind::Data as u8);
        write(out, fold(id.wrapping_sub(previous).cast_signed()));
        write(out, u64::from(row.header_len));
        write(out, u64::from(row.data_sectors));
        previous = id;
    }
}

/// Reads `count` rows back; nothing where the bytes are not what [`encode_rows`] makes of objects
/// that are stored.
pub(super) fn decode_rows(mut bytes: &[u8], count: u32) -> Option<Vec<ObjectRow>> {
    let mut rows = Vec::with_capacity((count as usize).min(PIECE_ROWS_MAX));
    let mut previous = 0_u64;
    for _ in 0..count {
        let (&kind, rest) = bytes.split_first()?;
        bytes = rest;
        let difference = unfold(read(&mut bytes)?);
        let id = previous.wrapping_add(difference.cast_unsigned());
        let header_len = u32::try_from(read(&mut bytes)?).ok()?;
        let data_sectors = u32::try_from(read(&mut bytes)?).ok()?;
        let entries = (header_len as usize).checked_sub(FIXED_HEADER_BYTES)?;
        let layout = Layout::new(
            entries / ENTRY_BYTES,
            u64::from(data_sectors) * SECTOR_BYTES,
        );
        let possible = layout.is_ok_and(|layout| layout.header_len() == header_len);
        if kind != ObjectKind::Data as u8 || !possible {
            return None;
        }
        rows.push(ObjectRow {
            id: ObjectId::from_u64(id),
            header_len,
            data_sectors,
        });
        previous = id;
    }
    bytes.is_empty().then_some(rows)
}
