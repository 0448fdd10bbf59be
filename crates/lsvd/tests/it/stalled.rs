//! A writer that is stalled at some step and goes on after another one has taken over and worked:
//! one line of history survives.

use std::sync::Arc;
use std::thread::JoinHandle;

use lsvd::doors::store::ObjectStore;
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{create, open_on, taking_over};
use crate::world::{objects_of, read, wait_for};

fn open(store: Arc<dyn ObjectStore>, disk: &MemoryDisk) -> lsvd::Result<Volume> {
    open_on(store, disk, &taking_over())
}

/// A writer that takes over from another one, and is stalled at its claim until its store is released.
fn stalled_taker(memory: &Arc<MemoryStore>) -> (Arc<Faulty>, JoinHandle<lsvd::Result<Volume>>) {
    let slow = Arc::new(Faulty::new(memory.clone()));
    slow.fail_next_of("superblock.00000003", Verb::Put, 1, Fault::Hang);
    let taker = std::thread::spawn({
        let slow = slow.clone();
        move || open(slow, &MemoryDisk::new(512))
    });
    wait_for("the stall", || slow.hanging() > 0);
    (slow, taker)
}

/// What happened to the first writer.
enum First {
    /// It never opened the volume.
    Refused,
    /// It wrote and flushed the first sector before it was stalled.
    Flushed,
    /// It was fenced before anything of it was flushed.
    Nothing,
}

/// The first writer is stalled at its request `verb` to `object`; the second takes over and works,
/// then the first goes on.
fn stall(object: &str, verb: Verb) {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let slow = Arc::new(Faulty::new(memory.clone()));
    slow.fail_next_of(object, verb, 1, Fault::Hang);
    let first_disk = MemoryDisk::at("/first", 512);
    let first = std::thread::spawn({
        let store = slow.clone();
        move || {
            let Ok(volume) = open(store, &first_disk) else {
                return First::Refused;
            };
            volume.write(0, &[1; 512]).unwrap();
            let flushed = volume.flush();
            // Whatever it does from now on is refused, and so is what it does not know of yet.
            wait_for("the fence", || {
                let write = volume.write(512, &[2; 512]).and_then(|()| volume.flush());
                write.is_err_and(|error| error.kind() == ErrorKind::Fenced)
            });
            assert_eq!(
                volume.read(0, &mut [0; 512]).unwrap_err().kind(),
                ErrorKind::Fenced
            );
            match flushed {
                Ok(()) => First::Flushed,
                Err(_) => First::Nothing,
            }
        }
    });
    wait_for("the stall", || slow.hanging() > 0);
    let second_disk = MemoryDisk::at("/second", 512);
    let second = open(memory.clone(), &second_disk).unwrap();
    for round in 0..3_u64 {
        second.write(1024 + round * 512, &[3; 512]).unwrap();
        second.flush().unwrap();
    }
    slow.release();
    let first = first.join().unwrap();
    second.write(4096, &[4; 512]).unwrap();
    second.flush().unwrap();
    second.close().unwrap();
    drop(second);
    wait_for("the end of the second", || second_disk.open().is_ok());
    let third = open(memory, &second_disk).unwrap();
    let expected = match first {
        First::Flushed => 1,
        First::Refused | First::Nothing => 0,
    };
    let found = read(&third, 0, 512);
    assert!(
        found == [expected; 512] || (expected == 0 && found == [1; 512]),
        "{object}: {:?}",
        &found[..1]
    );
    assert_eq!(
        read(&third, 512, 512),
        [0; 512],
        "{object}: written by a fenced writer"
    );
    assert_eq!(read(&third, 1024, 1536), [3; 1536], "{object}");
    assert_eq!(read(&third, 4096, 512), [4; 512], "{object}");
}

/// What the writer before stores and flushes until the very moment of the claim is in the stream that
/// the taker finds.
#[test]
fn a_taker_that_was_stalled_at_its_claim_sees_what_was_flushed_meanwhile() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let first = open(memory.clone(), &MemoryDisk::new(512)).unwrap();
    let (slow, taker) = stalled_taker(&memory);
    first.write(0, &[1; 512]).unwrap();
    first.flush().unwrap();
    slow.release();
    let second = taker.join().unwrap().unwrap();
    assert_eq!(read(&second, 0, 512), [1; 512]);
}

