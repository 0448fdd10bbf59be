//! Checkpoints that are made while writers go on.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lsvd::bytes::checkpoint::{Checkpoint, Form};
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use lsvd::words::limits::CUT_STALL_MAX;
use lsvd::words::name::{Epoch, ObjectId};
use lsvd::{CheckpointOptions, ErrorKind, OpenOptions, Volume};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};
use tokio::sync::watch;

use super::{
    SIZE, assert_disk, created, created_of, flip, needed, open, open_with, present, root,
    superblock, try_open,
};
use crate::host::open_fresh;
use crate::world::{MIB, read, runtime, wait_for};

/// Writers, and discards of everything, go on while one checkpoint after the other is made; each is
/// opened at its cut by a copy of the store that has nothing behind it.
#[test]
fn checkpoints_beside_writers_are_a_state_of_the_stream() {
    let store = created();
    let volume = try_open(store.clone(), 3).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let volume = volume.clone();
            scope.spawn(move || {
                for n in 0..400_u64 {
                    let at = (n * 7919 + thread * 104_729) % (SIZE / 512 - 64) * 512;
                    let byte = u8::try_from((n * 3 + thread) % 255).unwrap() + 1;
                    if n % 97 == 96 {
                        volume.discard(0, SIZE).unwrap();
                    } else {
                        volume.write(at, &vec![byte; 512 * 40]).unwrap();
                    }
                }
            });
        }
    });
    volume.flush().unwrap();
    wait_for("two checkpoints", || {
        superblock(&store).state.checkpoints.len() == 2
    });
    let state = read(&volume, 0, usize::try_from(SIZE).unwrap());
    drop(volume);
    assert_disk(&open(&store), &state);
    // The same from the very beginning: the checkpoints hold what the objects say.
    assert!(crate::world::replay_stream(&*store, SIZE) == state);
}

/// So few bytes that every checkpoint has parts, and writers wait for it all the time.
const TIGHT: CheckpointOptions = CheckpointOptions {
    objects: 9,
    copied_bytes: 300,
    part_bytes: 4 << 10,
};

#[test]
fn settings_out_of_range_are_refused() {
    let store = created();
    for (objects, part_bytes) in [(0, 4 << 10), (1, 4095), (1, (64 << 20) + 1)] {
        let options = CheckpointOptions {
            objects,
            part_bytes,
            ..TIGHT
        };
        let refused = open_with(store.clone(), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    let copies_nothing = CheckpointOptions {
        copied_bytes: 0,
        ..TIGHT
    };
    let refused = open_with(store, copies_nothing).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

/// A volume that has room for so many extents that a walk of it is in several steps.
const LARGE: u64 = 64 * MIB;

/// Random sectors of the whole volume, so that every region has many extents.
fn scatter(volume: &Volume, writes: u64, seed: u64) {
    for n in 0..writes {
        let sector = (n * 7919 + seed * 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (LARGE / 512);
        let byte = u8::try_from((n + seed) % 255).unwrap() + 1;
        volume.write(sector * 512, &[byte; 512]).unwrap();
    }
}

/// Parts are stored as soon as they are full, and the root names them.
#[test]
fn a_checkpoint_larger_than_a_part_is_in_parts() {
    let store = created_of(LARGE);
    let options = CheckpointOptions {
        objects: u32::MAX,
        ..TIGHT
    };
    let volume = open_with(store.clone(), options).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let volume = &volume;
            scope.spawn(move || scatter(volume, 30_000, seed));
        }
    });
    volume.checkpoint().unwrap();
    let newest = root(&store, 0);
    assert!(newest.references().len() > 2, "{:?}", newest.references());
    for part in newest.references() {
        let name = Checkpoint::name_of(part).to_string();
        let bytes = pollster::block_on(store.get(&name)).unwrap();
        let part = Checkpoint::decode_object(&bytes, newest.volume, part).unwrap();
        assert_eq!(part.form, Form::Part);
    }
    wait_for("the removal", || present(&store) == needed(&store));
    let state = read(&volume, 0, usize::try_from(LARGE).unwrap());
    drop(volume);
    // A damaged part is as a damaged root.
    let part = Checkpoint::name_of(newest.references()[1]).to_string();
    let volume = open(&store);
    assert_disk(&volume, &state);
    drop(volume);
    flip(&store, &part, 8 * 1000);
    assert_disk(&open(&store), &state);
    assert!(crate::world::replay_stream(&*store, LARGE) == state);
}

/// Writers that save much while the walk waits have it walk many regions ahead of their turn: those
/// are in parts as well.
#[test]
fn regions_that_are_walked_ahead_are_in_parts_of_their_size() {
    let memory = created_of(LARGE);
    let store = Arc::new(Faulty::new(memory.clone()));
    let checkpoint = CheckpointOptions {
        objects: u32::MAX,
        copied_bytes: 16 << 10,
        ..TIGHT
    };
    let options = OpenOptions {
        checkpoint,
        ..OpenOptions::new("this machine")
    };
    let volume = open_fresh(store.clone(), runtime(), options).unwrap();
    scatter(&volume, 90_000, 0);
    volume.flush().unwrap();
    store.fail_next_of("ckpt.", Verb::Put, 2, Fault::Hang);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| volume.checkpoint());
        wait_for("the walk to wait", || store.hanging() == 2);
        let writing = scope.spawn(|| scatter(&volume, 5_000, 9));
        // Until the writers wait, more or less: with fewer copies less is walked ahead.
        std::thread::sleep(Duration::from_millis(500));
        store.release();
        asking.join().unwrap().unwrap();
        writing.join().unwrap();
    });
    let newest = root(&memory, 0);
    let pieces = newest.pieces.iter().map(|piece| u64::from(piece.len));
    let most = checkpoint.part_bytes + 2 * pieces.max().unwrap();
    for part in newest.references() {
        let bytes = pollster::block_on(memory.get(&Checkpoint::name_of(part).to_string()));
        let part = Checkpoint::decode_object(&bytes.unwrap(), newest.volume, part).unwrap();
        let len = part.payload_len;
        assert!(len <= most, "a part of {len} bytes, more than {most}");
    }
}

