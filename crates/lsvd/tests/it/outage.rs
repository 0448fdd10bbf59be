//! A store that is out of reach, and a local disk that fails: what is promised holds, and what cannot
//! be promised is refused clearly.

use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{Durability, ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk};
use lsvd_store::{Fault, Faulty, Latency, MemoryStore, Verb};

use crate::host::{LOG_BYTES, OBJECT_BYTES, create};
use crate::world::{Hasty, pass_hastily, read, runtime, wait_for};

fn options() -> OpenOptions {
    OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_millis(20),
        retry_timeout: Duration::from_secs(30),
        ..OpenOptions::new("this machine")
    }
}

fn open_with(
    store: Arc<dyn ObjectStore>,
    disk: &MemoryDisk,
    runtime: Arc<dyn Runtime>,
    options: &OpenOptions,
) -> lsvd::Result<Volume> {
    let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
    Volume::open(store, &disk, runtime, options)
}

/// Closes it and waits until nothing of it is left.
fn end(volume: Volume, disk: &MemoryDisk) {
    wait_for("the close", || volume.close().is_ok());
    drop(volume);
    wait_for("the disk's release", || disk.open().is_ok());
}

#[test]
fn with_a_store_that_hangs_flushes_go_to_the_log_and_everything_drains_when_it_is_back() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let disk = MemoryDisk::new(512);
    // A minute passes in a second.
    let hasty = Arc::new(Hasty(runtime())) as Arc<dyn Runtime>;
    let volume = open_with(store.clone(), &disk, hasty, &options()).unwrap();
    for verb in [Verb::Put, Verb::Get] {
        store.fail_next(verb, u64::MAX, Fault::Hang);
    }
    for number in 0..20_u8 {
        let at = u64::from(number) * 4096;
        volume.write(at, &[number + 1; 4096]).unwrap();
        volume.flush().unwrap();
        pass_hastily(Duration::from_secs(5));
    }
    let status = volume.status();
    assert!(status.at_risk_bytes >= 20 * 4096, "{status:?}");
    assert_eq!(status.not_durable_bytes, 0, "{status:?}");
    assert!(
        status.at_risk_since > Some(Duration::from_secs(60)),
        "{status:?}"
    );
    for number in 0..20_u8 {
        assert_eq!(
            read(&volume, u64::from(number) * 4096, 4096),
            [number + 1; 4096]
        );
    }
    store.mend();
    wait_for("the drain", || {
        store.release();
        volume.status().at_risk_bytes == 0
    });
    end(volume, &disk);
    let volume = open_with(memory, &disk, runtime(), &options()).unwrap();
    for number in 0..20_u8 {
        assert_eq!(
            read(&volume, u64::from(number) * 4096, 4096),
            [number + 1; 4096]
        );
    }
}

