//! The look at whether another writer took over: a slow store, one that answers everything else, and
//! what a writer does that was taken over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lsvd::doors::BoxFuture;
use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::limits::STORE_PATIENCE;
use lsvd::{CheckpointOptions, ErrorKind, FlushTarget, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk};
use lsvd_store::{Fault, Faulty, Latency, MemoryStore, Verb};

use crate::host::{LOG_BYTES, OBJECT_BYTES, create, open_stored};
use crate::world::{Hasty, objects_of, pass_hastily, read, runtime, wait_for};

fn hasty() -> Arc<dyn Runtime> {
    Arc::new(Hasty(runtime()))
}

fn open(store: Arc<dyn ObjectStore>, disk: &MemoryDisk, runtime: Arc<dyn Runtime>) -> Volume {
    let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        take_over: true,
        ..OpenOptions::new("this machine")
    };
    Volume::open(store, &disk, runtime, &options).unwrap()
}

/// Place of the n-th object's worth of data.
fn place(n: u64) -> u64 {
    n % 64 * OBJECT_BYTES
}

fn content(n: u64) -> Vec<u8> {
    vec![u8::try_from(n % 251).unwrap() + 1; usize::try_from(OBJECT_BYTES).unwrap()]
}

/// Reads that take longer than a flush waits for one must do for what is persisted in the
/// background: nothing is given up that would have been answered.
#[test]
fn a_store_with_slow_reads_takes_more_than_the_log_holds() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let slow = Latency::new(memory, hasty()).reads("20s".parse().unwrap());
    let volume = open(Arc::new(slow), &MemoryDisk::new(512), hasty());
    for n in 0..40 {
        volume.write(place(n), &content(n)).unwrap();
    }
    const { assert!(40 * OBJECT_BYTES > 3 * LOG_BYTES) };
    volume.flush().unwrap();
    wait_for("everything to be persisted", || {
        volume.status().at_risk_bytes == 0
    });
}

/// What waits for room in the log learns that only the look fails, and goes on when it passes again.
#[test]
fn writers_that_wait_for_room_fail_when_only_the_look_fails() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = open(store.clone(), &MemoryDisk::new(512), hasty());
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of("superblock.", Verb::Get, u64::MAX, refuse);
    let writer = thread::spawn({
        let volume = volume.clone();
        move || (0..64).find_map(|n| volume.write(place(n), &content(n)).err())
    });
    wait_for("the writer's end", || writer.is_finished());
    let error = writer.join().unwrap().expect("the log is full");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    volume.flush().unwrap();
    store.mend();
    wait_for("the drain", || volume.status().at_risk_bytes == 0);
    volume.write(0, &[9; 512]).unwrap();
    assert_eq!(read(&volume, 0, 512), [9; 512]);
}

#[test]
fn a_close_ends_the_wait_for_room() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = open(store.clone(), &MemoryDisk::new(512), runtime());
    store.fail_next_of("data.", Verb::Put, u64::MAX, Fault::Hang);
    let written = Arc::new(AtomicU64::new(0));
    let writer = thread::spawn({
        let (volume, written) = (volume.clone(), Arc::clone(&written));
        move || {
            (0..64).find_map(|n| {
                written.store(n, Ordering::SeqCst);
                volume.write(place(n), &content(n)).err()
            })
        }
    });
    let mut before = 0;
    wait_for("the writer to wait", || {
        thread::sleep(Duration::from_millis(200));
        std::mem::replace(&mut before, written.load(Ordering::SeqCst)) == before && before > 0
    });
    let closer = thread::spawn({
        let volume = volume.clone();
        move || volume.close()
    });
    wait_for("the writer's end", || writer.is_finished());
    assert!(volume.status().error.is_none(), "the store was given up");
    let error = writer.join().unwrap().expect("there was no room");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    store.mend();
    store.release();
    closer.join().unwrap().unwrap();
}

/// A writer that was taken over has a backlog that nobody wants, and a log that somebody may want.
#[test]
fn a_fenced_writer_stores_nothing_more_and_lets_go_of_its_log() {
    for is_mended in [false, true] {
        let memory = Arc::new(MemoryStore::new());
        create(&memory);
        let store = Arc::new(Faulty::new(memory.clone()));
        let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
        store.fail_next_of("data.", Verb::Put, u64::MAX, refuse);
        let disk = MemoryDisk::new(512);
        let first = open(store.clone(), &disk, hasty());
        for n in 0..5 {
            first.write(place(n), &content(n)).unwrap();
        }
        let second = open(memory.clone(), &MemoryDisk::new(512), runtime());
        wait_for("the fence", || first.status().fenced);
        if is_mended {
            store.mend();
        }
        drop(first);
        wait_for("the release of the log", || disk.open().is_ok());
        assert_eq!(objects_of(&*memory, "data.").len(), 0);
        second.write(0, &[2; 512]).unwrap();
        second.close().unwrap();
        assert_eq!(objects_of(&*memory, "data.").len(), 1);
    }
}