/// Checkpoints that are made when somebody asks alone, and for which writers soon wait.
fn when_asked() -> OpenOptions {
    OpenOptions {
        checkpoint: CheckpointOptions {
            objects: u32::MAX,
            ..TIGHT
        },
        ..OpenOptions::new("this machine")
    }
}

/// Writers that wait for a checkpoint do not wait for ever for the store: it is given up then.
#[test]
fn a_checkpoint_that_the_store_does_not_take_is_given_up_when_writers_wait() {
    let memory = created_of(LARGE);
    let store = Arc::new(Faulty::new(memory.clone()));
    // Not hastily: a store that does not answer has longer than writers who wait.
    let volume = open_fresh(store.clone(), runtime(), when_asked()).unwrap();
    scatter(&volume, 90_000, 0);
    volume.flush().unwrap();
    let epoch = superblock(&memory).state.epochs.last().unwrap().epoch;
    for sequence in 0..2_u64 {
        let id = ObjectId::new(Epoch(epoch), sequence).unwrap();
        let name = Checkpoint::name_of(id).to_string();
        store.fail_next_of(&name, Verb::Put, 1, Fault::Hang);
    }
    let asking = {
        let volume = volume.clone();
        std::thread::spawn(move || volume.checkpoint())
    };
    wait_for("a part that hangs", || store.hanging() > 0);
    scatter(&volume, 500, 9);
    let given_up = asking.join().unwrap().unwrap_err();
    assert!(given_up.to_string().contains("given up"), "{given_up}");
    wait_for("the next attempt", || volume.checkpoint().is_ok());
    let state = read(&volume, 0, usize::try_from(LARGE).unwrap());
    drop(volume);
    assert_disk(&open(&memory), &state);
}

/// Nor do they wait for it where nothing that they would write is accepted any more.
#[test]
fn writers_that_wait_for_a_checkpoint_learn_of_a_close_and_of_a_take_over() {
    for is_closed in [true, false] {
        let memory = created_of(LARGE);
        let store = Arc::new(Faulty::new(memory.clone()));
        // Not hastily: they are told before the checkpoint is given up because they wait.
        let volume = open_fresh(store.clone(), runtime(), when_asked()).unwrap();
        scatter(&volume, 30_000, 0);
        volume.flush().unwrap();
        store.fail_next_of("ckpt.", Verb::Put, u64::MAX, Fault::Hang);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| volume.checkpoint());
            wait_for("the walk to wait", || store.hanging() == 2);
            let writing = scope.spawn(|| {
                let write = |n: u64| volume.write(n * 65536, &[7; 512]).err();
                (0..LARGE / 65536).find_map(write)
            });
            std::thread::sleep(Duration::from_millis(500));
            assert!(!writing.is_finished(), "it had room for its copies");
            let began = Instant::now();
            let closing = is_closed.then(|| scope.spawn(|| volume.close()));
            if !is_closed {
                drop(open(&memory));
                wait_for("the fence", || volume.status().fenced);
            }
            let refused = writing.join().unwrap().unwrap();
            let kind = match is_closed {
                true => ErrorKind::Closed,
                false => ErrorKind::Fenced,
            };
            assert_eq!(refused.kind(), kind, "{refused}");
            assert!(began.elapsed() < CUT_STALL_MAX, "{:?}", began.elapsed());
            store.mend();
            store.release();
            drop(asking.join().unwrap());
            if let Some(closing) = closing {
                drop(closing.join().unwrap());
            }
        });
    }
}

/// A store that is wrong in itself, from some moment on.
#[derive(Debug)]
struct Panicking {
    inner: Arc<MemoryStore>,
    panics: watch::Sender<bool>,
}

impl ObjectStore for Panicking {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if name.starts_with("ckpt.") {
                let mut panics = self.panics.subscribe();
                let asked = panics.wait_for(|panics| *panics).await.is_ok();
                panic!("the test asked for it: {asked}");
            }
            self.inner.put(name, body).await
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get(name)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get_range(name, range)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        self.inner.list()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// The walk that would make room for them ends in a panic: they go on without a checkpoint.
#[test]
fn writers_that_wait_for_a_checkpoint_go_on_where_its_task_panics() {
    let store = Arc::new(Panicking {
        inner: created_of(LARGE),
        panics: watch::Sender::new(false),
    });
    let options = OpenOptions {
        // Nothing else is to wake them.
        seal_timeout: Duration::from_secs(3600),
        ..when_asked()
    };
    let volume = open_fresh(store.clone(), runtime(), options).unwrap();
    scatter(&volume, 30_000, 0);
    volume.flush().unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| volume.checkpoint());
        wait_for("the walk to wait", || store.panics.receiver_count() == 2);
        let writing = scope.spawn(|| {
            let write = |n: u64| volume.write(n * 65536, &[7; 512]);
            (0..LARGE / 65536).try_for_each(write)
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!writing.is_finished(), "it had room for its copies");
        store.panics.send_replace(true);
        let failed = asking.join().unwrap().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        writing.join().unwrap().unwrap();
    });
}