#[test]
fn a_store_that_is_gone_for_good_fails_only_what_needs_it() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let disk = MemoryDisk::new(4096);
    let hasty = Arc::new(Hasty(runtime())) as Arc<dyn Runtime>;
    let volume = open_with(store.clone(), &disk, hasty, &options()).unwrap();
    for verb in [Verb::Put, Verb::Get] {
        store.fail_next(verb, u64::MAX, Fault::Refuse(StoreErrorKind::Unavailable));
    }
    let mut written = 0_u64;
    let error = loop {
        let byte = u8::try_from(written % 251).unwrap() + 1;
        match volume.write(written * 16384, &[byte; 16384]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    volume.flush().unwrap();
    assert!(written * 16384 > 4 * OBJECT_BYTES, "the log took {written}");
    for number in 0..written {
        let byte = u8::try_from(number % 251).unwrap() + 1;
        assert_eq!(read(&volume, number * 16384, 16384), [byte; 16384]);
    }
    assert_eq!(volume.close().unwrap_err().kind(), ErrorKind::Unavailable);
    drop(volume);
    store.mend();
    wait_for("the disk's release", || disk.open().is_ok());
    let volume = open_with(memory, &disk, runtime(), &options()).unwrap();
    for number in 0..written {
        let byte = u8::try_from(number % 251).unwrap() + 1;
        assert_eq!(read(&volume, number * 16384, 16384), [byte; 16384]);
    }
}

#[test]
fn a_failed_sync_of_the_log_stops_writes_and_flushes_for_good_and_reads_go_on() {
    for fault in [DiskFault::Sync, DiskFault::Write] {
        let store = Arc::new(MemoryStore::new());
        create(&store);
        let disk = MemoryDisk::new(512);
        let threads = tokio::runtime::Runtime::new().unwrap();
        let own = Arc::new(TokioRuntime::on(threads.handle().clone())) as Arc<dyn Runtime>;
        let slow_seal = OpenOptions {
            seal_timeout: Duration::from_secs(3600),
            ..options()
        };
        let volume = open_with(store.clone(), &disk, own, &slow_seal).unwrap();
        volume.write(0, &[1; 4096]).unwrap();
        volume.flush().unwrap();
        // It is the record of the next flush that is to fail, not the mark behind this one's.
        let records = || {
            let log = disk.snapshot("log").unwrap();
            log.chunks(512)
                .filter(|block| block.starts_with(b"LSVDrec\n"))
                .count()
        };
        wait_for("the mark behind the last record", || records() == 2);
        volume.write(4096, &[2; 4096]).unwrap();
        disk.fail_next(fault);
        assert_eq!(volume.flush().unwrap_err().kind(), ErrorKind::LocalDisk);
        // The disk works again, and nobody is told that what it lost is there.
        for _ in 0..2 {
            assert_eq!(volume.flush().unwrap_err().kind(), ErrorKind::LocalDisk);
            let write = volume.write(8192, &[3; 4096]).unwrap_err();
            assert_eq!(write.kind(), ErrorKind::LocalDisk, "{write}");
        }
        assert_eq!(read(&volume, 0, 4096), [1; 4096]);
        assert_eq!(read(&volume, 4096, 4096), [2; 4096]);
        assert_eq!(read(&volume, 8192, 4096), [0; 4096]);
        assert!(volume.status().error.is_some());
        threads.shutdown_timeout(Duration::from_secs(60));
        drop(volume);
        let after = disk.crash(7);
        let volume = open_with(store, &after, runtime(), &options()).unwrap();
        assert_eq!(read(&volume, 0, 4096), [1; 4096], "it was flushed");
        volume.write(0, &[4; 4096]).unwrap();
        volume.flush().unwrap();
    }
}

#[test]
fn a_write_through_is_in_the_synced_log_when_it_returns() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let through = OpenOptions {
        durability: Durability::WriteThrough,
        seal_timeout: Duration::from_secs(3600),
        ..options()
    };
    let volume = open_with(store.clone(), &disk, runtime(), &through).unwrap();
    let syncs = disk.counts().syncs;
    volume.write(0, &[1; 4096]).unwrap();
    volume.discard(0, 512).unwrap();
    assert!(
        volume.try_write(0, &[1; 512]).is_none(),
        "it cannot be done at once"
    );
    assert_eq!(disk.counts().syncs, syncs + 2);
    assert_eq!(volume.status().not_durable_bytes, 0);
}

#[test]
fn flushes_that_come_together_share_a_sync() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let slow_seal = OpenOptions {
        seal_timeout: Duration::from_secs(3600),
        ..options()
    };
    let volume = open_with(store, &disk, runtime(), &slow_seal).unwrap();
    disk.hold_all();
    let syncs = disk.counts().syncs;
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            let volume = volume.clone();
            scope.spawn(move || {
                volume.write(thread * 512, &[7; 512]).unwrap();
                volume.flush().unwrap();
            });
        }
        wait_for("the first sync", || !disk.held().is_empty());
        // All others come while it is under way.
        wait_for("all writes", || volume.status().at_risk_bytes == 16 * 512);
        std::thread::sleep(Duration::from_millis(50));
        disk.release_all();
    });
    let shared = disk.counts().syncs - syncs;
    assert!(shared <= 3, "{shared} syncs for 16 flushes");
}

