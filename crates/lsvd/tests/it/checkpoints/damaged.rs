//! Checkpoints whose bytes do not check: what is older serves.

use std::sync::Arc;

use lsvd::ErrorKind;
use lsvd::bytes::checkpoint::Checkpoint;
use lsvd::bytes::superblock::Superblock;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::name::ObjectKind;
use lsvd_store::{Fault, Faulty, Verb};

use super::{
    OBJECT, assert_disk, created, flip, model, names, needed, open, present, replace, root,
    superblock, try_open, write,
};
use crate::world::{MIB, wait_for};

/// Every bit of the newest root, and of a part that it names: the older one serves, and nothing is
/// removed then.
#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..6_u8 {
        write(&volume, &mut model, usize::from(n) * 17 * OBJECT, n + 1);
        if n > 2 {
            volume.checkpoint().unwrap();
        }
    }
    write(&volume, &mut model, 3 * OBJECT, 200);
    volume.flush().unwrap();
    drop(volume);
    let newest = superblock(&store).state.checkpoints[1].object;
    let name = Checkpoint::name_of(newest).to_string();
    let before = present(&store);
    let bits = root(&store, 1).object_len() * 8;
    // The version field aside: a later version is not for this program to pass over.
    let bits = (0..usize::try_from(bits).unwrap()).filter(|bit| !(64..80).contains(bit));
    for bit in bits.step_by(97) {
        flip(&store, &name, bit);
        let volume = open(&store);
        assert_disk(&volume, &model);
        drop(volume);
        flip(&store, &name, bit);
    }
    let whole = pollster::block_on(store.get(&name)).unwrap();
    for len in [0, 100, whole.len() / 2, whole.len() - 1] {
        replace(&store, &name, whole[..len].to_vec());
        assert_disk(&open(&store), &model);
    }
    // The next checkpoint takes the damaged one's place among the two; nothing goes yet.
    let good = superblock(&store).state.checkpoints[0];
    let volume = open(&store);
    write(&volume, &mut model, 0, 201);
    volume.checkpoint().unwrap();
    let kept = superblock(&store).state.checkpoints;
    assert_eq!((kept.len(), kept[0]), (2, good));
    assert!(before.is_subset(&present(&store)), "something was removed");
    drop(volume);
    let volume = open(&store);
    assert_disk(&volume, &model);
    write(&volume, &mut model, 0, 202);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&store) == needed(&store));
}

#[test]
fn a_first_checkpoint_that_is_damaged_is_replaced_by_the_whole_stream() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..6_u8 {
        write(&volume, &mut model, usize::from(n) * 17 * OBJECT, n + 1);
    }
    volume.checkpoint().unwrap();
    write(&volume, &mut model, 0, 9);
    volume.flush().unwrap();
    drop(volume);
    let name = names(&store, ObjectKind::Checkpoint)[0].to_string();
    flip(&store, &name, 900);
    assert_disk(&open(&store), &model);
}

/// Both name what was not changed in between, so one flipped bit is enough to lose both. All objects
/// are there still, and all epochs are listed.
#[test]
fn where_both_checkpoints_are_damaged_the_whole_stream_serves() {
    let store = created();
    let mut model = model();
    for opening in 0..3_u8 {
        let volume = open(&store);
        for n in 0..2_u8 {
            let at = usize::from(opening * 2 + n) * OBJECT;
            write(&volume, &mut model, at, 10 * opening + n + 1);
        }
        // Many extents in the first of four regions, so that it has a piece of some size.
        for n in 0..500_u64 {
            let at = MIB + n * 4096;
            volume.write(at, &[7; 512]).unwrap();
            let at = usize::try_from(at).unwrap();
            model[at..at + 512].fill(7);
        }
        volume.flush().unwrap();
    }
    let volume = open(&store);
    for n in 0..2_u8 {
        let at = usize::try_from(13 * MIB).unwrap() + usize::from(n) * OBJECT;
        write(&volume, &mut model, at, 100 + n);
        volume.checkpoint().unwrap();
    }
    write(&volume, &mut model, 0, 110);
    volume.flush().unwrap();
    drop(volume);
    let (older, newest) = (root(&store, 0), root(&store, 1));
    assert!(newest.references().contains(&older.id));
    let name = Checkpoint::name_of(older.id).to_string();
    let shared = newest.pieces.iter().find(|piece| piece.object == older.id);
    let bit = usize::try_from(shared.unwrap().offset).unwrap() * 8;
    flip(&store, &name, bit);
    let before = present(&store);
    let volume = open(&store);
    assert_disk(&volume, &model);
    write(&volume, &mut model, OBJECT, 111);
    volume.checkpoint().unwrap();
    assert_eq!(superblock(&store).state.checkpoints.len(), 1);
    assert!(before.is_subset(&present(&store)), "something was removed");
    drop(volume);
    let volume = open(&store);
    assert_disk(&volume, &model);
    write(&volume, &mut model, OBJECT, 112);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&store) == needed(&store));
    drop(volume);
    assert_disk(&open(&store), &model);
}

/// Where the first epochs are not listed any more, what is left of the stream is not all of it.
#[test]
fn a_part_of_the_stream_does_not_serve_for_damaged_checkpoints() {
    let store = created();
    let mut model = model();
    for opening in 0..2_u8 {
        let volume = open(&store);
        for n in 0..2_u8 {
            write(&volume, &mut model, 0, opening + n + 1);
            if opening == 1 {
                volume.checkpoint().unwrap();
            }
        }
        volume.flush().unwrap();
    }
    let newest = superblock(&store);
    let mut pruned = Superblock {
        number: newest.number + 1,
        write_id: newest.write_id + 1,
        ..newest.clone()
    };
    pruned.state.predecessor = Some(newest.write_id);
    let first = pruned.state.epochs.remove(0);
    assert_eq!(first.objects, Some(2));
    let bytes = pruned.encode().unwrap();
    let name = pruned.name().to_string();
    pollster::block_on(store.put(&name, vec![bytes.into()])).unwrap();
    assert_disk(&open(&store), &model);
    for kept in pruned.state.checkpoints {
        flip(&store, &Checkpoint::name_of(kept.object).to_string(), 1000);
    }
    let error = try_open(store, 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("from its beginning"), "{error}");
}

#[test]
fn a_checkpoint_that_is_missing_stops_the_opening() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..3_u8 {
        write(&volume, &mut model, 0, n + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    let newest = superblock(&store).state.checkpoints[1].object;
    let name = Checkpoint::name_of(newest).to_string();
    let bytes = pollster::block_on(store.get(&name)).unwrap();
    pollster::block_on(store.delete(&name)).unwrap();
    let error = try_open(store.clone(), 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains(&name), "{error}");
    pollster::block_on(store.put(&name, vec![bytes])).unwrap();
    assert_disk(&open(&store), &model);
}

/// Falling back happens only on a checksum failure.
#[test]
fn a_checkpoint_that_cannot_be_read_now_stops_the_opening() {
    let memory = created();
    let mut model = model();
    let volume = open(&memory);
    for n in 0..2_u8 {
        write(&volume, &mut model, 0, n + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    let newest = Checkpoint::name_of(superblock(&memory).state.checkpoints[1].object).to_string();
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Permission] {
        let store = Arc::new(Faulty::new(memory.clone()));
        store.fail_next_of(&newest, Verb::Get, 1, Fault::Refuse(kind));
        let error = try_open(store, 9).unwrap_err();
        assert_eq!(error.kind(), kind.for_user(), "{error}");
        assert!(error.to_string().contains(&newest), "{error}");
    }
    assert_disk(&open(&memory), &model);
}
