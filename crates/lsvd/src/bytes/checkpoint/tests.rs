//! Round trips, the golden files, and every way a checkpoint can be damaged.

use proptest::prelude::*;

use super::*;
use crate::words::units::{DataOffset, Location, ObjectSlot};

const VOLUME: VolumeUuid = VolumeUuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn id(sequence: u64) -> ObjectId {
    ObjectId::from_u64(3 << 40 | sequence)
}

fn extent(start: u64, sectors: u64, object: u32, offset: u32) -> Extent {
    Extent {
        range: LbaRange::with_len(Lba(start), sectors),
        location: Location {
            object: ObjectSlot(object),
            offset: DataOffset(offset),
        },
    }
}

fn row(sequence: u64, entries: u32, data_sectors: u32) -> ObjectRow {
    ObjectRow {
        id: id(sequence),
        header_len: 112 + 16 * entries,
        data_sectors,
    }
}

const REGION: u64 = 1 << 13;

fn described(id: ObjectId, form: Form, pieces: Vec<Piece>, payload: &[u8]) -> Checkpoint {
    Checkpoint {
        volume: VOLUME,
        id,
        predecessor: None,
        write_id: 0xdead_beef_0000_0000_0000_0000_0000_0000 | u128::from(id.as_u64()),
        wall_time_ns: 1_700_000_000_000_000_000,
        persisted: None,
        form,
        object_count: 0,
        sectors: 1 << 30,
        region_sectors: REGION,
        cut: ObjectId::from_u64(3 << 40 | 0x33),
        pieces,
        payload_len: payload.len() as u64,
    }
}

/// A part: extents of two regions, the second walked before the first, in sectors and in multiples
/// of eight.
fn sample_part() -> (Checkpoint, Vec<u8>) {
    let mut payload = Payload::default();
    payload.push_extents(
        Lba(4 * REGION),
        &[
            extent(4 * REGION + 16, 8, 1, 0),
            extent(4 * REGION + 24, 8, 0, 72),
            extent(4 * REGION + 800, 64, 1, 8),
        ],
    );
    payload.push_extents(
        Lba(REGION),
        &[extent(REGION + 3, 1, 1, 5), extent(REGION + 4, 1, 0, 9)],
    );
    let (bytes, mut pieces) = payload.finish(id(4), 0, 0);
    pieces.sort_by_key(|piece| piece.start);
    (described(id(4), Form::Part, pieces, &bytes), bytes)
}

/// A root that names the part.
fn sample_root() -> (Checkpoint, Vec<u8>) {
    let (part, _) = sample_part();
    let mut payload = Payload::default();
    payload.push_extents(Lba((1 << 30) - REGION), &[extent((1 << 30) - 7, 7, 1, 93)]);
    payload.push_rows(ObjectSlot(0), &[row(0x12, 3, 100), row(0x33, 0, 8 << 11)]);
    let (bytes, own) = payload.finish(id(5), part.pieces.len(), 1);
    let mut pieces = [part.pieces, own].concat();
    pieces.sort_by_key(|piece| piece.start);
    let mut root = described(id(5), Form::Root, pieces, &bytes);
    root.predecessor = Some(id(2));
    root.persisted = Some(id(0x34));
    root.object_count = 2;
    (root, bytes)
}

fn whole((checkpoint, payload): &(Checkpoint, Vec<u8>)) -> Vec<u8> {
    [checkpoint.encode().unwrap(), payload.clone()].concat()
}

/// A part and a root of format version 1. They never change: a program of tomorrow reads them.
const GOLDEN: [&[u8]; 2] = [
    include_bytes!("golden-v1.part"),
    include_bytes!("golden-v1.root"),
];

#[test]
fn the_golden_checkpoint_is_written_and_read() {
    let samples = [("part", sample_part()), ("root", sample_root())];
    for ((form, sample), golden) in samples.iter().zip(GOLDEN) {
        let bytes = whole(sample);
        if let Some(folder) = std::env::var_os("LSVD_WRITE_GOLDEN_CHECKPOINT") {
            let path = std::path::Path::new(&folder).join(format!("golden-v1.{form}"));
            std::fs::write(path, &bytes).unwrap();
        }
        assert!(bytes == golden, "the bytes of a {form} have changed");
        let read = Checkpoint::decode_object(golden, VOLUME, sample.0.id).unwrap();
        assert_eq!(read, sample.0);
    }
}

