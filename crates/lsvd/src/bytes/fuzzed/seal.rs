//! Bytes with their checksums made right, as far as they can be found.

use std::ops::Range;

use crate::bytes::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES, checksum_of};
use crate::bytes::checkpoint::{Checkpoint, PIECE_FIELDS};
use crate::bytes::data_object::DataHeader;
use crate::bytes::fields::{u16_at, u32_at, u64_at};
use crate::bytes::log::{
    FILE_HEADER_BYTES, HEADER_COPIES, RECORD_FIELDS, RECORD_HEADER_BYTES, sums_of,
};
use crate::bytes::object_header::{FIELDS, FIXED_HEADER_BYTES};
use crate::words::units::SECTOR;

/// Where the field with this name lies.
pub(super) fn range_of(fields: &[(&str, Range<usize>)], name: &str) -> Range<usize> {
    let field = fields.iter().find(|(field, _)| *field == name);
    field.expect("the field is in its table").1.clone()
}

/// Puts the CRC32C of `bytes` into `crc`, which counts as 0.
fn put(bytes: &mut [u8], crc: Range<usize>) {
    bytes[crc.clone()].fill(0);
    let sum = crc32c::crc32c(bytes);
    bytes[crc].copy_from_slice(&sum.to_le_bytes());
}

fn object_header(bytes: &mut [u8], header_len: usize) {
    if header_len >= FIXED_HEADER_BYTES
        && let Some(header) = bytes.get_mut(..header_len)
    {
        put(header, range_of(&FIELDS, "header CRC"));
    }
}

pub(super) fn data_object(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Ok(header_len) = DataHeader::len_of(&bytes) else {
        return bytes;
    };
    object_header(&mut bytes, header_len);
    let Ok(header) = DataHeader::decode(&bytes) else {
        return bytes;
    };
    let place = Place::of(header.volume, header.name());
    let blocks = bytes[header_len..].chunks_exact_mut(STORED_BLOCK_BYTES);
    for (number, block) in (0..).zip(blocks) {
        let (data, crc) = block.split_at_mut(BLOCK_BYTES);
        crc.copy_from_slice(&place.bind(number, checksum_of(data)).to_le_bytes());
    }
    bytes
}

/// All the bytes are its header, however long its text became.
pub(super) fn superblock(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let len = bytes.len();
    if len >= FIXED_HEADER_BYTES
        && let Ok(header_len) = u32::try_from(len)
    {
        let field = range_of(&FIELDS, "header length");
        bytes[field].copy_from_slice(&header_len.to_le_bytes());
        object_header(&mut bytes, len);
    }
    bytes
}

pub(super) fn checkpoint(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Ok(header_len) = Checkpoint::header_len_of(&bytes) else {
        return bytes;
    };
    let Some((header, payload)) = bytes.split_at_mut_checked(header_len) else {
        return bytes;
    };
    let field = |name| range_of(&PIECE_FIELDS, name);
    let row_len = field("CRC").end;
    let count = u32_at(header, range_of(&FIELDS, "entry count")) as usize;
    for row in header[header_len - count * row_len..].chunks_exact_mut(row_len) {
        let start = u64_at(row, field("offset")).checked_sub(header_len as u64);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let content = start.and_then(|start| {
            let end = start.checked_add(u32_at(row, field("length")) as usize)?;
            payload.get(start..end)
        });
        if u16_at(row, field("object")) == 0
            && let Some(content) = content
        {
            row[field("CRC")].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        }
    }
    object_header(&mut bytes, header_len);
    bytes
}

pub(super) fn file_header(bytes: &mut [u8]) {
    let copies = bytes.chunks_exact_mut(FILE_HEADER_BYTES);
    for copy in copies.take(HEADER_COPIES) {
        put(copy, 64..68);
    }
}

/// Makes the records right that follow one another from the beginning on.
pub(super) fn segment(bytes: &mut [u8], block_bytes: u32) {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..)
        && let Some(len) = record(rest, &mut entries, block_bytes as usize)
    {
        at += len;
    }
}

/// Makes the record at the start of `rest` right, behind records with these entries; gives its
/// length, where it is one. Its own checksum is made right also where nothing else can be.
fn record(rest: &mut [u8], entries: &mut Vec<u8>, unit: usize) -> Option<usize> {
    let fixed = rest.get(..RECORD_HEADER_BYTES)?;
    let header_len = u32_at(fixed, range_of(&RECORD_FIELDS, "header length")) as usize;
    if !(RECORD_HEADER_BYTES..=rest.len()).contains(&header_len) {
        return None;
    }
    let len = record_content(rest, header_len, entries, unit);
    let crc = range_of(&RECORD_FIELDS, "reserved 2 and CRC");
    put(&mut rest[..header_len], crc.end - 4..crc.end);
    len
}

/// The same of all but the record's own checksum.
fn record_content(
    rest: &mut [u8],
    header_len: usize,
    entries: &mut Vec<u8>,
    unit: usize,
) -> Option<usize> {
    let number = |name| u32_at(rest, range_of(&RECORD_FIELDS, name));
    let (first_sector, sectors) = (number("first sector"), number("sectors"));
    let ends = rest[range_of(&RECORD_FIELDS, "flags").start] & 1 != 0;
    let data_at = header_len.next_multiple_of(unit);
    let data_len = sectors as usize * SECTOR;
    let data = rest.get(data_at..data_at + data_len)?;
    let sums = sums_of(first_sector, data, |_| None);
    let sums_at = header_len.checked_sub(sums.len() * 4)?;
    let object_len = if ends { FIXED_HEADER_BYTES } else { 0 };
    let entries_at = RECORD_HEADER_BYTES + object_len;
    entries.extend_from_slice(rest.get(entries_at..sums_at)?);
    for (field, sum) in rest[sums_at..header_len].chunks_exact_mut(4).zip(sums) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
    if ends {
        let object = &mut rest[RECORD_HEADER_BYTES..entries_at];
        let mut whole = [&*object, entries].concat();
        put(&mut whole, range_of(&FIELDS, "header CRC"));
        object.copy_from_slice(&whole[..FIXED_HEADER_BYTES]);
    }
    Some(data_at + data_len.next_multiple_of(unit))
}