/// The number of a claim may go to the writer that is to be taken over, which makes superblocks of its
/// own as long as it does not know of the claim: whoever loses it looks again and claims the next.
#[test]
fn a_taker_whose_number_the_writer_took_claims_the_next() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let first = open(memory.clone(), &MemoryDisk::new(512)).unwrap();
    let (slow, taker) = stalled_taker(&memory);
    first.write(0, &[1; 512]).unwrap();
    first.checkpoint().unwrap();
    assert!(objects_of(&*memory, "superblock.00000003").len() == 1);
    slow.release();
    let second = taker.join().unwrap().unwrap();
    assert_eq!(read(&second, 0, 512), [1; 512]);
    second.write(512, &[2; 512]).unwrap();
    second.flush().unwrap();
    wait_for("the fence", || first.write(0, &[3; 512]).is_err());
    assert_eq!(read(&second, 0, 1024), [[1; 512], [2; 512]].concat());
}

/// But not where it went to another taker.
#[test]
fn of_two_takers_at_once_one_is_refused() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let _first = open(memory.clone(), &MemoryDisk::new(512)).unwrap();
    let (slow, taker) = stalled_taker(&memory);
    let second = open(memory, &MemoryDisk::new(512)).unwrap();
    slow.release();
    let refused = taker.join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse, "{refused}");
    second.write(0, &[2; 512]).unwrap();
    second.flush().unwrap();
}

#[test]
fn stalled_at_its_claim() {
    stall("superblock.00000001", Verb::Put);
}

#[test]
fn stalled_at_the_fix_of_ends() {
    stall("superblock.00000002", Verb::Put);
}

#[test]
fn stalled_at_an_upload() {
    stall("data.00000000", Verb::Put);
}

#[test]
fn stalled_at_a_later_upload() {
    stall("data.00000001", Verb::Put);
}

#[test]
fn stalled_at_a_fence_check() {
    stall("superblock.00000003", Verb::Get);
}

fn one_at_once() -> OpenOptions {
    OpenOptions {
        window: 1,
        ..taking_over()
    }
}

/// A writer that does not know yet that it is taken over goes on storing. What the taker missed at
/// its search may be there a moment later, with more behind it than can be under way at once: that is
/// no damage.
#[test]
fn a_taker_that_searches_while_the_writer_still_stores_finds_no_damage() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let stalled = Arc::new(Faulty::new(memory.clone()));
    let first = open_on(stalled.clone(), &MemoryDisk::new(512), &one_at_once()).unwrap();
    let slow = Arc::new(Faulty::new(memory.clone()));
    // Behind its claim, not at the look that comes before.
    slow.fail_next_of("superblock.00000003", Verb::Put, 1, Fault::Hang);
    let taker = std::thread::spawn({
        let slow = slow.clone();
        move || open_on(slow, &MemoryDisk::new(512), &one_at_once())
    });
    wait_for("the claim", || slow.hanging() > 0);
    slow.fail_next_of("data.00000001", Verb::Get, 1, Fault::Hang);
    slow.release();
    let claim = "superblock.00000003".to_owned();
    wait_for("the stall", || {
        slow.hanging() > 0 && objects_of(&*memory, "superblock.").contains(&claim)
    });
    stalled.fail_next_of("superblock.00000003", Verb::Get, u64::MAX, Fault::Hang);
    for round in 0..3_u64 {
        first.write(round * 512, &[1; 512]).unwrap();
        let stored = usize::try_from(round).unwrap() + 1;
        wait_for("the upload", || {
            objects_of(&*memory, "data.").len() == stored
        });
    }
    slow.release();
    let second = taker.join().unwrap().unwrap();
    assert_eq!(read(&second, 0, 1536), [0; 1536]);
    second.write(0, &[2; 512]).unwrap();
    second.flush().unwrap();
    assert_eq!(read(&second, 0, 1024), [[2; 512], [0; 512]].concat());
    stalled.release();
}
