//! A data object: its entries, and the checksum of every block.

use lsvd::bytes::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES};
use lsvd::bytes::data_object::{DataHeader, Layout};
use lsvd::bytes::entry::{ENTRY_BYTES, Entry, EntryKind};
use lsvd::bytes::object_header::ObjectError;
use lsvd::words::name::ObjectKind;

use super::header::{Header, hex};
use super::report::{Report, Row};

pub(super) fn show(bytes: &[u8], header: &Header, report: &mut Report<'_>) {
    entries(header.rest(bytes), report);
    if let Err(error) = DataHeader::decode(bytes) {
        report.problem(error.to_string());
    }
    let layout = Layout::new(header.entry_count, header.data_len);
    match &layout {
        Ok(layout) if layout.object_len() != bytes.len() as u64 => {
            let error = ObjectError::ObjectLength {
                expected: layout.object_len(),
                found: bytes.len() as u64,
            };
            report.problem(error.to_string());
        }
        Ok(_) => {}
        Err(error) => report.problem(error.to_string()),
    }
    blocks(bytes, header, layout.ok(), report);
}

fn entries(bytes: &[u8], report: &mut Report<'_>) {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    report.begin_table("entries", entries.len() as u64);
    for (number, entry) in entries.iter().enumerate() {
        let mut row: Row = vec![("entry", number.into())];
        match Entry::decode(entry) {
            Some(entry) => row.extend(entry_fields(&entry)),
            None => {
                row.push(("bytes", hex(entry).into()));
                report.problem(format!("entry {number} is not one that is ever written"));
            }
        }
        report.row(&row);
    }
    if !rest.is_empty() {
        report.problem(format!(
            "{} bytes behind the entries are no entry",
            rest.len()
        ));
    }
}

fn entry_fields(entry: &Entry) -> Row {
    let (kind, offset) = match entry.kind {
        EntryKind::Write(offset) => ("write", Some(offset.bytes())),
        EntryKind::Discard => ("discard", None),
        EntryKind::WriteZeroes => ("write-zeroes", None),
    };
    let mut row: Row = vec![
        ("kind", kind.into()),
        ("lba", entry.range.start.0.into()),
        ("sectors", entry.range.sectors().into()),
    ];
    row.extend(offset.map(|offset| ("data offset", offset.into())));
    row
}

/// Where the lengths in the header make no sense, all that follows the header counts as blocks.
fn blocks(bytes: &[u8], header: &Header, layout: Option<Layout>, report: &mut Report<'_>) {
    let start = layout.map_or(header.header_len, |layout| layout.header_len() as usize);
    let stored = bytes.get(start..).unwrap_or_default();
    let there = stored.len().div_ceil(STORED_BLOCK_BYTES);
    let count = layout.map_or(there, |layout| layout.block_count() as usize);
    let place = Place::of(header.volume, header.name(ObjectKind::Data));
    let mut chunks = stored.chunks(STORED_BLOCK_BYTES);
    report.begin_table("blocks", count as u64);
    for (number, index) in (0_u32..).zip(0..count) {
        let block = chunks.next().unwrap_or_default();
        let crc = block.get(BLOCK_BYTES..).unwrap_or_default();
        let verdict = match block.len() {
            STORED_BLOCK_BYTES if place.verify(number, block).is_some() => "matches",
            STORED_BLOCK_BYTES => "does not match",
            _ => "is cut off",
        };
        if verdict != "matches" {
            report.problem(format!("the checksum of block {number} {verdict}"));
        }
        report.row(&[
            ("block", number.into()),
            ("at", (start + index * STORED_BLOCK_BYTES).into()),
            ("crc", hex(crc).into()),
            ("checksum", verdict.into()),
        ]);
    }
}
