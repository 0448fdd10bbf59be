//! What an inspection shows of a volume, sound, damaged and removed.

use std::sync::Arc;

use lsvd::bytes::superblock::Change;
use lsvd::doors::store::ObjectStore;
use lsvd::{CreateOptions, ErrorKind, RemoveOptions, Volume, VolumeInfo};
use lsvd_store::{Counting, MemoryStore};

use crate::host::open_stored;
use crate::world::{MIB, open as open_ephemeral, runtime, small};

fn inspect(store: Arc<dyn ObjectStore>) -> VolumeInfo {
    Volume::inspect(store, runtime()).unwrap()
}

fn replace(store: &MemoryStore, name: &str, change: impl Fn(&mut Vec<u8>)) {
    pollster::block_on(async {
        let mut bytes = store.get(name).await.unwrap().to_vec();
        store.delete(name).await.unwrap();
        change(&mut bytes);
        store.put(name, vec![bytes.into()]).await.unwrap();
    });
}

/// Two data objects and superblocks 0 to 2.
fn volume() -> (Arc<MemoryStore>, Volume) {
    let store = Arc::new(MemoryStore::new());
    let options = CreateOptions {
        object_size: MIB,
        ..CreateOptions::new(16 * MIB)
    };
    Volume::create(store.clone(), runtime(), options).unwrap();
    let volume = open_stored(store.clone(), false).unwrap();
    for at in 0..2 {
        volume.write(at * MIB, &[1; 4096]).unwrap();
        volume.discard(at * MIB, 512).unwrap();
        volume.flush().unwrap();
    }
    (store, volume)
}

#[test]
fn a_volume_is_shown_as_its_objects_tell_it() {
    let (store, volume) = volume();
    let counting = Arc::new(Counting::new(store.clone()));
    let info = inspect(counting.clone());
    let superblock = info.superblock.as_ref().unwrap();
    assert_eq!(superblock.number, 2);
    assert_eq!(superblock.state.change, Change::FixEnds);
    assert_eq!(superblock.state.size, 16 * MIB);
    let writer = superblock.state.writer.as_ref().unwrap();
    assert_eq!(
        (writer.machine.as_str(), writer.close),
        ("this machine", None)
    );
    assert_eq!(info.volume, Some(volume.uuid()));
    assert_eq!((info.data.objects, info.superblocks.objects), (2, 3));
    assert_eq!((info.data_bytes, info.entries), (8192, 4));
    let (first, last) = info.range.unwrap();
    assert_eq!((first.as_u64(), last.as_u64()), (0, 1));
    // The second object was made when the first was persisted.
    let (persisted, when) = info.persisted.unwrap();
    assert_eq!(persisted, first);
    assert!(when.unwrap() > 1_600_000_000_000_000_000);
    assert!(info.newest_ns >= when.unwrap());
    assert!(info.damaged.is_empty(), "{info:?}");
    assert_eq!((info.missing, info.foreign, info.left_over), (0, 0, 0));
    let counts = counting.counts();
    assert_eq!((counts.put.requests, counts.delete.requests), (0, 0));
}

#[test]
fn damage_of_every_kind_is_named() {
    let (store, volume) = volume();
    drop(volume);
    replace(&store, "data.00000000", |bytes| bytes[40] ^= 1);
    replace(&store, "superblock.00000001", |bytes| bytes.truncate(50));
    pollster::block_on(store.put("ckpt.00000000", vec![vec![b'x'; 500].into()])).unwrap();
    pollster::block_on(store.put("letter", Vec::new())).unwrap();
    let info = inspect(store);
    let damaged: Vec<String> = info
        .damaged
        .iter()
        .map(|damaged| format!("{}: {}", damaged.name, damaged.reason))
        .collect();
    assert_eq!(
        damaged,
        [
            "data.00000000: the checksum of the header does not match",
            "ckpt.00000000: it does not begin with the magic of an object",
            "superblock.00000001: 50 bytes are no object",
        ]
    );
    assert_eq!((info.data.objects, info.foreign), (1, 1));
}

#[test]
fn a_damaged_newest_superblock_is_never_skipped() {
    let (store, volume) = volume();
    drop(volume);
    replace(&store, "superblock.00000002", |bytes| bytes[30] ^= 1);
    let error = Volume::inspect(store, runtime()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("superblock.00000002"), "{error}");
}

#[test]
fn an_object_of_another_volume_is_damage_and_one_of_a_removed_volume_is_not() {
    let (store, volume) = volume();
    let (other, _) = self::volume();
    drop(volume);
    let stranger = pollster::block_on(other.get("data.00000001")).unwrap();
    replace(&store, "data.00000001", |bytes| *bytes = stranger.to_vec());
    let info = inspect(store.clone());
    assert_eq!(info.damaged.len(), 1);
    assert!(info.damaged[0].reason.contains("of volume"), "{info:?}");

    let options = RemoveOptions {
        machine: "this machine".to_owned(),
        take_over: true,
    };
    Volume::remove(store.clone(), runtime(), options).unwrap();
    let error = Volume::inspect(store.clone(), runtime()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    Volume::create(store.clone(), runtime(), CreateOptions::new(MIB)).unwrap();
    // It was under way when its writer was fenced.
    pollster::block_on(store.put("data.00000001", vec![stranger])).unwrap();
    let info = inspect(store);
    assert_eq!((info.left_over, info.data.objects), (1, 0));
    assert!(info.damaged.is_empty(), "{info:?}");
}

#[test]
fn an_ephemeral_volume_has_no_superblock() {
    let store = Arc::new(MemoryStore::new());
    let empty = Volume::inspect(store.clone(), runtime()).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::NotFound);
    let volume = open_ephemeral(store.clone(), small(4 * MIB));
    volume.write(0, &[1; 4096]).unwrap();
    volume.close().unwrap();
    let info = inspect(store);
    assert!(info.superblock.is_none());
    assert_eq!(info.volume, Some(volume.uuid()));
    assert_eq!(info.data.objects, 1);
    assert_eq!(info.persisted, None);
}
