//! What a checkpoint may name, what counts, what is kept, and what goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsvd::bytes::superblock::Superblock;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::name::{Epoch, ObjectId, ObjectKind, ObjectName};
use lsvd::{CheckpointOptions, ErrorKind, OpenOptions};
use lsvd_store::{Counting, Fault, Faulty, Verb};

use super::{
    OBJECT, assert_disk, created, model, names, needed, open, present, root, superblock, try_open,
    write,
};
use crate::host::open_fresh;
use crate::world::{MIB, runtime, wait_for};

/// The new one and the one before; the objects of others go, and only those.
#[test]
fn two_checkpoints_stay_and_what_neither_needs_goes() {
    let store = created();
    let mut model = model();
    let mut before: Vec<u64> = Vec::new();
    for opening in 0..3_u8 {
        let volume = open(&store);
        for round in 0..6_u8 {
            let at = (usize::from(round) * 37 + usize::from(opening)) * OBJECT;
            write(&volume, &mut model, at, round + 1);
            volume.checkpoint().unwrap();
            let superblock = superblock(&store);
            let kept = &superblock.state.checkpoints;
            assert_eq!(kept.len(), if before.is_empty() { 1 } else { 2 });
            if let Some(before) = before.last() {
                assert_eq!(kept[0].object.as_u64(), *before, "the one before is kept");
            }
            before.push(kept.last().unwrap().object.as_u64());
            wait_for("what is not needed to go", || {
                present(&store) == needed(&store)
            });
        }
        drop(volume);
    }
    assert_disk(&open(&store), &model);
}

