//! Tests of the log's format: what is written is read back, and nothing else ever is.

mod golden;

use uuid::Uuid;

use super::{
    BadData, FileHeader, LogError, RECORD_FIELDS, Record, RecordBounds, SyncedMark, scan, sums_of,
};
use crate::bytes::data_object::DataHeader;
use crate::bytes::documented_fields;
use crate::bytes::entry::{Entry, EntryKind};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::words::name::ObjectId;
use crate::words::units::{DataOffset, Lba, LbaRange, SECTOR};

const LOG: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const VOLUME: Uuid = Uuid::from_u128(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20);

/// The header of a log.
fn log_of(log: Uuid, volume: Uuid, block_bytes: u32) -> FileHeader {
    FileHeader {
        log,
        volume,
        segment_bytes: 81920,
        segments: 5,
        block_bytes,
    }
}

fn pattern(sectors: u32, seed: u8) -> Vec<u8> {
    (0..sectors as usize * SECTOR)
        .map(|i| u8::try_from((i * 37 + usize::from(seed) * 11) % 251).unwrap())
        .collect()
}

fn write(lba: u64, offset: u32, sectors: u64) -> Entry {
    Entry {
        range: LbaRange::with_len(Lba(lba), sectors),
        kind: EntryKind::Write(DataOffset(offset)),
    }
}

/// A segment with a batch of `lens` records; the last ends it where `ended`.
fn segment(block_bytes: u32, lens: &[u32], ended: bool) -> Vec<u8> {
    let batch = ObjectId::from_u64(7);
    let mut bytes = Vec::new();
    let mut all = Vec::new();
    let mut first_sector = 0;
    for (number, sectors) in (0_u32..).zip(lens.iter().copied()) {
        let data = pattern(sectors, u8::try_from(number).unwrap());
        let mut entries = vec![write(
            u64::from(number) * 100,
            first_sector,
            u64::from(sectors),
        )];
        entries.retain(|entry| !entry.range.is_empty());
        let first_entry = u32::try_from(all.len()).unwrap();
        all.extend(entries.clone());
        let last = ended && number as usize + 1 == lens.len();
        let header = DataHeader {
            volume: VOLUME,
            id: batch,
            predecessor: Some(ObjectId::from_u64(6)),
            write_id: 99,
            wall_time_ns: 1,
            persisted: None,
            data_len: u64::from(first_sector + sectors) * 512,
            entries: all.clone(),
        };
        let fixed = header.encode().unwrap();
        let record = Record {
            log: LOG,
            batch,
            predecessor: Some(ObjectId::from_u64(6)),
            place: u32::try_from(bytes.len()).unwrap(),
            first_entry,
            entries,
            first_sector,
            sectors,
            sums: sums_of(first_sector, &data, |_| None),
            synced: (number > 0).then_some(SyncedMark {
                batch,
                position: number,
            }),
            persisted: Some(ObjectId::from_u64(3)),
            wall_time_ns: 5,
            object_header: last.then(|| fixed[..FIXED_HEADER_BYTES].try_into().unwrap()),
            is_mark: false,
        };
        let header = record.encode(block_bytes);
        assert_eq!(header.len(), record.padded_header_len(block_bytes) as usize);
        let bounds = RecordBounds { block_bytes };
        let most = bounds.record_max(record.entries.len(), sectors) + bounds.end_max();
        assert!(u64::from(record.len(block_bytes)) <= most);
        bytes.extend(header);
        bytes.extend(data);
        bytes.resize(record.place as usize + record.len(block_bytes) as usize, 0);
        first_sector += sectors;
    }
    bytes
}

#[test]
fn a_segment_is_read_back_as_it_was_written() {
    for (block, lens) in [(512, &[3_u32, 1, 20, 8][..]), (4096, &[8, 16, 5])] {
        let bytes = segment(block, lens, true);
        let scanned = scan(&bytes, &log_of(LOG, VOLUME, block), BadData::Ends).unwrap();
        assert_eq!(scanned.sectors, lens.iter().sum::<u32>());
        assert_eq!(scanned.end as usize, bytes.len());
        assert_eq!(scanned.entries.len(), lens.len());
        assert_eq!(scanned.header.unwrap().entries, scanned.entries);
        let mut data = Vec::new();
        for slice in &scanned.slices {
            let at = slice.data_at as usize;
            data.extend_from_slice(&bytes[at..at + slice.sectors as usize * SECTOR]);
        }
        let sums = sums_of(0, &data, |_| None);
        assert_eq!(scanned.sums, sums, "gathered from the records' parts");
    }
}