/// A batch in the log whose data was damaged there goes to the store with that block marked: nobody
/// gets wrong data, and what is behind it is not held up.
#[test]
fn a_block_that_the_log_lost_is_an_error_for_ever_and_the_stream_goes_on() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    store.fail_next_of(
        "data.",
        Verb::Put,
        u64::MAX,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    let disk = MemoryDisk::new(512);
    let large = OpenOptions {
        log_bytes: 4 * LOG_BYTES,
        window: 1,
        ..options()
    };
    let volume = open_with(store.clone(), &disk, runtime(), &large).unwrap();
    for number in 0..48_u8 {
        let at = u64::from(number) * 65536;
        volume.write(at, &vec![number + 1; 65536]).unwrap();
    }
    volume.flush().unwrap();
    // The last batches left memory long ago; one byte of one of them turns over.
    let log = disk.snapshot("log").unwrap();
    let victim = 40_u8;
    let run = [victim + 1; 4096];
    let at = log.windows(4096).position(|bytes| bytes == run).unwrap();
    disk.flip("log", at as u64 + 100);
    store.mend();
    end(volume, &disk);
    let volume = open_with(memory, &disk, runtime(), &large).unwrap();
    let mut damaged = 0;
    for number in 0..48_u8 {
        for block in 0..16_u64 {
            let mut found = [0; 4096];
            match volume.read(u64::from(number) * 65536 + block * 4096, &mut found) {
                Ok(()) => assert_eq!(found, [number + 1; 4096]),
                Err(error) => {
                    assert_eq!(
                        (number, error.kind()),
                        (victim, ErrorKind::Damaged),
                        "{error}"
                    );
                    damaged += 1;
                }
            }
        }
    }
    assert!((1..=2).contains(&damaged), "{damaged} blocks");
}

/// Changes without data are lost with the local disk just as well.
#[test]
fn discards_and_zeroes_that_are_not_stored_are_at_risk() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory));
    let volume = open_with(store.clone(), &MemoryDisk::new(512), runtime(), &options()).unwrap();
    volume.write(0, &[1; 65536]).unwrap();
    wait_for("the drain", || volume.status().at_risk_bytes == 0);
    for zero in [Volume::discard, Volume::write_zeroes] {
        store.fail_next_of("data.", Verb::Put, u64::MAX, Fault::Hang);
        zero(&volume, 0, 65536).unwrap();
        volume.flush().unwrap();
        let status = volume.status();
        assert_eq!(status.at_risk_bytes, 512, "{status:?}");
        assert!(status.at_risk_since.is_some(), "{status:?}");
        store.mend();
        wait_for("the drain", || {
            store.release();
            volume.status().at_risk_bytes == 0
        });
        assert_eq!(volume.status().at_risk_since, None);
    }
}

/// The look that a read asked for hangs: what is written meanwhile gets older all the same.
#[test]
fn what_is_at_risk_gets_older_while_a_look_hangs() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory));
    let hasty = Arc::new(Hasty(runtime())) as Arc<dyn Runtime>;
    let volume = open_with(store.clone(), &MemoryDisk::new(512), hasty, &options()).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    wait_for("the drain", || volume.status().at_risk_bytes == 0);
    // More than ten seconds, in which nothing is asked of it.
    pass_hastily(Duration::from_secs(15));
    store.fail_next_of("superblock.", Verb::Get, 1, Fault::Hang);
    read(&volume, 0, 512);
    wait_for("the look", || store.hanging() == 1);
    volume.write(0, &[2; 512]).unwrap();
    pass_hastily(Duration::from_secs(10));
    let status = volume.status();
    if store.hanging() == 1 {
        assert!(
            status.at_risk_since > Some(Duration::from_secs(5)),
            "{status:?}"
        );
    }
    store.release();
}

/// A store that takes five seconds for an object: the log takes the writes, until it is full, and
/// then as fast as there is room again. Nothing fails, and everything arrives.
#[test]
fn a_store_that_takes_five_seconds_for_an_object_slows_down_and_loses_nothing() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let hasty = || Arc::new(Hasty(runtime())) as Arc<dyn Runtime>;
    let slow = Latency::new(memory.clone(), hasty()).writes("5s".parse().unwrap());
    let disk = MemoryDisk::new(512);
    let options = OpenOptions {
        window: 2,
        ..options()
    };
    let volume = open_with(Arc::new(slow), &disk, hasty(), &options).unwrap();
    let content = |n: u64| vec![u8::try_from(n % 251).unwrap() + 1; 65536];
    // Four times what the log holds.
    let writes = 4 * LOG_BYTES / 65536;
    for n in 0..writes {
        volume.write(n * 65536, &content(n)).unwrap();
        assert_eq!(read(&volume, n * 65536, 65536), content(n));
        if n % 8 == 0 {
            volume.flush().unwrap();
            assert!(volume.status().error.is_none());
        }
    }
    wait_for("the drain", || volume.status().at_risk_bytes == 0);
    end(volume, &disk);
    // From the store alone.
    let volume = open_with(memory, &MemoryDisk::new(512), runtime(), &options).unwrap();
    for n in 0..writes {
        assert_eq!(read(&volume, n * 65536, 65536), content(n), "{n}");
    }
}
