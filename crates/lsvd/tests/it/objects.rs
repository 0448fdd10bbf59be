//! What lies in the store: objects that replay to the volume's state, and what damage does.

use std::sync::Arc;
use std::time::Duration;

use lsvd::bytes::data_object::DataHeader;
use lsvd::bytes::object_header::ObjectError;
use lsvd::doors::store::ObjectStore;
use lsvd::words::name::{ObjectName, VolumeUuid};
use lsvd::{ErrorKind, FlushTarget, Volume};
use lsvd_store::{LocalDirectory, MemoryStore};
use proptest::prelude::*;

use crate::world::{MIB, get, objects, open, read, replay, small, wait_for};

#[test]
fn only_data_objects_are_left_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let volume = open(store, small(8 * MIB));
    for n in 0..5 {
        volume
            .write(n * MIB, &vec![7; usize::try_from(MIB).unwrap()])
            .unwrap();
    }
    volume.close().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<_> = (0..5).map(|n| format!("data.{n:08x}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn an_empty_volume_stores_nothing_and_a_little_is_stored_after_the_seal_timeout() {
    let store = Arc::new(MemoryStore::new());
    let volume = open(store.clone(), small(MIB));
    volume.flush().unwrap();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(
        objects(&*store).len(),
        0,
        "an empty batch is neither sealed nor numbered"
    );
    volume.write(0, &[1; 512]).unwrap();
    wait_for("the seal timeout", || !objects(&*store).is_empty());
    // The batch is gone from memory, and the volume goes on with the next number.
    assert_eq!(read(&volume, 0, 512), [1; 512]);
    volume.write(0, &[2; 512]).unwrap();
    volume.close().unwrap();
    assert_eq!(objects(&*store).into_keys().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_batch_of_discards_alone_is_stored_as_a_header_alone() {
    let store = Arc::new(MemoryStore::new());
    let volume = open(store.clone(), small(MIB));
    volume.discard(0, MIB).unwrap();
    volume.close().unwrap();
    let object = get(&*store, objects(&*store)[&0]);
    let header = DataHeader::decode(&object).unwrap();
    assert_eq!((header.data_len, header.entries.len()), (0, 1));
    assert_eq!(object.len() as u64, header.layout().unwrap().object_len());
}

#[test]
fn flush_to_the_store_returns_when_the_data_is_there() {
    let store = Arc::new(MemoryStore::new());
    let mut options = small(MIB);
    options.flush = FlushTarget::Store;
    options.seal_timeout = Duration::from_secs(3600);
    let volume = open(store.clone(), options);
    volume.flush().unwrap();
    for n in 0..20_u8 {
        volume.write(u64::from(n) * 512, &[n; 512]).unwrap();
        volume.flush().unwrap();
        let at = usize::from(n) * 512;
        assert_eq!(replay(&*store, MIB)[at..at + 512], [n; 512]);
    }
}

/// A volume in `directory` that holds nothing in memory of what was flushed.
fn stored_at_flush(directory: &tempfile::TempDir) -> Volume {
    let store = Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let mut options = small(MIB);
    options.flush = FlushTarget::Store;
    open(store, options)
}

#[test]
fn every_damaged_bit_of_a_stored_block_is_an_error_that_names_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let volume = stored_at_flush(&directory);
    let data: Vec<u8> = (0..4096_u32)
        .map(|i| u8::try_from(i % 253).unwrap())
        .collect();
    volume.write(0, &data).unwrap();
    volume.flush().unwrap();
    let path = directory.path().join("data.00000000");
    let whole = std::fs::read(&path).unwrap();
    let start = whole.len() - 4100;
    for bit in (0..4100 * 8).step_by(61) {
        let mut damaged = whole.clone();
        damaged[start + bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        let error = volume.read(512, &mut [0; 512]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let message = error.to_string();
        assert!(
            message.contains("data.00000000") && message.contains("offset 0"),
            "{message}"
        );
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(read(&volume, 0, 4096), data);
}

/// An object with all kinds of entries and more than one block.
fn sample_object() -> Vec<u8> {
    let store = Arc::new(MemoryStore::new());
    let volume = open(store.clone(), small(MIB));
    volume.write(0, &[6; 5 * 512]).unwrap();
    volume.discard(4096, 4096).unwrap();
    volume.write_zeroes(8192, 512).unwrap();
    volume.write(8192, &[7; 4096]).unwrap();
    volume.close().unwrap();
    get(&*store, objects(&*store)[&0])
}

#[test]
fn every_truncation_of_an_object_is_rejected() {
    let object = sample_object();
    DataHeader::decode_object(&object).unwrap();
    for len in 0..object.len() {
        match DataHeader::decode_object(&object[..len]).unwrap_err() {
            ObjectError::Truncated { needed } => assert!(needed > len),
            ObjectError::ObjectLength { expected, found } => {
                assert_eq!((expected, found), (object.len() as u64, len as u64));
            }
            other => panic!("cut at {len}: {other}"),
        }
    }
    let longer = [&object[..], &[0]].concat();
    assert!(matches!(
        DataHeader::decode_object(&longer),
        Err(ObjectError::ObjectLength { .. })
    ));
}

#[test]
fn every_flipped_bit_of_an_object_is_rejected() {
    let mut object = sample_object();
    for bit in 0..object.len() * 8 {
        object[bit / 8] ^= 1 << (bit % 8);
        assert!(
            DataHeader::decode_object(&object).is_err(),
            "bit {bit} flipped"
        );
        object[bit / 8] ^= 1 << (bit % 8);
    }
    DataHeader::decode_object(&object).unwrap();
}

#[test]
fn an_object_of_another_volume_or_name_is_told_apart() {
    let header = DataHeader::decode_object(&sample_object()).unwrap();
    header.check_identity(header.volume, header.name()).unwrap();
    let other = ObjectName::data(header.id.next().unwrap());
    let error = header.check_identity(header.volume, other).unwrap_err();
    assert!(error.to_string().contains("data.00000000"), "{error}");
    assert!(
        header
            .check_identity(VolumeUuid::from_u128(1), header.name())
            .is_err()
    );
}

#[test]
fn an_object_cut_short_behind_our_back_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let volume = stored_at_flush(&directory);
    volume.write(0, &[1; 8192]).unwrap();
    volume.flush().unwrap();
    let path = directory.path().join("data.00000000");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(4300).unwrap();
    assert_eq!(read(&volume, 0, 4096), [1; 4096]);
    let error = volume.read(4096, &mut [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, usize, u8),
    Discard(u64, u64),
    Zeroes(u64, u64),
    Flush,
}

const SIZE: u64 = 2 * MIB;

fn op() -> impl Strategy<Value = Op> {
    let start = 0..SIZE / 512 - 700;
    prop_oneof![
        8 => (start.clone(), 1..700_usize, 1..=255_u8).prop_map(|(s, n, b)| Op::Write(s, n, b)),
        2 => (start.clone(), 1..700_u64).prop_map(|(s, n)| Op::Discard(s, n)),
        2 => (start, 1..700_u64).prop_map(|(s, n)| Op::Zeroes(s, n)),
        1 => Just(Op::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The map in memory and a replay of the objects are the same disk, however the batches fell.
    #[test]
    fn the_objects_replay_to_the_state_of_the_map(ops in prop::collection::vec(op(), 1..60)) {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let mut options = small(SIZE);
        options.flush = FlushTarget::Store;
        let volume = open(store.clone(), options);
        let mut model = vec![0; usize::try_from(SIZE).unwrap()];
        for op in ops {
            match op {
                Op::Write(start, sectors, byte) => {
                    let start = start * 512;
                    volume.write(start, &vec![byte; sectors * 512]).unwrap();
                    let start = usize::try_from(start).unwrap();
                    model[start..start + sectors * 512].fill(byte);
                }
                Op::Discard(start, sectors) | Op::Zeroes(start, sectors) => {
                    match op {
                        Op::Discard(..) => volume.discard(start * 512, sectors * 512).unwrap(),
                        _ => volume.write_zeroes(start * 512, sectors * 512).unwrap(),
                    }
                    let start = usize::try_from(start * 512).unwrap();
                    let end = start + usize::try_from(sectors * 512).unwrap();
                    model[start..end].fill(0);
                }
                Op::Flush => volume.flush().unwrap(),
            }
        }
        prop_assert!(read(&volume, 0, model.len()) == model, "the map");
        volume.flush().unwrap();
        prop_assert!(read(&volume, 0, model.len()) == model, "the map, all in the store");
        prop_assert!(replay(&*store, SIZE) == model, "the objects");
    }
}