/// A checkpoint that is being made is nobody's any more: what a store refuses of it is not tried for ever.
#[test]
fn a_fenced_writer_gives_up_its_checkpoint_and_lets_go_of_the_store() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of("ckpt.", Verb::Put, u64::MAX, refuse);
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_millis(20),
        checkpoint: CheckpointOptions {
            objects: 1,
            ..CheckpointOptions::default()
        },
        ..OpenOptions::new("this machine")
    };
    let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
    let first = Volume::open(store.clone(), &disk, hasty(), &options).unwrap();
    first.write(0, &[1; 512]).unwrap();
    wait_for("the drain", || first.status().at_risk_bytes == 0);
    let second = open(memory.clone(), &MemoryDisk::new(512), runtime());
    wait_for("the fence", || {
        first.flush().is_err() && first.status().fenced
    });
    drop(first);
    wait_for("the release of the store", || {
        Arc::strong_count(&store) == 1
    });
    store.mend();
    assert_eq!(objects_of(&*memory, "ckpt.").len(), 0);
    drop(second);
}

/// Nothing is stored any more, so nothing else would look: what is read is another's disk from now on.
#[test]
fn a_writer_whose_log_failed_learns_that_it_was_taken_over() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let disk = MemoryDisk::new(512);
    let first = open(memory.clone(), &disk, hasty());
    first.write(0, &[1; 512]).unwrap();
    disk.fail_next(DiskFault::Sync);
    let failed = first.flush().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::LocalDisk, "{failed}");
    assert_eq!(read(&first, 0, 512), [1; 512]);
    let _second = open(memory, &MemoryDisk::new(512), runtime());
    wait_for("the fence", || first.status().fenced);
    let fenced = first.read(0, &mut [0; 512]).unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    drop(first);
    wait_for("the release of the log", || disk.open().is_ok());
}

/// The last batch before the cut is lost with the log: nobody waits for its object, and the tasks end
/// with the volume.
#[test]
fn a_checkpoint_ends_whose_objects_the_log_has_lost() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory));
    store.fail_next_of("data.", Verb::Put, 1, Fault::Hang);
    let disk = MemoryDisk::new(512);
    let runtime = hasty();
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_secs(24 * 60 * 60),
        checkpoint: CheckpointOptions {
            objects: 1,
            ..CheckpointOptions::default()
        },
        ..OpenOptions::new("this machine")
    };
    let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let volume = Volume::open(store.clone(), &opened, Arc::clone(&runtime), &options).unwrap();
    volume.write(place(0), &content(0)).unwrap();
    volume.write(place(1), &[1; 512]).unwrap();
    wait_for("the upload of the first", || store.hanging() == 1);
    // The first object makes a checkpoint due, whose cut ends the second batch.
    disk.fail_next(DiskFault::Sync);
    store.release();
    wait_for("the failure of the log", || {
        volume.write(place(2), &[1; 512]).is_err()
    });
    let failed = volume.checkpoint().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::LocalDisk, "{failed}");
    drop((volume, opened));
    wait_for("the end of the tasks", || Arc::strong_count(&runtime) == 1);
}

/// The look in the background hangs, and the last one that passed is long ago: the flush looks itself.
#[test]
fn a_flush_to_the_log_looks_for_itself_where_nobody_has_lately() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let first = open(store.clone(), &MemoryDisk::new(512), hasty());
    let _second = open(memory, &MemoryDisk::new(512), runtime());
    // More than ten seconds, in which it has nothing to do.
    pass_hastily(Duration::from_secs(15));
    store.fail_next_of("superblock.", Verb::Get, u64::MAX, Fault::Hang);
    first.write(0, &[1; 512]).unwrap();
    wait_for("the look in the background", || store.hanging() == 1);
    store.mend();
    let fenced = first.flush().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
}

/// A claim fences whoever has the volume. One who cannot read it is refused before he claims it.
#[test]
fn a_take_over_that_cannot_read_the_volume_fences_nobody() {
    for (name, kind) in [
        ("ckpt.", StoreErrorKind::Permission),
        ("data.", StoreErrorKind::Unavailable),
    ] {
        let memory = Arc::new(MemoryStore::new());
        create(&memory);
        let first = open(memory.clone(), &MemoryDisk::new(512), hasty());
        first.write(0, &[1; 512]).unwrap();
        first.checkpoint().unwrap();
        let before = objects_of(&*memory, "superblock.").len();
        let store = Arc::new(Faulty::new(memory.clone()));
        store.fail_next_of(name, Verb::Get, u64::MAX, Fault::Refuse(kind));
        open_stored(store, true).unwrap_err();
        assert_eq!(objects_of(&*memory, "superblock.").len(), before, "{name}");
        first.write(512, &[2; 512]).unwrap();
        first.flush().unwrap();
        assert_eq!(read(&first, 512, 512), [2; 512]);
        drop(open_stored(memory, true).unwrap());
    }
}

