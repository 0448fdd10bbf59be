//! A log of which the disk does not give some sectors: what that stops, what is cut, and that it does
//! not come back when the disk gives them again.

use std::sync::Arc;
use std::time::Duration;

use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk, Survivors};
use lsvd_store::MemoryStore;

use crate::found_log::torn;
use crate::host::{OBJECT_BYTES, create};
use crate::process::{
    Process, RECORD, four_left, four_left_behind, options, sectors_with, unsynced_left,
    wait_for_mark,
};
use crate::world::{read, wait_for};

/// Where the segments of a log begin.
const SEGMENTS_AT: u64 = 8192;

fn cutting() -> OpenOptions {
    OpenOptions {
        cut_log: true,
        ..options()
    }
}

/// What the volume has of the four writes, of which the first so many are expected.
fn assert_first(volume: &Volume, count: u8, what: &str) {
    for number in 1..=4 {
        let expected = if number <= count { number } else { 0 };
        let found = read(volume, u64::from(number) * 4096, 4096);
        assert_eq!(found, [expected; 4096], "{what}: write {number}");
    }
}

/// The sectors of the record of write `number`: its header's, and one of its data.
fn record_of(disk: &MemoryDisk, number: u8) -> [u64; 2] {
    let data = sectors_with(disk, &[number; 512]);
    let headers = sectors_with(disk, RECORD);
    let header = headers.into_iter().rfind(|header| *header < data[0]);
    [header.unwrap(), data[3]]
}

#[test]
fn a_sector_that_cannot_be_read_stops_an_opening_until_the_log_is_cut_there() {
    for number in 1..=4_u8 {
        for part in 0..2 {
            let (store, disk) = four_left();
            let sector = record_of(&disk, number)[part];
            disk.spoil("log", sector * 512, 512);
            let before = disk.snapshot("log").unwrap();
            let second = Process::new(&store);
            for _ in 0..2 {
                let refused = second.open(&disk, &options()).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::LocalDisk, "{refused}");
                let told = refused.to_string();
                let place = format!("byte {} of the file log", sector * 512);
                assert!(told.contains(&place), "{told}");
                assert!(told.contains("--cut-log"), "{told}");
            }
            assert!(disk.snapshot("log").unwrap() == before, "it was changed");
            // Where the disk gives it again, nothing was lost.
            let healed = disk.crash_with(Survivors::All);
            healed.mend("log");
            let volume = second.open(&healed, &options()).unwrap();
            assert_first(&volume, 4, "healed");
            second.kill(volume);

            let what = format!("part {part} of {number}");
            let third = Process::new(&store);
            let volume = third.open(&disk, &cutting()).unwrap();
            assert_first(&volume, number - 1, &what);
            third.kill(volume);
            let disk = disk.crash_with(Survivors::None);
            disk.mend("log");
            let fourth = Process::new(&store);
            let volume = fourth.open(&disk, &options()).unwrap();
            assert_first(&volume, number - 1, &what);
            volume.write(0, &[9; 512]).unwrap();
            volume.flush().unwrap();
            fourth.kill(volume);
            let fifth = Process::new(&store);
            let volume = fifth.open(&disk, &options()).unwrap();
            assert_eq!(read(&volume, 0, 512), [9; 512]);
            fifth.kill(volume);
        }
    }
}

/// A volume with four flushed batches in its log, each of which is all of an object's size.
fn four_batches(store: &Arc<MemoryStore>) -> MemoryDisk {
    let disk = MemoryDisk::new(512);
    let first = Process::new(store);
    let volume = first.open(&disk, &options()).unwrap();
    for batch in 1..=4_u8 {
        let data = vec![batch; usize::try_from(OBJECT_BYTES).unwrap()];
        volume
            .write(u64::from(batch) * OBJECT_BYTES, &data)
            .unwrap();
    }
    volume.flush().unwrap();
    wait_for_mark(&disk);
    first.kill(volume);
    disk
}

