//! Creations that were given up and arrive all the same, when nobody waits for them any more: of an
//! object, of a claim, of what a claim is followed by.

use std::sync::Arc;
use std::time::Duration;

use lsvd::bytes::superblock::CloseState;
use lsvd::doors::disk::LocalDisk;
use lsvd::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{LOG_BYTES, create, open_on, taking_over};
use crate::world::{Hasty, objects_of, read, runtime, wait_for};

fn open(store: Arc<dyn ObjectStore>) -> lsvd::Result<Volume> {
    open_on(store, &MemoryDisk::new(512), &taking_over())
}

fn created() -> (Arc<MemoryStore>, Arc<Faulty>) {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    (memory, store)
}

fn arrive(store: &Faulty) -> Vec<Result<(), StoreErrorKind>> {
    let answers = pollster::block_on(store.arrive());
    let kind = |error: StoreError| error.kind();
    answers
        .into_iter()
        .map(|answer| answer.map_err(kind))
        .collect()
}

const TAKEN: Result<(), StoreErrorKind> = Err(StoreErrorKind::AlreadyExists);

/// The uploads of a writer that was taken over arrive behind the end that its successor has fixed,
/// where the successor has no objects of its own yet and where it has.
#[test]
fn objects_that_come_behind_the_end_are_of_no_stream() {
    let (memory, store) = created();
    let first = open(store.clone()).unwrap();
    first.write(0, &[1; 512]).unwrap();
    first.flush().unwrap();
    store.fail_next_of("data.", Verb::Put, u64::MAX, Fault::Late);
    first.write(0, &[2; 512]).unwrap();
    wait_for("the upload", || store.late() > 0);
    let second = open(memory.clone()).unwrap();
    assert_eq!(arrive(&store)[0], Ok(()));
    assert_eq!(objects_of(&*memory, "data.").len(), 2);
    assert_eq!(read(&second, 0, 512), [1; 512]);
    let third = open(memory.clone()).unwrap();
    assert_eq!(read(&third, 0, 512), [1; 512]);
    third.write(512, &[3; 512]).unwrap();
    third.flush().unwrap();
    drop((first, second, third));
    let fourth = open(memory).unwrap();
    assert_eq!(read(&fourth, 0, 512), [1; 512]);
    assert_eq!(read(&fourth, 512, 512), [3; 512]);
}

/// An upload that was repeated arrives twice.
#[test]
fn an_upload_that_was_repeated_meanwhile_changes_nothing() {
    let (memory, store) = created();
    let volume = open(store.clone()).unwrap();
    store.fail_next_of("data.", Verb::Put, 1, Fault::Late);
    volume.write(0, &[1; 512]).unwrap();
    volume.flush().unwrap();
    assert_eq!(arrive(&store), [TAKEN]);
    volume.close().unwrap();
    assert_eq!(read(&open(memory).unwrap(), 0, 512), [1; 512]);
}

/// Whoever gave up his claim has none when it arrives behind another's, and locks nobody out when it
/// arrives first.
#[test]
fn a_claim_whose_owner_is_gone_hurts_nobody() {
    for comes_first in [false, true] {
        let (memory, store) = created();
        store.fail_next_of("superblock.", Verb::Put, 1, Fault::Late);
        let given_up = open(store.clone()).unwrap_err();
        assert_eq!(given_up.kind(), ErrorKind::Unavailable, "{given_up}");
        if comes_first {
            assert_eq!(arrive(&store), [Ok(())]);
        }
        let volume = open(memory.clone()).unwrap();
        volume.write(0, &[1; 512]).unwrap();
        volume.flush().unwrap();
        if !comes_first {
            assert_eq!(arrive(&store), [TAKEN]);
        }
        volume.write(512, &[2; 512]).unwrap();
        volume.flush().unwrap();
        drop(volume);
        let volume = open(memory).unwrap();
        assert_eq!(read(&volume, 0, 512), [1; 512]);
        assert_eq!(read(&volume, 512, 512), [2; 512]);
    }
}

/// The same for the superblock that fixes the ends: while it may still arrive nobody knows which epoch
/// has no objects.
#[test]
fn the_ends_that_a_lost_owner_fixed_hurt_nobody() {
    for comes_first in [false, true] {
        let (memory, store) = created();
        store.fail_next_of("superblock.00000002", Verb::Put, 1, Fault::Late);
        let given_up = open(store.clone()).unwrap_err();
        assert_eq!(given_up.kind(), ErrorKind::Unavailable, "{given_up}");
        if comes_first {
            assert_eq!(arrive(&store), [Ok(())]);
        }
        let volume = open(memory.clone()).unwrap();
        volume.write(0, &[1; 512]).unwrap();
        volume.flush().unwrap();
        if !comes_first {
            assert_eq!(arrive(&store), [TAKEN]);
        }
        volume.close().unwrap();
        assert_eq!(read(&open(memory).unwrap(), 0, 512), [1; 512]);
    }
}

/// A claim that was given up, and arrives while its own machine tries again.
#[test]
fn a_claim_of_ones_own_that_comes_late_locks_nobody_out() {
    let (memory, store) = created();
    drop(locks_nobody_out(
        &memory,
        &store,
        &MemoryDisk::at("/host", 512),
    ));
}

