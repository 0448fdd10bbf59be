//! Fields of headers, by their places: what all fixed headers have in common.

use std::ops::Range;

use crate::words::name::ObjectId;

/// Stands for no object where one may be named.
const NO_OBJECT: u64 = u64::MAX;

pub(super) fn array_at<const N: usize>(bytes: &[u8], range: Range<usize>) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[range]);
    array
}

pub(super) fn u16_at(bytes: &[u8], range: Range<usize>) -> u16 {
    u16::from_le_bytes(array_at(bytes, range))
}

pub(super) fn u32_at(bytes: &[u8], range: Range<usize>) -> u32 {
    u32::from_le_bytes(array_at(bytes, range))
}

pub(super) fn u64_at(bytes: &[u8], range: Range<usize>) -> u64 {
    u64::from_le_bytes(array_at(bytes, range))
}

pub(super) fn object_at(bytes: &[u8], range: Range<usize>) -> Option<ObjectId> {
    let id = u64_at(bytes, range);
    (id != NO_OBJECT).then(|| ObjectId::from_u64(id))
}

/// How an object, or none, is written.
pub(super) fn object_bytes(id: Option<ObjectId>) -> [u8; 8] {
    id.map_or(NO_OBJECT, ObjectId::as_u64).to_le_bytes()
}

/// Whether the CRC32C at `crc` is that of the header, its own four bytes taken as 0.
pub(super) fn checks(header: &[u8], crc: Range<usize>) -> bool {
    let (before, behind) = (&header[..crc.start], &header[crc.end..]);
    let mut sum = crc32c::crc32c(before);
    sum = crc32c::crc32c_append(sum, &[0; 4]);
    sum = crc32c::crc32c_append(sum, behind);
    sum == u32_at(header, crc)
}