/// Whoever has all of his data persisted is not idle as long as somebody uses the volume.
#[test]
fn a_writer_with_nothing_at_risk_learns_that_it_was_taken_over_by_whatever_is_asked_of_it() {
    type Ask = fn(&Volume) -> lsvd::Result<()>;
    let ask: [(&str, FlushTarget, Ask); 3] = [
        ("flush", FlushTarget::Local, Volume::flush),
        ("flush to the store", FlushTarget::Store, Volume::flush),
        ("read", FlushTarget::Local, |volume| {
            volume.read(0, &mut [0; 512])
        }),
    ];
    for (what, flush, ask) in ask {
        let memory = Arc::new(MemoryStore::new());
        create(&memory);
        let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: LOG_BYTES,
            flush,
            ..OpenOptions::new("this machine")
        };
        let first = Volume::open(memory.clone(), &disk, hasty(), &options).unwrap();
        first.write(0, &[1; 512]).unwrap();
        first.flush().unwrap();
        wait_for("the drain", || first.status().at_risk_bytes == 0);
        let second = open(memory, &MemoryDisk::new(512), runtime());
        second.write(0, &[2; 512]).unwrap();
        // More than ten seconds, in which nothing is asked of it.
        pass_hastily(Duration::from_secs(15));
        assert!(
            !first.status().fenced,
            "{what}: an idle volume asked the store"
        );
        if what == "read" {
            // It does not wait for the look, which is soon done.
            wait_for("the fence", || ask(&first).is_err());
        }
        let fenced = ask(&first).expect_err(what);
        assert_eq!(fenced.kind(), ErrorKind::Fenced, "{what}: {fenced}");
    }
}

/// A clock that runs a hundred times as fast, while waiting takes as long as ever.
#[derive(Debug)]
struct Ahead(Arc<dyn Runtime>);

impl Runtime for Ahead {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.0.now() * 100
    }

    fn wall_clock(&self) -> Duration {
        self.0.wall_clock()
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}

/// A look that a read asked for holds up neither what is to be persisted nor a close.
#[test]
fn nobody_waits_for_a_look_that_a_read_asked_for_and_that_hangs() {
    type Ask = fn(&Volume) -> lsvd::Result<()>;
    let write: Ask = |volume| volume.write(0, &[2; 512]).and_then(|()| volume.flush());
    for ask in [write, Volume::close] {
        let memory = Arc::new(MemoryStore::new());
        create(&memory);
        let store = Arc::new(Faulty::new(memory));
        let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: LOG_BYTES,
            flush: FlushTarget::Store,
            ..OpenOptions::new("this machine")
        };
        let clock = Arc::new(Ahead(runtime()));
        let volume = Volume::open(store.clone(), &disk, clock, &options).unwrap();
        volume.write(0, &[1; 512]).unwrap();
        volume.flush().unwrap();
        // More than ten seconds, in which nothing is asked of it.
        thread::sleep(Duration::from_millis(150));
        store.fail_next_of("superblock.", Verb::Get, 1, Fault::Hang);
        read(&volume, 0, 512);
        wait_for("the look in the background", || store.hanging() == 1);
        let began = Instant::now();
        ask(&volume).unwrap();
        let took = began.elapsed();
        assert!(took < STORE_PATIENCE / 2, "{took:?}");
    }
}

/// A store that is away keeps nobody from using a volume that has nothing to store.
#[test]
fn without_a_store_a_volume_with_nothing_at_risk_is_read_and_flushed() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = open(store.clone(), &MemoryDisk::new(512), hasty());
    volume.write(0, &[1; 512]).unwrap();
    volume.flush().unwrap();
    wait_for("the drain", || volume.status().at_risk_bytes == 0);
    for fault in [Fault::Refuse(StoreErrorKind::Unavailable), Fault::Hang] {
        store.fail_next_of("superblock.", Verb::Get, u64::MAX, fault);
        for _ in 0..4 {
            pass_hastily(Duration::from_secs(12));
            assert_eq!(read(&volume, 0, 512), [1; 512]);
            volume.flush().unwrap();
        }
        store.mend();
        store.release();
    }
    assert!(volume.status().error.is_none());
}