/// The same where the volume was closed, so that nobody needs the log that the claim names.
#[test]
fn a_claim_of_ones_own_that_comes_late_to_a_closed_volume_locks_nobody_out() {
    let (memory, store) = created();
    let disk = MemoryDisk::at("/host", 512);
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        ..OpenOptions::new("the only machine")
    };
    let closed = open_on(memory.clone(), &disk, &options).unwrap();
    closed.write(0, &[1; 512]).unwrap();
    closed.close().unwrap();
    drop(closed);
    let opened = locks_nobody_out(&memory, &store, &disk);
    assert_eq!(read(&opened, 0, 512), [1; 512]);
}

fn locks_nobody_out(memory: &Arc<MemoryStore>, store: &Arc<Faulty>, disk: &MemoryDisk) -> Volume {
    let open = |store: Arc<dyn ObjectStore>, log_bytes| {
        let options = OpenOptions {
            log_bytes,
            ..OpenOptions::new("the only machine")
        };
        open_on(store, disk, &options)
    };
    store.fail_next_of("superblock.", Verb::Put, 1, Fault::Late);
    let given_up = open(store.clone(), LOG_BYTES).unwrap_err();
    assert_eq!(given_up.kind(), ErrorKind::Unavailable, "{given_up}");
    let slow = Arc::new(Faulty::new(memory.clone()));
    slow.fail_next_of("superblock.", Verb::Put, 1, Fault::Hang);
    std::thread::scope(|scope| {
        let again = scope.spawn(|| open(slow.clone(), 2 * LOG_BYTES));
        wait_for("the claim", || slow.hanging() > 0);
        assert_eq!(arrive(store), [Ok(())]);
        slow.release();
        let lost = again.join().unwrap().unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::InUse, "{lost}");
    });
    // It has the log that the claim names.
    open(memory.clone(), LOG_BYTES).unwrap()
}

/// A volume with a checkpoint, whose close waits for its superblock for a tenth of a second.
fn impatient(store: &Arc<Faulty>) -> Volume {
    let options = OpenOptions {
        retry_timeout: Duration::from_millis(100),
        ..taking_over()
    };
    let volume = open_on(store.clone(), &MemoryDisk::new(512), &options).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    volume.checkpoint().unwrap();
    volume
}

/// A close whose superblock took the store too long is given up. It says that all is stored, so it
/// stands: nobody needs the log or `--take-over`.
#[test]
fn a_clean_close_that_was_only_slow_stays_clean() {
    for fault in [Fault::Hang, Fault::Late] {
        let (memory, store) = created();
        let volume = impatient(&store);
        store.fail_next_of("superblock.", Verb::Put, 1, fault);
        if fault == Fault::Hang {
            let slow = volume.close().unwrap_err();
            assert_eq!(slow.kind(), ErrorKind::Unavailable, "{slow}");
        } else {
            let closing = volume.close();
            assert!(store.late() == 1, "{closing:?}");
            arrive(&store);
        }
        pollster::block_on(volume.leave_async()).unwrap();
        let newest = Volume::newest_superblock(memory.clone(), runtime()).unwrap();
        let writer = newest.unwrap().state.writer.unwrap();
        assert_eq!(writer.close, Some(CloseState::Clean), "{fault:?}");
        drop(volume);
        let without_log = OpenOptions {
            take_over: false,
            ..taking_over()
        };
        open_on(memory, &MemoryDisk::new(512), &without_log).unwrap();
    }
}

/// Whoever closes again waits for the superblock that he gave up, and does not make another: a store
/// that takes longer than he waits would never have the last one.
#[test]
fn a_close_that_is_repeated_asks_for_no_second_superblock() {
    let (memory, store) = created();
    let volume = impatient(&store);
    store.fail_next_of("superblock.", Verb::Put, 1, Fault::Hang);
    let slow = volume.close().unwrap_err();
    assert_eq!(slow.kind(), ErrorKind::Unavailable, "{slow}");
    let before = objects_of(&*memory, "superblock.").len();
    volume.close().unwrap();
    assert_eq!(objects_of(&*memory, "superblock.").len(), before + 1);
}

/// Whatever is behind one's own superblock fences, also what cannot be read: a later program wrote it,
/// or a bit of it flipped.
#[test]
fn a_claim_that_cannot_be_read_fences_all_the_same() {
    for spoilt in [8_usize, 140] {
        let (memory, _) = created();
        let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: LOG_BYTES,
            ..OpenOptions::new("the first")
        };
        let hasty = Arc::new(Hasty(runtime()));
        let first = Volume::open(memory.clone(), &disk, hasty, &options).unwrap();
        first.write(0, &[1; 512]).unwrap();
        first.flush().unwrap();
        drop(open(memory.clone()).unwrap());
        let name = "superblock.00000003";
        let mut claim = pollster::block_on(memory.get(name)).unwrap().to_vec();
        claim[spoilt] ^= 3;
        pollster::block_on(memory.delete(name)).unwrap();
        pollster::block_on(memory.put(name, vec![claim.into()])).unwrap();
        wait_for("the fence", || {
            let written = first.write(512, &[2; 512]).and_then(|()| first.flush());
            written.is_err_and(|error| error.kind() == ErrorKind::Fenced)
        });
        let read = first.read(0, &mut [0; 512]).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Fenced, "{read}");
    }
}
