//! Logs of format version 1 with what [`segment`](super::segment) has not: entries without data,
//! a mark, and the other unit of writing. The files never change: a program of tomorrow reads them.

use super::{LOG, VOLUME, log_of, pattern};
use crate::bytes::data_object::DataHeader;
use crate::bytes::entry::{Entry, EntryKind};
use crate::bytes::log::{BadData, FileHeader, Marks, Record, SyncedMark, marks, scan, sums_of};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::words::name::ObjectId;
use crate::words::units::{DataOffset, Lba, LbaRange, SECTOR};

const BATCH: ObjectId = ObjectId::from_u64(2 << 40);
const BEFORE: ObjectId = ObjectId::from_u64(1 << 40 | 0x15);

/// What clients did, record by record: one with all kinds of entries, one without data, and one
/// that begins in the midst of a block.
fn changes() -> [Vec<Entry>; 3] {
    let entry = |lba, sectors, kind| Entry {
        range: LbaRange::with_len(Lba(lba), sectors),
        kind,
    };
    [
        vec![
            entry(8, 3, EntryKind::Write(DataOffset(0))),
            entry(1 << 40, 1 << 33, EntryKind::Discard),
            entry(9, 1, EntryKind::WriteZeroes),
            entry((1 << 48) - 1, 1, EntryKind::Write(DataOffset(3))),
        ],
        vec![
            entry(0, 1 << 48, EntryKind::WriteZeroes),
            entry(77, 8, EntryKind::Discard),
        ],
        vec![entry(16, 6, EntryKind::Write(DataOffset(4)))],
    ]
}

/// A record behind those in `segment`, which adds these entries and their data.
fn record(segment: &[u8], before: &[Entry], entries: &[Entry]) -> (Record, Vec<u8>) {
    let sectors = |entries: &[Entry]| -> u32 {
        let sectors: u64 = entries.iter().map(Entry::data_sectors).sum();
        u32::try_from(sectors).unwrap()
    };
    let place = u32::try_from(segment.len()).unwrap();
    let first_sector = sectors(before);
    let data = pattern(sectors(entries), u8::try_from(before.len()).unwrap());
    let record = Record {
        log: LOG,
        batch: BATCH,
        predecessor: Some(BEFORE),
        place,
        first_entry: u32::try_from(before.len()).unwrap(),
        entries: entries.to_vec(),
        first_sector,
        sectors: sectors(entries),
        sums: sums_of(first_sector, &data, |_| None),
        synced: (place > 0).then_some(SyncedMark {
            batch: BATCH,
            position: place,
        }),
        persisted: None,
        wall_time_ns: 1_700_000_000_000_000_000 + u64::from(place),
        object_header: None,
        is_mark: false,
    };
    (record, data)
}

/// The fixed header of the object that the batch becomes.
fn object_header(entries: &[Entry]) -> [u8; FIXED_HEADER_BYTES] {
    let header = DataHeader {
        volume: VOLUME,
        id: BATCH,
        predecessor: Some(BEFORE),
        write_id: 0xdead_beef_0000_0000_0000_0000_0000_0007,
        wall_time_ns: 1_700_000_000_000_000_000,
        persisted: Some(BEFORE),
        data_len: entries.iter().map(Entry::data_sectors).sum::<u64>() * SECTOR as u64,
        entries: entries.to_vec(),
    };
    *header.encode().unwrap().first_chunk().unwrap()
}

/// A segment of those changes: with an end record, or open with a mark behind the last one.
fn segment(unit: u32, ended: bool) -> Vec<u8> {
    let mut segment = Vec::new();
    let mut all: Vec<Entry> = Vec::new();
    for entries in changes() {
        let (record, data) = record(&segment, &all, &entries);
        segment.extend(record.encode(unit));
        segment.extend(data);
        segment.resize((record.place + record.len(unit)) as usize, 0);
        all.extend(entries);
    }
    let (mut last, _) = record(&segment, &all, &[]);
    last.persisted = Some(BEFORE);
    if ended {
        last.object_header = Some(object_header(&all));
    } else {
        last.is_mark = true;
        last.first_entry = 0;
        last.first_sector = 0;
    }
    segment.extend(last.encode(unit));
    segment
}

/// The segment of a golden file, which is written as it was.
fn checked(name: &str, golden: &'static [u8], unit: u32, ended: bool) -> &'static [u8] {
    let header = log_of(LOG, VOLUME, unit);
    let written = [header.encode(), segment(unit, ended)].concat();
    if let Some(folder) = std::env::var_os("LSVD_WRITE_GOLDEN_LOGS") {
        std::fs::write(std::path::Path::new(&folder).join(name), &written).unwrap();
    }
    assert!(written == golden, "the bytes of {name} have changed");
    assert_eq!(FileHeader::decode(golden), Ok(header));
    &golden[4096..]
}

#[test]
fn the_golden_log_with_a_mark_is_written_and_read() {
    let golden = include_bytes!("../golden-v1-mark.log");
    let segment = checked("golden-v1-mark.log", golden, 512, false);
    let header = log_of(LOG, VOLUME, 512);
    let scanned = scan(segment, &header, BadData::Ends).unwrap();
    assert_eq!((scanned.batch, scanned.predecessor), (BATCH, Some(BEFORE)));
    assert_eq!(scanned.entries, changes().concat());
    assert_eq!(scanned.sectors, 10);
    assert_eq!((scanned.header, scanned.stopped), (None, None), "open");
    // The mark is not part of the batch: the next record is written over it.
    assert_eq!(scanned.end as usize, segment.len() - 512);
    assert_eq!(scanned.persisted, Some(BEFORE), "the mark says so");
    let mark = Marks {
        synced: Some(SyncedMark {
            batch: BATCH,
            position: scanned.end,
        }),
        persisted: Some(BEFORE),
        has_records: true,
    };
    assert_eq!(marks(segment, &header), mark);
    assert!(
        Record::decode(&segment[segment.len() - 512..])
            .unwrap()
            .is_mark
    );
}

#[test]
fn the_golden_log_in_units_of_4096_bytes_is_written_and_read() {
    let golden = include_bytes!("../golden-v1-4096.log");
    let segment = checked("golden-v1-4096.log", golden, 4096, true);
    let header = log_of(LOG, VOLUME, 4096);
    let scanned = scan(segment, &header, BadData::Ends).unwrap();
    assert_eq!(scanned.end as usize, segment.len());
    assert_eq!(scanned.entries, changes().concat());
    let places: Vec<(u32, u32)> = scanned
        .slices
        .iter()
        .map(|slice| (slice.data_at, slice.sectors))
        .collect();
    assert_eq!(places, [(4096, 4), (12288, 0), (16384, 6), (24576, 0)]);
    assert_eq!(scanned.header.unwrap().entries, scanned.entries);
    assert_eq!(scanned.persisted, Some(BEFORE));
}
