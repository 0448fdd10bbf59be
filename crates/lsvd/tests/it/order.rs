//! Uploads that complete in any order, and what waits for them.

use std::sync::Arc;
use std::time::Duration;

use lsvd::FlushTarget;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::world::{MIB, objects, open, read, replay, small, wait_for};

const OBJECT: usize = 1 << 20;

/// Batch 0 is held back while later ones complete: a flush waits for it, its data is read from
/// memory, and nothing beyond the window starts.
#[test]
fn nothing_overtakes_the_oldest_upload_by_more_than_the_window() {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(Faulty::new(memory.clone()));
    store.fail_next_of("data.00000000", Verb::Put, 1, Fault::Hang);
    let mut options = small(64 * MIB);
    options.window = 3;
    options.flush = FlushTarget::Store;
    let volume = open(store.clone(), options);
    for n in 0..6_u8 {
        volume
            .write(u64::from(n) * MIB, &vec![n + 1; OBJECT])
            .unwrap();
    }
    wait_for("objects 1 and 2", || {
        objects(&*memory).len() == 2 && store.hanging() == 1
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(objects(&*memory).into_keys().collect::<Vec<_>>(), [1, 2]);
    let flushed = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            volume.flush().unwrap();
            flushed.store(true, std::sync::atomic::Ordering::Release);
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(
            !flushed.load(std::sync::atomic::Ordering::Acquire),
            "an older object is missing"
        );
        for n in 0..6_u8 {
            assert_eq!(read(&volume, u64::from(n) * MIB, 512), [n + 1; 512]);
        }
        store.release();
    });
    assert_eq!(replay(&*memory, 64 * MIB), read(&volume, 0, 64 << 20));
}

#[test]
fn of_two_writes_to_one_place_the_later_wins_however_uploads_complete() {
    for held in 0..3 {
        let memory = Arc::new(MemoryStore::new());
        let store = Arc::new(Faulty::new(memory.clone()));
        store.fail_next_of(&format!("data.{held:08x}"), Verb::Put, 1, Fault::Hang);
        let mut options = small(4 * MIB);
        options.window = 3;
        let volume = open(store.clone(), options);
        for n in 1..=3_u8 {
            volume.write(0, &vec![n; OBJECT]).unwrap();
        }
        wait_for("the others", || {
            objects(&*memory).len() == 2 && store.hanging() == 1
        });
        assert_eq!(read(&volume, 0, OBJECT), vec![3; OBJECT]);
        store.release();
        volume.close().unwrap();
        assert_eq!(replay(&*memory, MIB), vec![3; OBJECT]);
    }
}

/// Memory is bounded: with the store stuck, writes wait, small ones behind large ones, and go on
/// when it moves.
#[test]
fn writes_wait_when_the_window_is_full_and_go_on_in_order() {
    let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new())));
    store.fail_next(Verb::Put, 2, Fault::Hang);
    let volume = open(store.clone(), small(64 * MIB));
    let mut written = 0;
    while let Some(done) = volume.try_write(written * MIB, &vec![1; OBJECT]) {
        done.unwrap();
        written += 1;
        assert!(written < 20, "memory is not bounded");
    }
    assert_eq!(written, 2 + 4, "the window and the spare buffers");
    std::thread::scope(|scope| {
        let large = scope.spawn(|| volume.write(40 * MIB, &vec![2; 3 * OBJECT]));
        std::thread::sleep(Duration::from_millis(50));
        let small = scope.spawn(|| volume.write(50 * MIB, &[3; 512]));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!large.is_finished() && !small.is_finished());
        assert!(
            volume.try_write(0, &[9; 512]).is_none(),
            "nobody goes past those who wait"
        );
        assert_eq!(read(&volume, 0, 512), [1; 512], "reads go on");
        wait_for("both uploads", || store.hanging() == 2);
        store.release();
        large.join().unwrap().unwrap();
        small.join().unwrap().unwrap();
    });
    assert_eq!(read(&volume, 40 * MIB, 3 * OBJECT), vec![2; 3 * OBJECT]);
    volume.close().unwrap();
}

#[test]
fn the_last_clone_that_goes_lets_the_data_reach_the_store() {
    let memory = Arc::new(MemoryStore::new());
    let mut options = small(4 * MIB);
    options.seal_timeout = Duration::from_secs(3600);
    let volume = open(memory.clone(), options);
    let clone = volume.clone();
    volume.write(0, &[1; 512]).unwrap();
    drop(volume);
    clone.write(512, &[2; 512]).unwrap();
    drop(clone);
    wait_for("the object", || objects(&*memory).len() == 1);
    assert_eq!(replay(&*memory, 1024), [[1; 512], [2; 512]].concat());
}