/// How many of the batches are there: the first ones.
fn batches(volume: &Volume) -> u8 {
    let found = [1, 2, 3, 4].map(|batch| read(volume, batch * OBJECT_BYTES, 512)[0]);
    let count = found.into_iter().take_while(|found| *found != 0).count();
    let mut prefix = [0; 4];
    for (batch, there) in (1..).zip(&mut prefix[..count]) {
        *there = batch;
    }
    assert_eq!(found, prefix, "no prefix");
    u8::try_from(count).unwrap()
}

#[test]
fn a_batch_whose_beginning_cannot_be_read_ends_what_a_cut_keeps() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = four_batches(&store);
    let [header, _] = record_of(&disk, 3);
    disk.spoil("log", header * 512, 512);
    let second = Process::new(&store);
    let refused = second.open(&disk, &options()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LocalDisk, "{refused}");
    let volume = second.open(&disk, &cutting()).unwrap();
    assert_eq!(batches(&volume), 2);
    second.kill(volume);
    let disk = disk.crash_with(Survivors::None);
    disk.mend("log");
    let third = Process::new(&store);
    let volume = third.open(&disk, &options()).unwrap();
    assert_eq!(batches(&volume), 2);
    third.kill(volume);
}

/// A sync fails, and the process ends: what the next one reads may be in a cache alone. That it cuts the
/// log elsewhere does not change that.
#[test]
fn what_a_cut_keeps_is_durable() {
    let (store, disk) = unsynced_left();
    let unused = disk.snapshot("log").unwrap().len() as u64 - 512;
    disk.spoil("log", unused, 512);
    let second = Process::new(&store);
    second.open(&disk, &options()).unwrap_err();
    let volume = second.open(&disk, &cutting()).unwrap();
    let seen = read(&volume, 0, 4096);
    volume.flush().unwrap();
    let lost = disk.crash_with(Survivors::None);
    second.kill(volume);
    let third = Process::new(&store);
    let volume = third.open(&lost, &options()).unwrap();
    let found = read(&volume, 0, 4096);
    assert!(found == seen, "it was read, and flushed");
    third.kill(volume);
}

#[test]
fn a_cut_around_what_cannot_be_read_can_be_interrupted_by_a_loss_of_power() {
    for seed in 0..20 {
        let store = Arc::new(MemoryStore::new());
        create(&store);
        let disk = four_batches(&store);
        let [header, _] = record_of(&disk, 3);
        disk.spoil("log", header * 512, 512);
        disk.fail_next(DiskFault::Sync);
        let second = Process::new(&store);
        second.open(&disk, &cutting()).unwrap_err();
        second.end();
        let disk = disk.crash(seed);
        let third = Process::new(&store);
        let volume = match third.open(&disk, &options()) {
            Ok(volume) => volume,
            Err(error) => {
                let told = matches!(error.kind(), ErrorKind::LocalDisk | ErrorKind::Damaged);
                assert!(told, "{error}");
                third.open(&disk, &cutting()).unwrap()
            }
        };
        assert_eq!(batches(&volume), 2, "seed {seed}");
        third.kill(volume);
        let disk = disk.crash(seed);
        disk.mend("log");
        let fourth = Process::new(&store);
        let volume = fourth.open(&disk, &options()).unwrap();
        assert_eq!(batches(&volume), 2, "seed {seed}, healed");
        fourth.kill(volume);
    }
}

/// What is torn was never durable, and may be what cannot be read after a loss of power; once cut, it
/// stays away, and so does what a record behind it would go on with.
#[test]
fn a_torn_tail_that_cannot_be_read_does_not_come_back() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = torn(&store);
    // The header of the batch behind the torn one.
    let [header, _] = record_of(&disk, 4);
    disk.spoil("log", header * 512, 512);
    let second = Process::new(&store);
    second.open(&disk, &options()).unwrap_err();
    let volume = second.open(&disk, &cutting()).unwrap();
    let assert_cut = |volume: &Volume| {
        assert_eq!(read(volume, 8192, 4096), [2; 4096]);
        assert_eq!(read(volume, 65536, 4096), [0; 4096]);
        assert_eq!(read(volume, 1 << 20, 4096), [0; 4096]);
    };
    assert_cut(&volume);
    volume.write(0, &[9; 4096]).unwrap();
    volume.flush().unwrap();
    second.kill(volume);
    let lost = disk.crash_with(Survivors::None);
    lost.mend("log");
    let third = Process::new(&store);
    let volume = third.open(&lost, &options()).unwrap();
    assert_cut(&volume);
    assert_eq!(read(&volume, 0, 4096), [9; 4096], "it was flushed");
    third.kill(volume);
}

