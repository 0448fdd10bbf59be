//! What a writer left in its log when it died, and an opening that was cut short left there: each
//! opening behind it finds the same, and a log that came back from a copy is told.

use std::sync::Arc;
use std::time::Duration;

use lsvd::bytes::log::{Record, SyncedMark};
use lsvd::doors::disk::LocalDisk;
use lsvd::doors::store::StoreErrorKind;
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk, Reach, Request, Survivors};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{LOG_BYTES, create};
use crate::process::{
    FLAG_END, FLAGS_AT, Process, RECORD, four_left_behind, options, wait_for_mark,
};
use crate::world::{read, runtime, wait_for};

/// A log whose power failed amid a commit of the end of batch 0 (torn) and the beginning of batch 1
/// (whole). Batch 1 has 4 at 1 MiB; the torn part of batch 0 has 3 from 64 KiB on; 2 at 8 KiB was flushed.
pub(crate) fn torn(store: &Arc<MemoryStore>) -> MemoryDisk {
    let disk = MemoryDisk::new(512);
    let first = Process::new(store);
    let volume = first.open(&disk, &options()).unwrap();
    volume.write(4096, &[1; 4096]).unwrap();
    volume.flush().unwrap();
    wait_for_mark(&disk);
    disk.hold_when(Request::is_sync);
    let log = std::thread::scope(|scope| {
        let flushing = volume.clone();
        volume.write(8192, &[2; 4096]).unwrap();
        scope.spawn(move || flushing.flush().unwrap());
        wait_for("held", || disk.held_count() == 1);
        for number in 0..15_u64 {
            volume.write(65536 + number * 16384, &[3; 16384]).unwrap();
        }
        volume.write(1 << 20, &[4; 16384]).unwrap();
        for number in 0..15_u64 {
            volume
                .write((2 << 20) + number * 16384, &[5; 16384])
                .unwrap();
        }
        volume.write(3 << 20, &[6; 16384]).unwrap();
        let flushing = volume.clone();
        scope.spawn(move || flushing.flush().unwrap());
        std::thread::sleep(Duration::from_millis(100));
        disk.release_next();
        wait_for("held again", || disk.held_count() == 1);
        let log = disk.snapshot("log").unwrap();
        disk.release_all();
        log
    });
    first.kill(volume);
    let mut log = log;
    let is_end = |sector: &[u8]| sector.starts_with(RECORD) && sector[FLAGS_AT] & FLAG_END != 0;
    let at = log.chunks(512).position(is_end).unwrap() * 512;
    let end = Record::decode(&log[at..]).unwrap();
    let synced = SyncedMark {
        batch: end.batch,
        position: end.place,
    };
    let mark = Record {
        synced: Some(synced),
        first_entry: 0,
        entries: Vec::new(),
        first_sector: 0,
        sectors: 0,
        sums: Vec::new(),
        object_header: None,
        is_mark: true,
        ..end
    };
    let mark = mark.encode(512);
    log[at..at + 512].copy_from_slice(&mark);
    let torn = MemoryDisk::new(512);
    torn.put("log", &log);
    torn
}

#[test]
fn a_batch_that_was_voided_stays_so_where_the_sync_of_that_failed() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = torn(&store);
    disk.fail_next(DiskFault::Sync);
    let second = Process::new(&store);
    let error = second.open(&disk, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalDisk, "{error}");
    second.end();
    let third = Process::new(&store);
    let volume = third.open(&disk, &options()).unwrap();
    assert_eq!(read(&volume, 8192, 4096), [2; 4096]);
    assert_eq!(read(&volume, 65536, 4096), [0; 4096]);
    assert_eq!(read(&volume, 1 << 20, 4096), [0; 4096]);
    volume.write(0, &[9; 4096]).unwrap();
    volume.flush().unwrap();
    third.kill(volume);
    let lost = disk.crash_with(Survivors::None);
    let fourth = Process::new(&store);
    let volume = fourth.open(&lost, &options()).unwrap();
    assert_eq!(read(&volume, 0, 4096), [9; 4096], "it was flushed");
    assert_eq!(read(&volume, 1 << 20, 4096), [0; 4096]);
    fourth.kill(volume);
}

fn open_until_stopped(store: &Arc<MemoryStore>, disk: &MemoryDisk) {
    let process = Process::new(store);
    let on = disk.clone();
    std::thread::spawn(move || drop(process.open(&on, &options())));
    wait_for("the stop", || disk.is_stopped());
}

