//! Round trips, the golden file, and every way a header can be damaged.

mod torn;

use proptest::prelude::*;

use super::*;
use crate::bytes::documented_fields;
use crate::bytes::entry::EntryKind;
use crate::bytes::object_header::FIELDS;
use crate::words::units::{Lba, LbaRange};

fn sample() -> DataHeader {
    let range = |start, sectors| LbaRange::with_len(Lba(start), sectors);
    DataHeader {
        volume: VolumeUuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        id: ObjectId::from_u64(3 << 40 | 0x12),
        predecessor: Some(ObjectId::from_u64(3 << 40 | 0x11)),
        write_id: 0xdead_beef_0000_0000_0000_0000_0000_0001,
        wall_time_ns: 1_700_000_000_000_000_000,
        persisted: None,
        data_len: 9 * 512,
        entries: vec![
            Entry {
                range: range(0, 8),
                kind: EntryKind::Write(DataOffset(0)),
            },
            Entry {
                range: range(1 << 40, 1 << 30),
                kind: EntryKind::Discard,
            },
            Entry {
                range: range(77, 1),
                kind: EntryKind::Write(DataOffset(8)),
            },
            Entry {
                range: range(3, 5),
                kind: EntryKind::WriteZeroes,
            },
        ],
    }
}

/// The bytes of format version 1. They never change: a program of tomorrow reads them.
const GOLDEN: &str = include_str!("golden-v1.hex");

#[test]
fn the_golden_header_is_written_and_read() {
    let golden: Vec<u8> = GOLDEN
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let encoded = sample().encode().unwrap();
    let printed: Vec<String> = encoded
        .chunks(16)
        .map(|row| {
            row.iter()
                .map(|b| format!("{b:02x}"))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(encoded, golden, "now written:\n{}", printed.join("\n"));
    assert_eq!(DataHeader::decode(&golden).unwrap(), sample());
}

#[test]
fn every_truncation_is_rejected() {
    let bytes = sample().encode().unwrap();
    for len in 0..bytes.len() {
        let error = DataHeader::decode(&bytes[..len]).unwrap_err();
        assert!(
            matches!(error, ObjectError::Truncated { needed } if needed > len),
            "{len}: {error}"
        );
    }
}

#[test]
fn every_flipped_bit_is_rejected() {
    let mut bytes = sample().encode().unwrap();
    // Data behind the header must not make a damaged length pass.
    bytes.extend_from_slice(&[0xa5; 8192]);
    for bit in 0..(bytes.len() - 8192) * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let result = DataHeader::decode(&bytes);
        assert!(
            result.is_err(),
            "bit {bit} flipped and still read: {result:?}"
        );
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_header_that_checks_but_lies_is_rejected() {
    let mut overlapping = sample();
    overlapping.entries[2].kind = EntryKind::Write(DataOffset(7));
    assert_eq!(
        DataHeader::decode(&overlapping.encode().unwrap()),
        Err(ObjectError::Entries),
        "overlapping data"
    );
    let mut beyond = sample();
    beyond.data_len = 8 * 512;
    assert_eq!(
        DataHeader::decode(&beyond.encode().unwrap()),
        Err(ObjectError::Entries)
    );
    let mut odd = sample();
    odd.data_len = 4700;
    assert_eq!(odd.encode(), Err(ObjectError::DataLength(4700)));
}

fn entry() -> impl Strategy<Value = Entry> {
    let lba = 0..(1_u64 << 48) - 3000;
    (lba, 1..2048_u64, 0..3).prop_map(|(start, sectors, kind)| Entry {
        range: LbaRange::with_len(Lba(start), sectors),
        kind: match kind {
            0 => EntryKind::Write(DataOffset(0)),
            1 => EntryKind::Discard,
            _ => EntryKind::WriteZeroes,
        },
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(entries in prop::collection::vec(entry(), 0..40), id: u64) {
        let mut header = sample();
        header.id = ObjectId::from_u64(id);
        header.entries = entries;
        let mut free = 0;
        for entry in &mut header.entries {
            let sectors = u32::try_from(entry.data_sectors()).unwrap();
            if let EntryKind::Write(offset) = &mut entry.kind {
                *offset = DataOffset(free);
            }
            free += sectors;
        }
        header.data_len = DataOffset(free).bytes();
        prop_assert_eq!(DataHeader::decode(&header.encode().unwrap()).unwrap(), header);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(DataHeader::decode(&bytes).is_err());
    }

    #[test]
    fn a_span_extracts_what_was_stored(start in 0..64_u32, sectors in 1..80_usize) {
        let data: Vec<u8> = (0..160 * 512_u32).map(|i| (i / 7 % 255) as u8).collect();
        let place = Place::of(VolumeUuid::from_u128(1), ObjectName::data(ObjectId::from_u64(9)));
        let mut stored = vec![0xee; 13];
        for (number, block) in (0..).zip(data.chunks(BLOCK_BYTES)) {
            stored.extend_from_slice(block);
            let crc = place.bind(number, crate::bytes::block::checksum_of(block));
            stored.extend_from_slice(&crc.to_le_bytes());
        }
        let span = BlockSpan::new(DataOffset(start), sectors * 512);
        let range = span.stored_range(13);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let mut out = vec![0; sectors * 512];
        span.extract(place, &stored[range.clone()], &mut out).unwrap();
        let start = start as usize * 512;
        prop_assert_eq!(&out[..], &data[start..start + out.len()]);
        stored[range.end - 1] ^= 1;
        prop_assert!(span.extract(place, &stored[range], &mut out).is_err());
    }
}

#[test]
fn the_documentation_shows_the_fields_that_are_written() {
    let fields = FIELDS.map(|(name, range)| (name.to_owned(), range.start, range.len()));
    assert_eq!(documented_fields("fixed header"), fields);
    for pair in FIELDS.windows(2) {
        assert_eq!(pair[0].1.end, pair[1].1.start, "a gap behind {}", pair[0].0);
    }
}
