//! Whole objects that were torn: cut at any byte, or with a sector in which something else lies.
//! Each reader finds that out, or reads what was written.

use std::iter;

use super::*;
use crate::bytes::block::checksum_of;
use crate::words::units::SECTOR;

/// Sectors of each write: objects have blocks that are shared, whole and filled up.
const LENGTHS: [u64; 7] = [1, 8, 3, 5, 2, 1, 1];

/// A whole object of under 16 KiB with `count` entries, the last of them writes. What `seed` differs
/// in, differs in every entry and every sector of data.
fn object(id: ObjectId, seed: u64, count: usize) -> (DataHeader, Vec<u8>) {
    let mut entries = Vec::new();
    let mut free = 0;
    let discards = iter::repeat_n(None, count - LENGTHS.len());
    let lengths = discards.chain(LENGTHS.map(Some));
    for (number, sectors) in (0..).zip(lengths) {
        let range = |sectors| LbaRange::with_len(Lba((number << 16) + (seed << 8)), sectors);
        entries.push(match sectors {
            None => Entry {
                range: range(number + 1),
                kind: EntryKind::Discard,
            },
            Some(sectors) => Entry {
                range: range(sectors),
                kind: EntryKind::Write(DataOffset(free)),
            },
        });
        free += u32::try_from(sectors.unwrap_or_default()).unwrap();
    }
    let header = DataHeader {
        id,
        write_id: u128::from(seed),
        data_len: DataOffset(free).bytes(),
        entries,
        ..sample()
    };
    let mut data: Vec<u8> = (0..header.data_len)
        .map(|i| u8::try_from((i / 3 + i / 512 * 7 + seed * 101) % 251).unwrap())
        .collect();
    data.resize(data.len().next_multiple_of(BLOCK_BYTES), 0);
    let place = Place::of(header.volume, header.name());
    let mut bytes = header.encode().unwrap();
    for (number, block) in (0..).zip(data.chunks(BLOCK_BYTES)) {
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(&place.bind(number, checksum_of(block)).to_le_bytes());
    }
    assert!(bytes.len() <= 16 << 10);
    assert_eq!(DataHeader::decode_object(&bytes).as_ref(), Ok(&header));
    (header, bytes)
}

/// The data of an entry, as a reader gets it who knows the object from a checkpoint or from having
/// written it: its name, the length of its header, and where in the data area it lies.
fn read(header: &DataHeader, bytes: &[u8], entry: &Entry) -> Option<Vec<u8>> {
    let EntryKind::Write(offset) = entry.kind else {
        return Some(Vec::new());
    };
    let mut out = vec![0; usize::try_from(entry.data_sectors()).unwrap() * SECTOR];
    let span = BlockSpan::new(offset, out.len());
    let range = span.stored_range(header.layout().unwrap().header_len());
    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
    // What a store gives of an object that ends before.
    let stored = &bytes[range.start.min(bytes.len())..range.end.min(bytes.len())];
    let place = Place::of(header.volume, header.name());
    span.extract(place, stored, &mut out).ok()?;
    Some(out)
}

/// Every way to read gives an error, or what is in the object that is `whole`; a header that is read
/// alone may be `other`. Says whether all of it was read.
fn assert_never_wrong(
    (header, whole): (&DataHeader, &[u8]),
    other: Option<&DataHeader>,
    bytes: &[u8],
    what: &str,
) -> bool {
    for entry in &header.entries {
        let found = read(header, bytes, entry);
        assert!(
            found.is_none() || found == read(header, whole, entry),
            "{what}: wrong data"
        );
    }
    let named = |found: &DataHeader| found.check_identity(header.volume, header.name()).is_ok();
    if let Ok(found) = DataHeader::decode(bytes)
        && named(&found)
    {
        let is_other = other == Some(&found);
        assert!(found == *header || is_other, "{what}: a wrong header");
    }
    let found = DataHeader::decode_object(bytes);
    let is_read = found.is_ok_and(|found| named(&found));
    assert!(!is_read || bytes == whole, "{what}: a wrong object");
    is_read
}

const ID: ObjectId = ObjectId::from_u64(3 << 40 | 0x12);

/// Numbers of entries: the header is part of a sector, all but 16 bytes of one, one and a half. With
/// 25 it is exactly one, and whoever exchanges that for the header of another object of the same name
/// has an object that checks.
const COUNTS: [usize; 3] = [7, 24, 40];

#[test]
fn an_object_cut_at_any_byte_is_read_right_or_not_at_all() {
    for count in COUNTS {
        let (header, whole) = object(ID, 1, count);
        for len in 0..whole.len() {
            let what = format!("{count} entries, cut at {len}");
            assert!(
                !assert_never_wrong((&header, &whole), None, &whole[..len], &what),
                "{what}"
            );
        }
    }
}

/// A sector of a file system where a write of it was lost: what lay there before, or nothing.
#[test]
fn an_object_with_an_older_sector_is_read_right_or_not_at_all() {
    for count in COUNTS {
        let (header, whole) = object(ID, 1, count);
        let len = whole.len();
        let (renamed, other_bytes) = object(ID, 2, count);
        let (_, other_object) = object(ObjectId::from_u64(ID.as_u64() - 1), 3, count);
        // Its header is of another length, and so are the places of its blocks.
        let (_, mut other_layout) = object(ObjectId::from_u64(ID.as_u64() - 2), 4, count + 3);
        other_layout.truncate(len);
        let older = [
            ("the same name, other bytes", other_bytes),
            ("another object", other_object),
            ("another object of another layout", other_layout),
            ("nothing", vec![0; len]),
        ];
        for (older, old) in &older {
            for start in (0..len).step_by(SECTOR) {
                let range = start..(start + SECTOR).min(len);
                let mut bytes = whole.clone();
                bytes[range.clone()].copy_from_slice(&old[range.clone()]);
                let what = format!("{count} entries, {older} at {start}");
                // A header that was exchanged whole for one of the same name checks: only the name
                // ties it to its blocks. That no name is used for other bytes is the protocol's to
                // see to; the object as a whole is still refused, for its first block.
                let whole_header = header.layout().unwrap().header_len() as usize <= SECTOR;
                let other = (start == 0 && whole_header).then_some(&renamed);
                let is_read = assert_never_wrong((&header, &whole), other, &bytes, &what);
                assert_eq!(is_read, bytes == whole, "{what}");
            }
        }
    }
}