#[test]
fn what_cannot_be_removed_is_removed_later() {
    let memory = created();
    let store = Arc::new(Faulty::new(memory.clone()));
    let mut model = model();
    let volume = try_open(store.clone(), u32::MAX).unwrap();
    let refuse = Fault::Refuse(StoreErrorKind::Permission);
    store.fail_next(Verb::Delete, u64::MAX, refuse);
    for round in 0..5_u8 {
        write(&volume, &mut model, 0, round + 1);
        volume.checkpoint().unwrap();
    }
    assert_eq!(present(&memory).len(), 5);
    store.mend();
    write(&volume, &mut model, 0, 77);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    // The same where another opening has to find them.
    store.fail_next(Verb::Delete, u64::MAX, refuse);
    for round in 0..3_u8 {
        write(&volume, &mut model, 0, round + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    assert_ne!(present(&memory), needed(&memory));
    let volume = open(&memory);
    write(&volume, &mut model, 0, 99);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    assert_disk(&volume, &model);
}

/// What a store that is away does not remove is left, all of it: each object would be waited for.
#[test]
fn a_store_that_does_not_answer_is_asked_for_one_removal_behind_each_checkpoint() {
    let store = Arc::new(Faulty::new(created()));
    let counting = Arc::new(Counting::new(store.clone()));
    let mut model = model();
    let volume = try_open(counting.clone(), u32::MAX).unwrap();
    let before = counting.counts().delete.requests;
    for fault in [Fault::Refuse(StoreErrorKind::Unavailable), Fault::Hang] {
        store.mend();
        store.fail_next(Verb::Delete, u64::MAX, fault);
        for round in 0..5_u8 {
            write(&volume, &mut model, 0, round + 1);
            volume.checkpoint().unwrap();
        }
    }
    // Behind the first two there is nothing to remove.
    assert_eq!(counting.counts().delete.requests - before, 8);
}

/// "Unchanged regions by reference, at most 16 older objects referenced."
#[test]
fn unchanged_regions_are_named_again_from_few_older_objects() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    // Four regions; many extents in the first three, one in the last.
    let region = 4 * MIB;
    for n in 0..3000_u64 {
        let at = n * 4096;
        volume.write(at, &[7; 512]).unwrap();
        let at = usize::try_from(at).unwrap();
        model[at..at + 512].fill(7);
    }
    volume.checkpoint().unwrap();
    let full = root(&store, 0);
    assert!(full.references().is_empty());
    let mut most = 0;
    for round in 0..40_u8 {
        let at = usize::try_from(region * 3).unwrap() + usize::from(round) * OBJECT;
        write(&volume, &mut model, at, round + 1);
        volume.checkpoint().unwrap();
        let newest = root(&store, 1);
        assert!(
            newest.payload_len < full.payload_len / 4,
            "all was written again"
        );
        most = most.max(newest.references().len());
        wait_for("the removal", || present(&store) == needed(&store));
    }
    assert!((1..=16).contains(&most), "{most}");
    drop(volume);
    assert_disk(&open(&store), &model);
}

/// Its parts and root were stored, the superblock was not: it does not count, and goes.
#[test]
fn a_checkpoint_that_no_superblock_names_does_not_count() {
    let memory = created();
    let mut model = model();
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = try_open(store.clone(), u32::MAX).unwrap();
    write(&volume, &mut model, 0, 1);
    volume.checkpoint().unwrap();
    let next = superblock(&memory).number + 1;
    let next = Superblock::name_of(next).to_string();
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of(&next, Verb::Put, u64::MAX, refuse);
    write(&volume, &mut model, OBJECT, 2);
    let error = volume.checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    write(&volume, &mut model, 2 * OBJECT, 3);
    volume.flush().unwrap();
    assert_eq!(present(&memory).len(), 2);
    let second = open(&memory);
    assert_disk(&second, &model);
    drop(volume);
    write(&second, &mut model, 3 * OBJECT, 4);
    second.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    drop(second);
    assert_disk(&open(&memory), &model);
}

/// A checkpoint is not valid before all that it names is persisted, and it is due by itself when not
/// all of that is.
#[test]
fn a_checkpoint_waits_for_all_objects_before_its_cut() {
    let memory = created();
    let mut model = model();
    let looks = Arc::new(Faulty::new(memory.clone()));
    let uploads = Arc::new(Faulty::new(looks.clone()));
    let options = OpenOptions {
        checkpoint: CheckpointOptions {
            objects: 4,
            ..CheckpointOptions::default()
        },
        ..OpenOptions::new("this machine")
    };
    // Not hastily: what hangs is not to be tried again.
    let volume = open_fresh(uploads.clone(), runtime(), options).unwrap();
    let next = superblock(&memory).number + 1;
    let next = Superblock::name_of(next).to_string();
    looks.fail_next_of(&next, Verb::Get, 1, Fault::Hang);
    let hung = ObjectId::new(Epoch(0), 1).unwrap();
    let name = ObjectName::data(hung).to_string();
    uploads.fail_next_of(&name, Verb::Put, 1, Fault::Hang);
    for n in 0..5_u8 {
        write(&volume, &mut model, usize::from(n) * OBJECT, n + 1);
    }
    wait_for("the upload and the look", || {
        (uploads.hanging(), looks.hanging()) == (1, 1)
    });
    // The first object is persisted now, and five are behind no checkpoint.
    looks.release();
    std::thread::sleep(Duration::from_millis(500));
    assert!(superblock(&memory).state.checkpoints.is_empty());
    assert_eq!(
        present(&memory).len(),
        0,
        "a root that names what is not there"
    );
    uploads.release();
    wait_for("the checkpoint", || {
        !superblock(&memory).state.checkpoints.is_empty()
    });
    let cut = superblock(&memory).state.checkpoints[0].cut;
    assert!(cut >= hung);
    volume.flush().unwrap();
    drop(volume);
    assert_disk(&open(&memory), &model);
}

/// Taken over between the superblock that names its checkpoint and the removal of what that does not
/// need.
#[test]
fn a_writer_that_is_taken_over_before_it_removes_removes_nothing() {
    let memory = created();
    let mut model = model();
    let first = open(&memory);
    for n in 0..2_u8 {
        write(&first, &mut model, 0, n + 1);
        first.checkpoint().unwrap();
    }
    drop(first);
    let store = Arc::new(Faulty::new(memory.clone()));
    let options = OpenOptions {
        take_over: true,
        ..OpenOptions::new("this machine")
    };
    let second = open_fresh(store.clone(), runtime(), options).unwrap();
    store.fail_next(Verb::List, 1, Fault::Hang);
    write(&second, &mut model, 0, 3);
    let asking = std::thread::spawn({
        let second = second.clone();
        move || second.checkpoint()
    });
    wait_for("the look at what is there", || store.hanging() == 1);
    let third = open(&memory);
    let before = present(&memory);
    assert_ne!(before, needed(&memory), "there is nothing to remove");
    store.release();
    let fenced = asking.join().unwrap().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    assert_eq!(present(&memory), before);
    assert_disk(&third, &model);
}

/// Data objects that a fenced writer stored, or that lay behind one which a crash dropped, are of no
/// stream for ever. Only those go of which that is certain.
#[test]
fn objects_of_no_stream_go_with_the_first_checkpoint_of_an_opening() {
    let memory = created();
    let mut model = model();
    // Epochs 0 and 2 have two objects, 1 and 3 have none, 4 is the one that removes.
    for opening in 0..4_u8 {
        let volume = open(&memory);
        if opening % 2 == 0 {
            for n in 0..2_u8 {
                let at = usize::from(opening * 2 + n) * OBJECT;
                write(&volume, &mut model, at, opening + n + 1);
            }
            volume.flush().unwrap();
        }
    }
    let volume = open(&memory);
    let id = |epoch, sequence| ObjectId::new(Epoch(epoch), sequence).unwrap();
    let put = |id: ObjectId| {
        let name = ObjectName::data(id).to_string();
        pollster::block_on(memory.put(&name, vec![Bytes::from_static(b"late")])).unwrap();
    };
    let strays = [(0, 2), (0, 70), (1, 0), (2, 2), (3, 1)];
    for (epoch, sequence) in strays {
        put(id(epoch, sequence));
    }
    put(id(9, 0));
    write(&volume, &mut model, 9 * OBJECT, 77);
    volume.checkpoint().unwrap();
    let there: Vec<ObjectId> = names(&memory, ObjectKind::Data)
        .iter()
        .map(|name| name.id)
        .collect();
    let stream = [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (9, 0)];
    assert_eq!(there, stream.map(|(epoch, sequence)| id(epoch, sequence)));
    drop(volume);
    assert_disk(&open(&memory), &model);
}

/// The first openings left nothing that is of the stream, so that no superblock lists their epochs, and
/// what they had sent arrived later.
#[test]
fn objects_of_no_stream_go_from_epochs_before_the_first_of_the_stream_too() {
    let memory = created();
    let mut model = model();
    drop(open(&memory));
    drop(open(&memory));
    for opening in 0..2_u8 {
        let volume = open(&memory);
        write(
            &volume,
            &mut model,
            usize::from(opening) * OBJECT,
            opening + 1,
        );
        volume.checkpoint().unwrap();
    }
    let volume = open(&memory);
    let id = |epoch, sequence| ObjectId::new(Epoch(epoch), sequence).unwrap();
    for (epoch, sequence) in [(0, 0), (0, 3), (1, 0), (2, 1)] {
        let name = ObjectName::data(id(epoch, sequence)).to_string();
        pollster::block_on(memory.put(&name, vec![Bytes::from_static(b"late")])).unwrap();
    }
    write(&volume, &mut model, 9 * OBJECT, 77);
    volume.checkpoint().unwrap();
    let there: Vec<ObjectId> = names(&memory, ObjectKind::Data)
        .iter()
        .map(|name| name.id)
        .collect();
    assert_eq!(there, [id(2, 0), id(3, 0), id(4, 0)]);
    drop(volume);
    assert_disk(&open(&memory), &model);
}

#[test]
fn a_fenced_writer_names_no_checkpoint_and_removes_nothing() {
    let store = created();
    let mut model = model();
    let first = open(&store);
    for n in 0..3_u8 {
        write(&first, &mut model, 0, n + 1);
        first.checkpoint().unwrap();
    }
    let second = open(&store);
    let before = superblock(&store);
    let there = present(&store);
    // It may still write what nobody will ever look at.
    let _ = first.write(0, &[99; 512]);
    let error = first.checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(superblock(&store), before);
    assert!(there.is_subset(&present(&store)));
    write(&second, &mut model, OBJECT, 50);
    second.checkpoint().unwrap();
    drop((first, second));
    assert_disk(&open(&store), &model);
}