#[test]
fn every_truncation_and_every_longer_object_is_rejected() {
    for sample in [sample_part(), sample_root()] {
        let bytes = whole(&sample);
        for len in 0..bytes.len() {
            match Checkpoint::decode_object(&bytes[..len], VOLUME, sample.0.id).unwrap_err() {
                ObjectError::Truncated { needed } => assert!(needed > len),
                ObjectError::ObjectLength { expected, found } => {
                    assert_eq!((expected, found), (bytes.len() as u64, len as u64));
                }
                other => panic!("cut at {len}: {other}"),
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = Checkpoint::decode_object(&longer, VOLUME, sample.0.id).unwrap_err();
        assert!(matches!(error, ObjectError::ObjectLength { .. }), "{error}");
    }
}

#[test]
fn every_flipped_bit_is_rejected() {
    for sample in [sample_part(), sample_root()] {
        let mut bytes = whole(&sample);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = Checkpoint::decode_object(&bytes, VOLUME, sample.0.id);
            assert!(result.is_err(), "bit {bit} flipped and still read");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_checkpoint_of_another_volume_or_name_is_told_apart() {
    let sample = sample_root();
    let bytes = whole(&sample);
    for (volume, id) in [(VolumeUuid::from_u128(1), id(5)), (VOLUME, id(6))] {
        let error = Checkpoint::decode(&bytes, volume, id).unwrap_err();
        assert!(matches!(error, ObjectError::Identity { .. }), "{error}");
    }
}

/// A header that checks and claims what is not there must not make a reader allocate it.
#[test]
fn claimed_lengths_are_bounded() {
    let (root, _) = sample_root();
    let good = root.encode().unwrap();
    let lie = |range: Range<usize>, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[range].copy_from_slice(value);
        Checkpoint::header_len_of(&bytes).unwrap_err()
    };
    let max = &u32::MAX.to_le_bytes();
    assert_eq!(lie(12..16, max), ObjectError::Length, "header length");
    assert_eq!(lie(88..92, max), ObjectError::Length, "pieces");
    assert_eq!(lie(144..148, max), ObjectError::Length, "references");
    let huge = &u64::MAX.to_le_bytes();
    assert_eq!(lie(80..88, huge), ObjectError::Length, "payload");
    assert_eq!(content::decode_rows(&[], u32::MAX), None);
    let span = LbaRange::new(Lba(0), Lba(1 << 40));
    assert_eq!(
        content::decode_extents(&[0], span, u32::MAX, |_| Some(())),
        None
    );
}

/// What nobody reads is not written either: a volume whose newest checkpoint is too large would never
/// be opened again.
#[test]
fn what_is_too_large_to_be_read_is_not_written() {
    for (form, mut sample) in [(Form::Part, sample_part().0), (Form::Root, sample_root().0)] {
        let piece = *sample.pieces.last().unwrap();
        sample.object_count = 0;
        let lay_out = |bytes: u64| {
            let count = usize::try_from(bytes / PIECE_BYTES_MAX).unwrap();
            let header = header_len(0, count) as u64;
            let pieces = (0..count as u64).map(|n| Piece {
                start: PieceStart::Extents(Lba(n * REGION)),
                object: sample.id,
                offset: header + n * PIECE_BYTES_MAX,
                len: u32::try_from(PIECE_BYTES_MAX).unwrap(),
                ..piece
            });
            Checkpoint {
                pieces: pieces.collect(),
                payload_len: count as u64 * PIECE_BYTES_MAX,
                ..sample.clone()
            }
        };
        let fits = lay_out(CHECKPOINT_BYTES_MAX - PIECE_BYTES_MAX);
        Checkpoint::header_len_of(&fits.encode().unwrap()).unwrap();
        let refused = lay_out(CHECKPOINT_BYTES_MAX + PIECE_BYTES_MAX)
            .encode()
            .map(drop);
        let rule = ObjectError::Index("it is too large to be read");
        assert_eq!(refused, Err(rule), "{form:?}");
    }
}

#[test]
fn a_list_that_checks_but_lies_is_rejected() {
    type Lie = fn(&mut Checkpoint);
    let lies: [(Lie, &str); 18] = [
        (|c| c.sectors = 0, "size of the volume"),
        (|c| c.sectors = 1 << 48, "size of the volume"),
        (|c| c.region_sectors = 0, "size of a region"),
        (|c| c.region_sectors = 3, "size of a region"),
        (|c| c.pieces.reverse(), "out of order"),
        (|c| c.pieces[2] = c.pieces[1], "out of order"),
        (|c| c.object_count = 3, "out of order"),
        (
            |c| c.pieces[0].start = PieceStart::Rows(ObjectSlot(1)),
            "out of order",
        ),
        (|c| c.pieces[0].count = 0, "out of order"),
        (|c| c.pieces[0].count = 4097, "out of order"),
        (|c| c.pieces[1].count = 65537, "out of order"),
        (|c| c.pieces[1].len = 0, "out of order"),
        (|c| c.pieces[1].len = 2 << 20, "out of order"),
        (|c| c.sectors = 1 << 29, "out of order"),
        (|c| c.pieces[1].object = id(6), "older ones"),
        (|c| c.pieces[1].offset = u64::MAX, "payload"),
        (|c| c.pieces[3].offset += 1, "payload"),
        (|c| c.payload_len += 1, "payload"),
    ];
    for (lie, what) in lies {
        let (mut root, _) = sample_root();
        lie(&mut root);
        let error = root.encode().unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    let (mut part, _) = sample_part();
    part.object_count = 1;
    assert!(part.encode().is_err());
    let (mut root, _) = sample_root();
    root.form = Form::Part;
    assert!(root.encode().is_err(), "a part that names others");
}

/// Pieces under a right checksum that say what cannot be.
#[test]
fn a_piece_that_checks_but_lies_is_rejected() {
    let span = LbaRange::new(Lba(8), Lba(100));
    let extents = |bytes: &[u8], count| content::decode_extents(bytes, span, count, |_| Some(()));
    let good = [0, 0, 1, 0, 0];
    assert_eq!(extents(&good, 1), Some(()));
    assert_eq!(extents(&good, 2), None, "fewer than it says");
    assert_eq!(extents(&good, 0), None, "more than it says");
    assert_eq!(extents(&[4, 0, 1, 0, 0], 1), None, "the shift");
    assert_eq!(extents(&[0, 1, 0, 0], 1), None, "the length of none before");
    assert_eq!(extents(&[0, 0, 0, 0, 0], 1), None, "no length");
    assert_eq!(extents(&[0, 0, 93, 0, 0], 1), None, "behind the end");
    assert_eq!(extents(&[0, 180, 1, 2, 1, 0, 0], 1), None, "begins so");
    assert_eq!(extents(&[0, 0, 1, 1, 0], 1), None, "a slot below 0");
    assert_eq!(extents(&[0, 0, 1, 0, 0x80, 0x80, 8], 1), None, "the offset");
    let refused = content::decode_extents(&good, span, 1, |_| None);
    assert_eq!(refused, None, "what the reader refuses");
    let rows = |bytes: &[u8]| content::decode_rows(bytes, 1);
    assert_eq!(
        rows(&[1, 4, 112, 0]).map(|rows| rows[0].id),
        Some(ObjectId::from_u64(2))
    );
    assert_eq!(rows(&[2, 4, 112, 0]), None, "the kind");
    assert_eq!(rows(&[1, 4, 111, 0]), None, "a header too short");
    assert_eq!(rows(&[1, 4, 113, 0]), None, "a header of no length");
    assert_eq!(rows(&[1, 4, 112, 0x81, 0x80, 8]), None, "too much data");
    assert_eq!(rows(&[1, 4, 112, 0, 0]), None, "more than it says");
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    let one = (0..1000_u64, 1..2000_u64, 0..5000_u32, 0..100_000_u32);
    (prop::collection::vec(one, 1..300), 0..4_u32).prop_map(|(all, shift)| {
        let mut end = 0;
        let next = |(gap, len, object, offset): (u64, u64, u32, u32)| {
            let start = end + (gap << shift);
            let len = if gap % 3 > 0 { 8 } else { len } << shift;
            end = start + len;
            extent(start, len, object, (offset >> shift) << shift)
        };
        all.into_iter().map(next).collect()
    })
}

proptest! {
    #[test]
    fn extents_that_are_encoded_are_decoded(extents in extents(), cut: u16) {
        let mut bytes = Vec::new();
        content::encode_extents(Lba(0), &extents, &mut bytes);
        let span = LbaRange::new(Lba(0), extents.last().unwrap().range.end);
        let count = u32::try_from(extents.len()).unwrap();
        let mut decoded = Vec::new();
        let read = |bytes: &[u8], span, visit: &mut dyn FnMut(Extent)| {
            content::decode_extents(bytes, span, count, |extent| {
                visit(extent);
                Some(())
            })
        };
        prop_assert_eq!(read(&bytes, span, &mut |extent| decoded.push(extent)), Some(()));
        prop_assert_eq!(&decoded, &extents);
        let mut again = Vec::new();
        content::encode_extents(Lba(0), &decoded, &mut again);
        prop_assert_eq!(&again, &bytes);
        let short = &bytes[..usize::from(cut) % bytes.len()];
        prop_assert_eq!(read(short, span, &mut |_| {}), None);
        let less = LbaRange::new(Lba(0), Lba(span.end.0 - 1));
        prop_assert_eq!(read(&bytes, less, &mut |_| {}), None);
    }

    #[test]
    fn rows_that_are_encoded_are_decoded(
        rows in prop::collection::vec((any::<u64>(), 0..5000_u32, 0..131_073_u32), 1..100),
    ) {
        let row = |(id, entries, data_sectors)| ObjectRow {
            id: ObjectId::from_u64(id),
            header_len: 112 + 16 * entries,
            data_sectors,
        };
        let rows: Vec<ObjectRow> = rows.into_iter().map(row).collect();
        let mut bytes = Vec::new();
        content::encode_rows(&rows, &mut bytes);
        let count = u32::try_from(rows.len()).unwrap();
        prop_assert_eq!(content::decode_rows(&bytes, count), Some(rows));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        count in 0..100_u32,
    ) {
        let span = LbaRange::new(Lba(64), Lba(1 << 20));
        let mut end = span.start;
        let visit = |extent: Extent| {
            assert!(end <= extent.range.start && extent.range.end <= span.end);
            end = extent.range.end;
            Some(())
        };
        let _ = content::decode_extents(&bytes, span, count, visit);
        let _ = content::decode_rows(&bytes, count);
        prop_assert!(Checkpoint::decode(&bytes, VOLUME, id(1)).is_err());
    }
}

/// Rows of a marked table of the format's documentation: name, offset, size.
fn documented_fields(mark: &str) -> Vec<(String, usize, usize)> {
    let text = include_str!("../../../../../docs/format.md");
    let mark = format!("<!-- {mark} -->");
    let table = text.split(&mark).nth(1).expect("the table is marked");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let offset = cells.next().unwrap().parse().unwrap();
        let size = cells.next().unwrap().parse().unwrap();
        (cells.next().unwrap().to_owned(), offset, size)
    })
    .collect()
}

#[test]
fn the_documentation_shows_the_fields_that_are_written() {
    for (mark, fields, len) in [
        ("checkpoint head", HEAD_FIELDS, HEAD_BYTES),
        ("checkpoint piece", PIECE_FIELDS, PIECE_ROW_BYTES),
    ] {
        let mut end = 0;
        for (name, range) in &fields {
            assert_eq!(range.start, end, "a gap before {name}");
            end = range.end;
        }
        assert_eq!(end, len);
        let fields = fields.map(|(name, range)| (name.to_owned(), range.start, range.len()));
        assert_eq!(documented_fields(mark), fields);
    }
}