/// Of a batch that the store has, or of which all is in the log, nothing more can be lost.
#[test]
fn what_is_not_needed_need_not_be_readable() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let first = Process::new(&store);
    first.store.mend();
    let stored = OpenOptions {
        seal_timeout: Duration::from_millis(10),
        ..options()
    };
    let volume = first.open(&disk, &stored).unwrap();
    volume.write(0, &[7; 4096]).unwrap();
    volume.flush().unwrap();
    wait_for("the upload", || volume.status().at_risk_bytes == 0);
    first.kill(volume);
    let [_, data] = record_of(&disk, 7);
    disk.spoil("log", data * 512, 512);
    let second = Process::new(&store);
    let volume = second.open(&disk, &options()).unwrap();
    assert_eq!(read(&volume, 0, 4096), [7; 4096]);
    second.kill(volume);

    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = four_batches(&store);
    let [next, _] = record_of(&disk, 2);
    // The last sector of the segment of the first batch.
    disk.spoil("log", next * 512 - 512, 512);
    let third = Process::new(&store);
    let volume = third.open(&disk, &options()).unwrap();
    assert_eq!(batches(&volume), 4);
    third.kill(volume);
}

/// Where it cannot be known, a cut gives nothing up, and settles it.
#[test]
fn a_place_where_nothing_was_written_is_readable_behind_a_cut() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = four_batches(&store);
    let bytes = disk.snapshot("log").unwrap().len() as u64;
    disk.spoil("log", bytes - 4096, 512);
    let process = Process::new(&store);
    process.open(&disk, &options()).unwrap_err();
    let volume = process.open(&disk, &cutting()).unwrap();
    assert_eq!(batches(&volume), 4);
    process.kill(volume);
    let process = Process::new(&store);
    let volume = process.open(&disk.crash_with(Survivors::None), &options());
    let volume = volume.unwrap();
    assert_eq!(batches(&volume), 4);
    process.kill(volume);
}

#[test]
fn either_copy_of_the_header_serves() {
    for copies in [&[0][..], &[1], &[0, 1]] {
        let (store, disk) = four_left();
        for copy in copies {
            disk.spoil("log", copy * 4096, 512);
        }
        let second = Process::new(&store);
        match second.open(&disk, &options()) {
            Ok(volume) => {
                assert_eq!(copies.len(), 1);
                assert_first(&volume, 4, "one copy");
                second.kill(volume);
            }
            Err(error) => {
                assert_eq!(copies.len(), 2, "{error}");
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                second.end();
            }
        }
    }
}

/// Only what the medium does not give may be given up.
#[test]
fn a_read_that_fails_for_another_reason_is_not_cut() {
    let (store, disk) = four_left();
    let before = disk.snapshot("log").unwrap();
    // The reads of the header and of eight segments.
    for passing in 0..9 {
        disk.fail_after(passing, DiskFault::Read);
        let second = Process::new(&store);
        let failed = second.open(&disk, &cutting()).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::LocalDisk, "{failed}");
        assert!(!failed.to_string().contains("--cut-log"), "{failed}");
        second.end();
        assert!(disk.snapshot("log").unwrap() == before, "it was changed");
    }
    let third = Process::new(&store);
    let volume = third.open(&disk, &cutting()).unwrap();
    assert_first(&volume, 4, "nothing to cut");
    third.kill(volume);
}

#[test]
fn a_foreign_log_that_cannot_be_read_is_kept() {
    let (store, hosts) = four_left_behind();
    let bytes = hosts[0].snapshot("log").unwrap().len() as u64;
    hosts[0].spoil("log", SEGMENTS_AT, bytes - SEGMENTS_AT);
    let third = Process::new(&store);
    let volume = third.open(&hosts[0], &options()).unwrap();
    third.kill(volume);
    let names = hosts[0].names();
    assert_eq!(names.len(), 2, "the last copy was let go: {names:?}");
}