#[test]
fn a_batch_that_was_voided_stays_so_where_the_opening_was_killed_before_its_sync() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = torn(&store);
    disk.stop_when(|request| match request {
        Request::Write { writes, .. } if !writes.is_empty() => {
            let zero = writes[0].bytes.iter().all(|byte| *byte == 0);
            zero.then_some(Reach::Unsynced)
        }
        _ => None,
    });
    open_until_stopped(&store, &disk);
    let disk = disk.kill(1);
    disk.stop_when(|request| match request {
        Request::Write { writes, .. } if !writes.is_empty() => {
            let bytes = &writes[0].bytes;
            let end = bytes.starts_with(RECORD) && bytes[FLAGS_AT] & FLAG_END != 0;
            end.then_some(Reach::Unsynced)
        }
        _ => None,
    });
    open_until_stopped(&store, &disk);
    for seed in 0..16 {
        let after = disk.crash(seed);
        let process = Process::new(&store);
        let volume = process.open(&after, &options()).unwrap();
        assert_eq!(read(&volume, 8192, 4096), [2; 4096]);
        let older = read(&volume, 65536, 4096);
        let newer = read(&volume, 1 << 20, 4096);
        assert!(
            newer == [0; 4096] || older == [3; 4096],
            "seed {seed}: no prefix: the later write is there and the earlier is not"
        );
        process.kill(volume);
    }
}

#[test]
fn a_block_that_is_damaged_in_two_records_is_never_served() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of("data.", Verb::Put, u64::MAX, refuse);
    let disk = MemoryDisk::new(512);
    let large = OpenOptions {
        log_bytes: 4 * LOG_BYTES,
        window: 1,
        ..options()
    };
    let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let volume = Volume::open(store.clone(), &opened, runtime(), &large).unwrap();
    drop(opened);
    const AT: u64 = 12 << 20;
    for number in 0..48_u8 {
        if number == 25 {
            volume.write(AT, &[0xa1; 2048]).unwrap();
            volume.flush().unwrap();
            volume.write(AT + 2048, &[0xa2; 2048]).unwrap();
            volume.flush().unwrap();
        }
        let at = u64::from(number) * 65536;
        volume.write(at, &vec![number + 1; 65536]).unwrap();
    }
    volume.flush().unwrap();
    let log = disk.snapshot("log").unwrap();
    for byte in [0xa1, 0xa2] {
        let run = [byte; 2048];
        let at = log.windows(2048).position(|bytes| bytes == run).unwrap();
        disk.flip("log", at as u64 + 100);
    }
    store.mend();
    wait_for("the close", || volume.close().is_ok());
    drop(volume);
    wait_for("release", || disk.open().is_ok());
    let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let volume = Volume::open(memory, &opened, runtime(), &large).unwrap();
    let mut found = [0; 4096];
    match volume.read(AT, &mut found) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged),
        Ok(()) => {
            let mut right = [0xa1; 4096];
            right[2048..].fill(0xa2);
            assert!(found == right, "wrong data was served as good");
        }
    }
}

#[test]
fn a_foreign_log_with_a_damaged_beginning_is_kept() {
    let (store, hosts) = four_left_behind();
    hosts[0].flip("log", 8192 + 90);
    let third = Process::new(&store);
    let volume = third.open(&hosts[0], &options()).unwrap();
    third.kill(volume);
    let names = hosts[0].names();
    assert_eq!(names.len(), 2, "the last copy was let go: {names:?}");
}

#[test]
fn a_log_that_came_back_from_a_copy_is_not_replayed_behind_a_fixed_end() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let a = MemoryDisk::new(512);
    let first = Process::new(&store);
    let volume = first.open(&a, &options()).unwrap();
    for number in 0..20_u64 {
        volume.write(number * 16384, &[1; 16384]).unwrap();
    }
    volume.flush().unwrap();
    wait_for_mark(&a);
    let b = MemoryDisk::new(512);
    b.put("log", &a.snapshot("log").unwrap());
    for number in 20..40_u64 {
        volume.write(number * 16384, &[2; 16384]).unwrap();
    }
    volume.flush().unwrap();
    first.kill(volume);
    let second = Process::new(&store);
    let volume = second.open(&b, &options()).unwrap();
    volume.write(8 << 20, &[3; 4096]).unwrap();
    volume.flush().unwrap();
    second.kill(volume);
    let third = Process::new(&store);
    match third.open(&a, &options()) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error}"),
        Ok(volume) => {
            let (two, three) = (
                read(&volume, 39 * 16384, 512)[0],
                read(&volume, 8 << 20, 512)[0],
            );
            panic!("behind the fixed end it has {two}, and of what was flushed since {three}");
        }
    }
}
