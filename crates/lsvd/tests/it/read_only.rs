//! Volumes that are open for reading only, also beside a writer.

use std::sync::Arc;

use lsvd::doors::store::ObjectStore;
use lsvd::{CreateOptions, ErrorKind, Volume};
use lsvd_store::{Counting, Fault, Faulty, MemoryStore, Verb};

use crate::host::open_stored;
use crate::world::{MIB, objects_of, read, runtime, wait_for};

fn writer(store: &Arc<MemoryStore>) -> Volume {
    let options = CreateOptions {
        object_size: MIB,
        ..CreateOptions::new(64 * MIB)
    };
    Volume::create(store.clone(), runtime(), options).unwrap();
    open_stored(store.clone(), false).unwrap()
}

fn reader(store: Arc<dyn ObjectStore>) -> lsvd::Result<Volume> {
    Volume::open_read_only(store, runtime())
}

#[test]
fn a_reader_sees_what_was_stored_when_it_opened_and_nothing_later() {
    let store = Arc::new(MemoryStore::new());
    let writer = writer(&store);
    let empty = reader(store.clone()).unwrap();
    writer.write(0, &[1; 4096]).unwrap();
    writer.flush().unwrap();
    writer.write(4096, &[2; 4096]).unwrap();
    let reader = reader(store).unwrap();
    assert_eq!((reader.size(), reader.uuid()), (64 * MIB, writer.uuid()));
    writer.write(0, &[3; 4096]).unwrap();
    writer.flush().unwrap();
    assert_eq!(read(&empty, 0, 8192), [0; 8192]);
    assert_eq!(read(&reader, 0, 4096), [1; 4096]);
    assert_eq!(read(&reader, 4096, 4096), [0; 4096], "it was not stored");
    assert_eq!(read(&writer, 0, 4096), [3; 4096]);
}

#[test]
fn a_reader_changes_nothing_and_refuses_changes() {
    let store = Arc::new(MemoryStore::new());
    let writer = writer(&store);
    writer.write(0, &[1; 4096]).unwrap();
    writer.flush().unwrap();
    let counting = Arc::new(Counting::new(store));
    let reader = reader(counting.clone()).unwrap();
    for refused in [
        reader.write(0, &[2; 512]),
        reader.discard(0, 512),
        reader.write_zeroes(0, 512),
        reader.try_write(0, &[2; 512]).unwrap(),
        reader.write(0, &vec![2; 3 << 20]),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::ReadOnly, 30));
        assert!(error.to_string().contains("for reading only"), "{error}");
    }
    // Nothing was written, so there is nothing to wait for.
    reader.flush().unwrap();
    assert_eq!(read(&reader, 0, 4096), [1; 4096]);
    reader.close().unwrap();
    let counts = counting.counts();
    assert_eq!((counts.put.requests, counts.delete.requests), (0, 0));
    writer.write(0, &[3; 512]).unwrap();
    writer.flush().unwrap();
}

#[test]
fn readers_open_beside_a_writer_at_full_speed() {
    let store = Arc::new(MemoryStore::new());
    let writer = writer(&store);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The block of every write holds its number, so what is seen must be a prefix.
            for number in 1..4000_u64 {
                let block = number.to_le_bytes().repeat(64);
                writer.write(number % 64 * 512, &block).unwrap();
                if number % 3 == 0 {
                    writer.flush().unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let reader = reader(store.clone()).unwrap();
            let disk = read(&reader, 0, 64 * 512);
            let seen: Vec<u64> = disk
                .chunks(512)
                .map(|sector| u64::from_le_bytes(sector[..8].try_into().unwrap()))
                .collect();
            let newest = *seen.iter().max().unwrap();
            for number in newest.saturating_sub(63).max(1)..=newest {
                let at = usize::try_from(number % 64).unwrap();
                assert_eq!(seen[at], number, "of the writes up to {newest}: {seen:?}");
            }
        }
    });
}

#[test]
fn damage_is_damage_for_a_reader_too() {
    let store = Arc::new(MemoryStore::new());
    let writer = writer(&store);
    for at in 0..3 {
        writer.write(at * 512, &[1; 512]).unwrap();
        writer.flush().unwrap();
    }
    drop(writer);
    pollster::block_on(store.delete("data.00000000")).unwrap();
    assert_eq!(reader(store).unwrap_err().kind(), ErrorKind::Damaged);
    let nothing = reader(Arc::new(MemoryStore::new())).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
}

/// While a reader is stalled the writer makes two checkpoints, and removes the one from which the
/// reader began.
#[test]
fn a_reader_whose_checkpoint_goes_begins_anew() {
    let memory = Arc::new(MemoryStore::new());
    let writer = writer(&memory);
    let step = |n: u8| {
        writer.write(u64::from(n) * 4096, &[n; 4096]).unwrap();
        writer.checkpoint().unwrap();
    };
    step(1);
    let slow = Arc::new(Faulty::new(memory.clone()));
    slow.fail_next_of("ckpt.", Verb::Get, 1, Fault::Hang);
    let opening = std::thread::spawn({
        let slow = slow.clone();
        move || reader(slow)
    });
    wait_for("the stall", || slow.hanging() == 1);
    (2..5).for_each(step);
    wait_for("the removal", || objects_of(&*memory, "ckpt.").len() == 2);
    slow.release();
    let reader = opening.join().unwrap().unwrap();
    for n in 1..5_u8 {
        assert_eq!(read(&reader, u64::from(n) * 4096, 4096), [n; 4096]);
    }
    // What is missing without anything newer is damage.
    for name in objects_of(&*memory, "ckpt.") {
        pollster::block_on(memory.delete(&name)).unwrap();
    }
    let damaged = Volume::open_read_only(memory, runtime()).unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Damaged, "{damaged}");
}
