//! The epochs of a volume: what a superblock lists, however often the volume is opened, and what
//! happens when they are used up.

use std::sync::Arc;

use lsvd::bytes::superblock::{Change, EpochEnd, Superblock};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::name::ObjectId;
use lsvd::{CreateOptions, ErrorKind, OpenOptions, RemoveOptions, Volume};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{create, open_fresh, open_stored};
use crate::world::{MIB, read, runtime};

fn newest(store: &Arc<MemoryStore>) -> Superblock {
    let newest = Volume::newest_superblock(store.clone(), runtime());
    newest.unwrap().unwrap()
}

fn created() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    store
}

/// Makes a superblock that follows the newest.
fn follow(store: &Arc<MemoryStore>, change: impl FnOnce(&mut Superblock)) {
    let before = newest(store);
    let mut next = Superblock {
        number: before.number + 1,
        write_id: before.write_id + 1,
        ..before.clone()
    };
    next.state.predecessor = Some(before.write_id);
    change(&mut next);
    let bytes = next.encode().unwrap();
    let name = next.name().to_string();
    pollster::block_on(store.put(&name, vec![bytes.into()])).unwrap();
}

fn remove(store: &Arc<MemoryStore>) {
    let options = RemoveOptions {
        machine: "another machine".to_owned(),
        take_over: true,
    };
    Volume::remove(store.clone(), runtime(), options).unwrap();
}

#[test]
fn openings_without_data_leave_nothing_in_the_superblock() {
    let store = created();
    for opening in 0..20 {
        let volume = open_stored(store.clone(), true).unwrap();
        if opening % 10 == 5 {
            volume.write(opening * 4096, &[7; 4096]).unwrap();
            volume.flush().unwrap();
        }
    }
    let listed: Vec<EpochEnd> = newest(&store).state.epochs;
    let row = |epoch, objects| EpochEnd { epoch, objects };
    assert_eq!(listed, [row(5, Some(1)), row(15, Some(1)), row(19, None)]);
    let volume = open_stored(store.clone(), true).unwrap();
    assert_eq!(newest(&store).state.epochs.last().unwrap().epoch, 20);
    for written in [5, 15] {
        assert_eq!(read(&volume, written * 4096, 4096), [7; 4096]);
    }
}

/// As where a server is started again and again on a volume that it cannot open.
#[test]
fn claims_that_nothing_follows_leave_nothing_in_the_superblock() {
    let memory = created();
    let volume = open_stored(memory.clone(), true).unwrap();
    volume.write(0, &[1; 4096]).unwrap();
    volume.flush().unwrap();
    drop(volume);
    let store = Arc::new(Faulty::new(memory.clone()));
    let refuse = Fault::Refuse(StoreErrorKind::Permission);
    for _ in 0..20 {
        store.mend();
        let behind_claim = Superblock::name_of(newest(&memory).number + 2).to_string();
        store.fail_next_of(&behind_claim, Verb::Put, u64::MAX, refuse);
        let refused = open_stored(store.clone(), true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Permission, "{refused}");
        let claim = newest(&memory).state;
        assert_eq!((claim.change, claim.epochs.len()), (Change::Claim, 2));
    }
    let volume = open_stored(memory.clone(), true).unwrap();
    assert_eq!(read(&volume, 0, 4096), [1; 4096]);
    volume.write(4096, &[2; 4096]).unwrap();
    volume.flush().unwrap();
    let epochs = newest(&memory).state.epochs;
    assert_eq!(
        epochs.iter().map(|end| end.epoch).collect::<Vec<_>>(),
        [0, 21]
    );
}

#[test]
fn a_volume_whose_epochs_are_used_up_can_be_read_and_removed() {
    let store = created();
    let volume = open_stored(store.clone(), true).unwrap();
    volume.write(0, &[1; 4096]).unwrap();
    volume.close().unwrap();
    // One is left for a writer, and one behind it for the removal.
    let last = ObjectId::EPOCH_MAX;
    follow(&store, |superblock| {
        superblock.state.epochs[0].objects = Some(1);
        superblock.state.epochs.push(EpochEnd {
            epoch: last - 2,
            objects: None,
        });
        superblock.state.writer.as_mut().unwrap().epoch = last - 2;
    });
    drop(open_stored(store.clone(), true).unwrap());
    let superblocks = newest(&store).number;
    let refused = open_stored(store.clone(), true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    assert!(refused.to_string().contains("--read-only"), "{refused}");
    assert_eq!(newest(&store).number, superblocks, "a refusal claimed");
    let reader = Volume::open_read_only(store.clone(), runtime()).unwrap();
    assert_eq!(read(&reader, 0, 4096), [1; 4096]);
    remove(&store);
    assert_eq!(newest(&store).state.change, Change::Tombstone);
    let options = CreateOptions::new(MIB);
    let refused = Volume::create(store, runtime(), options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
}

#[test]
fn a_superblock_that_lists_too_many_epochs_stops_openings_and_no_removal() {
    let store = created();
    drop(open_stored(store.clone(), true).unwrap());
    follow(&store, |superblock| {
        let rows = (0..16_384).map(|epoch| EpochEnd {
            epoch,
            objects: Some(1),
        });
        superblock.state.epochs = rows.collect();
        superblock.state.writer.as_mut().unwrap().epoch = 16_383;
    });
    let refused = open_stored(store.clone(), true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    remove(&store);
    assert_eq!(newest(&store).state.epochs.len(), 1);
}

/// How far behind a missing object others may lie is what the largest window was since everything was
/// persisted.
#[test]
fn a_claim_keeps_the_window_of_writers_that_did_not_close() {
    let store = created();
    let open = |window| {
        let options = OpenOptions {
            take_over: true,
            window,
            ..OpenOptions::new("this machine")
        };
        open_fresh(store.clone(), runtime(), options).unwrap()
    };
    let window = || newest(&store).state.window();
    drop(open(16));
    assert_eq!(window(), 16);
    let volume = open(4);
    assert_eq!(window(), 16);
    volume.close().unwrap();
    drop(volume);
    drop(open(4));
    assert_eq!(window(), 4);
}