#[test]
fn another_logs_segment_is_not_read() {
    let bytes = segment(512, &[3, 1], true);
    assert_eq!(
        scan(&bytes, &log_of(Uuid::nil(), VOLUME, 512), BadData::Ends),
        None
    );
    let other = scan(&bytes, &log_of(LOG, Uuid::nil(), 512), BadData::Ends).unwrap();
    assert_eq!(other.header, None, "its end names another volume");
}

/// Whatever happens to the bytes: what is read is a prefix of what was written, record by record.
fn assert_prefix(bytes: &[u8], whole: &[u8], block: u32, what: &str) {
    let all = scan(whole, &log_of(LOG, VOLUME, block), BadData::Ends).unwrap();
    let Some(found) = scan(bytes, &log_of(LOG, VOLUME, block), BadData::Ends) else {
        return;
    };
    assert_eq!(
        found.entries[..],
        all.entries[..found.entries.len()],
        "{what}"
    );
    assert_eq!(found.slices[..], all.slices[..found.slices.len()], "{what}");
    for slice in &found.slices {
        let range =
            slice.data_at as usize..slice.data_at as usize + slice.sectors as usize * SECTOR;
        assert_eq!(bytes[range.clone()], whole[range], "{what}: wrong data");
    }
    if found.header.is_some() {
        assert_eq!(found.entries.len(), all.entries.len(), "{what}");
    }
}

#[test]
fn a_segment_cut_at_any_length_gives_a_prefix() {
    let whole = segment(512, &[3, 1, 20, 8], true);
    for len in 0..whole.len() {
        assert_prefix(&whole[..len], &whole, 512, &format!("cut at {len}"));
        let mut zeroed = whole.clone();
        zeroed[len..].fill(0);
        assert_prefix(&zeroed, &whole, 512, &format!("zeroes from {len}"));
    }
}

#[test]
fn a_flipped_bit_anywhere_gives_a_prefix() {
    let mut bytes = segment(512, &[3, 1, 9], true);
    let whole = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_prefix(&bytes, &whole, 512, &format!("bit {bit}"));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_sector_of_an_earlier_use_of_the_segment_gives_a_prefix() {
    let whole = segment(512, &[3, 1, 20, 8], true);
    let mut older = segment(512, &[1, 2, 3, 9, 10], true);
    older.resize(whole.len(), 0x5a);
    for sector in 0..whole.len() / SECTOR {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        let mut bytes = whole.clone();
        bytes[range.clone()].copy_from_slice(&older[range]);
        if bytes != whole {
            // Both are the same batch on purpose: the worst case.
            let found = scan(&bytes, &log_of(LOG, VOLUME, 512), BadData::Ends);
            if sector > 0 {
                assert_prefix(&bytes, &whole, 512, &format!("sector {sector}"));
            } else {
                assert!(found.is_none_or(|found| found.header.is_none()));
            }
        }
    }
}

#[test]
fn a_file_header_is_read_from_either_copy_and_never_wrong() {
    let header = FileHeader {
        log: LOG,
        volume: VOLUME,
        segment_bytes: 1 << 20,
        segments: 9000,
        block_bytes: 512,
    };
    assert!(header.file_bytes() > 4 << 30);
    assert_eq!(header.segment_at(8999) + (1 << 20), header.file_bytes());
    let copy = header.encode();
    let mut both = [copy.clone(), copy].concat();
    assert_eq!(FileHeader::decode(&both), Ok(header));
    for bit in 0..4096 * 8 {
        both[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(FileHeader::decode(&both), Ok(header), "bit {bit}");
        assert!(FileHeader::decode(&both[..4096]).is_err(), "bit {bit}");
        both[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(FileHeader::decode(&both[..100]), Err(LogError::Truncated));
}

#[test]
fn the_documentation_shows_the_fields_that_are_written() {
    let fields = RECORD_FIELDS.map(|(name, range)| (name.to_owned(), range.start, range.len()));
    assert_eq!(documented_fields("record header"), fields);
}

/// A segment of format version 1, and the header of a log. They never change: a program of tomorrow
/// reads them.
#[test]
fn the_golden_segment_and_file_header_are_written_and_read() {
    let header = log_of(LOG, VOLUME, 512);
    let written = [header.encode(), segment(512, &[3, 1, 9], true)].concat();
    if let Some(path) = std::env::var_os("LSVD_WRITE_GOLDEN_LOG") {
        std::fs::write(path, &written).unwrap();
    }
    let golden = include_bytes!("golden-v1.log");
    assert!(written == golden, "the bytes of a log have changed");
    assert_eq!(FileHeader::decode(golden), Ok(header));
    let scanned = scan(&golden[4096..], &log_of(LOG, VOLUME, 512), BadData::Ends).unwrap();
    assert_eq!((scanned.entries.len(), scanned.sectors), (3, 13));
    assert!(scanned.header.is_some());
}
