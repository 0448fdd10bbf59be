//! A damaged log beside a store that has later batches: what the store has is of the prefix.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk, Reach, Request, Survivors};
use lsvd_sim::random::Random;
use lsvd_store::{Fault, MemoryStore, Verb};

use crate::host::{OBJECT_BYTES, create};
use crate::process::{Process, RECORD, options, sectors_with, wait_for_mark};
use crate::world::{read, wait_for};

/// Writes of a batch.
const WRITES: u64 = 8;

fn cutting() -> OpenOptions {
    OpenOptions {
        cut_log: true,
        ..options()
    }
}

fn refuse(process: &Process, name: &str) {
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    let store = &process.store;
    store.fail_next_of(name, Verb::Put, u64::MAX, refuse);
}

/// Batches of nothing but what is there before them, in [`written_behind`].
const BEFORE: u8 = 5;

fn name(batch: u8) -> String {
    format!("data.{:08x}", batch - 1)
}

fn object(store: &Arc<MemoryStore>, batch: u8) -> Option<Bytes> {
    pollster::block_on(store.get(&name(batch))).ok()
}

/// What write `write` of batch `batch` holds, and where.
fn write_of(batch: u8, write: u64) -> (u64, u8) {
    let at = u64::from(batch) * OBJECT_BYTES + write * (OBJECT_BYTES / WRITES);
    (at, batch * 16 + u8::try_from(write).unwrap())
}

/// A volume of which the batches 1 to 5 are in the log, and those of `stored` in the store; each of many
/// writes with a flush behind it.
fn written(store: &Arc<MemoryStore>, stored: &[u8]) -> MemoryDisk {
    written_behind(store, 0, stored)
}

/// The same behind so many batches that are persisted: the later batch of two is in the earlier segment
/// where these were freed at once.
fn written_behind(store: &Arc<MemoryStore>, before: u8, stored: &[u8]) -> MemoryDisk {
    create(store);
    let disk = MemoryDisk::new(512);
    let process = Process::new(store);
    process.store.mend();
    refuse(&process, &name(1));
    let volume = process.open(&disk, &options()).unwrap();
    for _ in 0..before {
        let all = vec![200; usize::try_from(OBJECT_BYTES).unwrap()];
        volume.write(0, &all).unwrap();
    }
    volume.flush().unwrap();
    wait_for("the uploads before", || {
        (2..=before).all(|batch| object(store, batch).is_some())
    });
    process.store.mend();
    if before > 0 {
        wait_for("the fence check", || volume.status().log_used_bytes == 0);
    }
    for batch in (1..=5).filter(|batch| !stored.contains(batch)) {
        refuse(&process, &name(before + batch));
    }
    for batch in 1..=5 {
        for write in 0..WRITES {
            let (at, byte) = write_of(batch, write);
            volume.write(at, &[byte; 16384]).unwrap();
            volume.flush().unwrap();
        }
        let rest = vec![200; usize::try_from(OBJECT_BYTES / 2).unwrap()];
        volume.write(0, &rest).unwrap();
        volume.flush().unwrap();
    }
    wait_for("the uploads", || {
        let objects = stored.iter().map(|batch| object(store, before + batch));
        objects.into_iter().all(|object| object.is_some())
    });
    // The last one in the file, which it is not where the segments were used before.
    if before == 0 {
        wait_for_mark(&disk);
    }
    process.kill(volume);
    disk
}

/// How many writes there are: the first ones, of all batches.
fn writes(volume: &Volume) -> u64 {
    let all = (1..=5).flat_map(|batch| (0..WRITES).map(move |write| write_of(batch, write)));
    let found: Vec<bool> = all
        .map(|(at, byte)| {
            let found = read(volume, at, 16384);
            assert!(found == [byte; 16384] || found == [0; 16384], "{byte}");
            found == [byte; 16384]
        })
        .collect();
    let count = found.iter().take_while(|there| **there).count();
    assert!(found[count..].iter().all(|there| !there), "no prefix");
    count as u64
}

/// Damages the header of the record of a write.
fn damage(disk: &MemoryDisk, batch: u8, write: u64) {
    disk.flip("log", header_of(disk, batch, write) * 512 + 20);
}

fn header_of(disk: &MemoryDisk, batch: u8, write: u64) -> u64 {
    let (_, byte) = write_of(batch, write);
    let data = sectors_with(disk, &[byte; 512])[0];
    let headers = sectors_with(disk, RECORD);
    headers.into_iter().rfind(|header| *header < data).unwrap()
}

/// Once nothing is under way, all parts of the state fit together.
fn assert_sound(volume: &Volume) {
    wait_for("a sound state", || volume.self_check().is_ok());
}

/// All that is opened gets to the store, and can be read from there alone.
fn assert_stores(store: &Arc<MemoryStore>, process: Process, volume: Volume, count: u64) {
    process.store.mend();
    volume.close().unwrap();
    process.kill(volume);
    let other = Process::new(store);
    let volume = other.open(&MemoryDisk::new(512), &options()).unwrap();
    assert_eq!(writes(&volume), count, "of what was stored");
    other.kill(volume);
}

#[test]
fn a_batch_that_the_store_has_may_be_damaged_in_the_log() {
    for damaged in [0, 3] {
        for batch in 2..=4 {
            let store = Arc::new(MemoryStore::new());
            let disk = written(&store, &[2, 3, 4]);
            damage(&disk, batch, damaged);
            // More than once: none of the openings gets to store the first batch.
            for seed in 0..3 {
                let process = Process::new(&store);
                let disk = disk.crash(seed);
                let volume = process.open(&disk, &options()).unwrap();
                assert_eq!(writes(&volume), 5 * WRITES, "batch {batch}");
                assert_sound(&volume);
                process.kill(volume);
            }
            let process = Process::new(&store);
            let volume = process.open(&disk, &options()).unwrap();
            volume.write(0, &[9; 4096]).unwrap();
            volume.flush().unwrap();
            process.kill(volume);
            let disk = disk.crash_with(Survivors::None);
            let process = Process::new(&store);
            let volume = process.open(&disk, &options()).unwrap();
            assert_eq!(read(&volume, 0, 4096), [9; 4096]);
            assert_eq!(writes(&volume), 5 * WRITES);
            assert_stores(&store, process, volume, 5 * WRITES);
        }
    }
}

#[test]
fn a_cut_keeps_what_the_store_has_behind_the_first_damage() {
    let store = Arc::new(MemoryStore::new());
    let disk = written(&store, &[2, 3]);
    damage(&disk, 2, 0);
    damage(&disk, 3, 2);
    damage(&disk, 4, 5);
    let process = Process::new(&store);
    let refused = process.open(&disk, &options()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
    let volume = process.open(&disk, &cutting()).unwrap();
    let count = 3 * WRITES + 5;
    assert_eq!(writes(&volume), count);
    process.kill(volume);
    let process = Process::new(&store);
    let volume = process.open(&disk.crash_with(Survivors::None), &options());
    let volume = volume.unwrap();
    assert_eq!(writes(&volume), count);
    assert_sound(&volume);
    assert_stores(&store, process, volume, count);
}

#[test]
fn a_sector_that_cannot_be_read_is_made_good_by_the_store() {
    for write in [0, 3] {
        let store = Arc::new(MemoryStore::new());
        let disk = written(&store, &[2, 3]);
        disk.spoil("log", header_of(&disk, 2, write) * 512, 512);
        let process = Process::new(&store);
        // Of a segment whose beginning cannot be read nobody knows which batch it has.
        let opened = process.open(&disk, &options());
        assert_eq!(opened.is_ok(), write > 0);
        let volume = match opened {
            Ok(volume) => volume,
            Err(_) => process.open(&disk, &cutting()).unwrap(),
        };
        assert_eq!(writes(&volume), 5 * WRITES);
        assert_stores(&store, process, volume, 5 * WRITES);
    }
}

#[test]
fn a_crash_amid_such_an_opening_leaves_the_same() {
    for seed in 0..12 {
        let store = Arc::new(MemoryStore::new());
        let disk = written(&store, &[2, 3]);
        damage(&disk, 2, 3);
        damage(&disk, 5, 3);
        disk.fail_after(seed % 3, DiskFault::Sync);
        let process = Process::new(&store);
        let count = 4 * WRITES + 3;
        if let Ok(volume) = process.open(&disk, &cutting()) {
            assert_eq!(writes(&volume), count);
            process.kill(volume);
        } else {
            process.end();
        }
        let disk = disk.crash(seed);
        let process = Process::new(&store);
        let volume = match process.open(&disk, &options()) {
            Ok(volume) => volume,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                process.open(&disk, &cutting()).unwrap()
            }
        };
        assert_eq!(writes(&volume), count, "seed {seed}");
        assert_stores(&store, process, volume, count);
    }
}

/// Nothing behind what the store has is left in the log: what says that it is to be looked for must stay,
/// through openings, and beside one flushed write.
#[test]
fn what_the_store_has_at_the_end_of_a_cut_log_is_found_again() {
    for (batch, is_read) in [(2, true), (5, true), (5, false)] {
        let store = Arc::new(MemoryStore::new());
        let disk = written(&store, &[batch]);
        match is_read {
            true => damage(&disk, batch, 0),
            false => disk.spoil("log", header_of(&disk, batch, 0) * 512, 512),
        }
        for behind in batch + 1..=5 {
            damage(&disk, behind, 0);
        }
        let process = Process::new(&store);
        let volume = process.open(&disk, &cutting()).unwrap();
        let count = u64::from(batch) * WRITES;
        assert_eq!(writes(&volume), count);
        process.kill(volume);
        let disk = disk.crash_with(Survivors::None);
        let process = Process::new(&store);
        let volume = process.open(&disk, &options()).unwrap();
        assert_eq!(writes(&volume), count, "again");
        // The record of this one has nothing else to say what was durable before.
        volume.write(0, &[9; 4096]).unwrap();
        volume.flush().unwrap();
        let crashed = disk.crash_with(Survivors::None);
        process.kill(volume);
        let process = Process::new(&store);
        let volume = process.open(&crashed, &options()).unwrap();
        assert_eq!(writes(&volume), count, "behind a write");
        assert_eq!(read(&volume, 0, 4096), [9; 4096], "it was flushed");
        assert_stores(&store, process, volume, count);
    }
}

/// What was given up by a cut, and comes to light in the store afterwards, is of no stream.
#[test]
fn what_is_behind_a_fixed_end_does_not_fill_a_log() {
    for begun in [false, true] {
        let store = Arc::new(MemoryStore::new());
        let disk = written(&store, &[2, 3]);
        let second = object(&store, 2).unwrap();
        pollster::block_on(store.delete(&name(2))).unwrap();
        damage(&disk, 2, 0);
        let process = Process::new(&store);
        process.open(&disk, &options()).unwrap_err();
        let volume = process.open(&disk, &cutting()).unwrap();
        assert_eq!(writes(&volume), WRITES);
        // A batch of the next epoch.
        for number in 1..=4_u8 {
            volume
                .write(u64::from(number) * 4096, &[number; 4096])
                .unwrap();
            volume.flush().unwrap();
        }
        wait_for_mark(&disk);
        process.kill(volume);
        pollster::block_on(store.put(&name(2), vec![second])).unwrap();
        let lost = if begun { 3 } else { 1 };
        let data = sectors_with(&disk, &[lost; 512]);
        disk.flip("log", data[data.len() - 1] * 512);
        let process = Process::new(&store);
        process.open(&disk, &options()).unwrap_err();
        let volume = process.open(&disk, &cutting()).unwrap();
        assert_eq!(writes(&volume), WRITES);
        for number in 1..=4 {
            let found = read(&volume, u64::from(number) * 4096, 4096);
            assert_eq!(found == [number; 4096], number < lost, "{number} of {lost}");
        }
        process.kill(volume);
    }
}

/// Nobody is asked at the next opening what the one before it could do without.
#[test]
fn a_sector_that_cannot_be_read_stays_made_good() {
    let store = Arc::new(MemoryStore::new());
    let mut disk = written(&store, &[2, 3]);
    disk.spoil("log", header_of(&disk, 2, 3) * 512, 512);
    for seed in 0..3 {
        let process = Process::new(&store);
        let volume = process.open(&disk, &options()).unwrap();
        assert_eq!(writes(&volume), 5 * WRITES);
        process.kill(volume);
        disk = disk.crash(seed);
    }
}

/// The segment that says so may be one that held a later batch, which is cut.
#[test]
fn what_was_in_the_segment_of_a_batch_that_the_store_has_is_cut() {
    let store = Arc::new(MemoryStore::new());
    let disk = written_behind(&store, BEFORE, &[2, 3]);
    damage(&disk, 3, 0);
    damage(&disk, 4, 0);
    let process = Process::new(&store);
    process.open(&disk, &options()).unwrap_err();
    let volume = process.open(&disk, &cutting()).unwrap();
    assert_eq!(writes(&volume), 3 * WRITES);
    process.kill(volume);
    let process = Process::new(&store);
    let volume = process.open(&disk, &options()).unwrap();
    assert_eq!(writes(&volume), 3 * WRITES);
    assert_stores(&store, process, volume, 3 * WRITES);
}

/// Two batches that the store has are the last; the marks of both are written anew at each opening.
#[test]
fn a_crash_while_batches_are_noted_again_loses_none() {
    let store = Arc::new(MemoryStore::new());
    let disk = written_behind(&store, BEFORE, &[2, 3]);
    damage(&disk, 2, 3);
    for batch in 3..=5 {
        damage(&disk, batch, 0);
    }
    let process = Process::new(&store);
    let volume = process.open(&disk, &cutting()).unwrap();
    assert_eq!(writes(&volume), 3 * WRITES);
    process.kill(volume);
    assert_survives_openings(&store, &disk, |volume| {
        assert_eq!(writes(volume), 3 * WRITES);
    });
}

/// Openings that end amid each of their writes to the log, with the power, leave what the next one finds.
fn assert_survives_openings(store: &Arc<MemoryStore>, disk: &MemoryDisk, check: impl Fn(&Volume)) {
    for write in 0..4 {
        for seed in 0..100 {
            let disk = disk.crash_with(Survivors::None);
            let mut writes = 0;
            disk.stop_when(move |request| {
                writes += u64::from(matches!(request, Request::Write { .. }));
                (writes > write).then_some(Reach::Part(seed))
            });
            open_until_stopped(store, &disk, options());
            let process = Process::new(store);
            let disk = disk.crash_with(Survivors::All);
            let volume = process.open(&disk, &options()).unwrap();
            check(&volume);
            process.kill(volume);
        }
    }
}

/// Opens the volume, and ends the process where the disk stops, or the volume is open.
fn open_until_stopped(store: &Arc<MemoryStore>, disk: &MemoryDisk, options: OpenOptions) {
    let process = Process::new(store);
    let runtime = Arc::new(TokioRuntime::on(process.threads.handle().clone())) as Arc<dyn Runtime>;
    let local = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let there = process.store.clone() as Arc<dyn ObjectStore>;
    let opening = process
        .threads
        .spawn(async move { Volume::open_async(there, &local, runtime, &options).await });
    wait_for("the end of the opening", || {
        disk.is_stopped() || opening.is_finished()
    });
    process.end();
}

/// All that tells of a small batch is where the mark comes that the store has it.
#[test]
fn a_crash_while_a_small_batch_is_noted_does_not_lose_it() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let process = Process::new(&store);
    process.store.mend();
    refuse(&process, &name(1));
    let volume = process.open(&disk, &options()).unwrap();
    let first = vec![200; usize::try_from(OBJECT_BYTES).unwrap()];
    volume.write(0, &first).unwrap();
    let place = |number: u8| OBJECT_BYTES + u64::from(number) * 512;
    for number in 1..=3 {
        volume.write(place(number), &[number; 512]).unwrap();
        volume.flush().unwrap();
    }
    volume.close().unwrap_err();
    wait_for("the upload", || object(&store, 2).is_some());
    process.kill(volume);
    let second = sectors_with(&disk, &[2; 512])[0];
    disk.flip("log", second * 512);
    assert_survives_openings(&store, &disk, |volume| {
        for number in 1..=3 {
            assert!(
                read(volume, place(number), 512) == [number; 512],
                "{number}"
            );
        }
    });
}

/// A mark says that the store has a batch, and the log has all of it, too: a cut ended before it overwrote
/// that, and the disk gives it again.
#[test]
fn a_batch_that_is_in_the_log_after_all_is_no_damage() {
    let store = Arc::new(MemoryStore::new());
    let disk = written_behind(&store, BEFORE, &[4]);
    damage(&disk, 5, 0);
    disk.spoil("log", header_of(&disk, 4, 0) * 512, 512);
    // The mark goes to where the fifth was; that is cut, and the segment of the fourth is not.
    let mut before = 2;
    disk.stop_when(move |request| {
        let is_write = matches!(request, Request::Write { .. });
        let stops = is_write && before == 0;
        before -= u64::from(is_write && !stops);
        stops.then_some(Reach::Nothing)
    });
    open_until_stopped(&store, &disk, cutting());
    let disk = disk.crash_with(Survivors::All);
    disk.mend("log");
    let process = Process::new(&store);
    let volume = process.open(&disk, &options()).unwrap();
    assert_eq!(writes(&volume), 4 * WRITES);
    assert_stores(&store, process, volume, 4 * WRITES);
}

/// Whatever is damaged, whatever the store has, and wherever openings end: there is all up to the first
/// damage that the store does not make good, nobody is asked a second time, and all of it drains.
#[test]
fn any_damage_and_any_ends_of_openings_leave_all_before_the_first_loss() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let store = Arc::new(MemoryStore::new());
        let before = if random.chance(50) { BEFORE } else { 0 };
        let stored: Vec<u8> = (2..=5).filter(|_| random.chance(50)).collect();
        let mut disk = written_behind(&store, before, &stored);
        let whole = disk.crash_with(Survivors::All);
        let mut count = 5 * WRITES;
        // Each at most once: what is flipped twice is as it was.
        let damages = (0..=random.below(4)).map(|_| (random.below(5), random.below(WRITES)));
        let damages: BTreeSet<(u64, u64)> = damages.collect();
        for (index, write) in damages {
            let batch = u8::try_from(index + 1).unwrap();
            let header = header_of(&whole, batch, write);
            match random.below(3) {
                0 => disk.flip("log", header * 512 + 20),
                1 => disk.flip("log", (header + 1) * 512),
                _ => disk.spoil("log", header * 512, 512),
            }
            if !stored.contains(&batch) {
                count = count.min(index * WRITES + write);
            }
        }
        if random.chance(30) {
            // In a segment that nobody uses.
            let unused = disk.snapshot("log").unwrap().len() as u64 - 512;
            disk.spoil("log", unused, 512);
        }
        for _ in 0..random.below(3) {
            let (mut left, part) = (random.below(8), random.bits());
            disk.stop_when(move |request| {
                let is_write = matches!(request, Request::Write { .. });
                let stops = is_write && left == 0;
                left -= u64::from(is_write && !stops);
                stops.then_some(Reach::Part(part))
            });
            open_until_stopped(&store, &disk, cutting());
            disk = match random.chance(50) {
                true => disk.crash_with(Survivors::All),
                false => disk.crash(random.bits()),
            };
        }
        let process = Process::new(&store);
        let volume = process.open(&disk, &cutting()).unwrap();
        assert_eq!(writes(&volume), count, "seed {seed}");
        assert_sound(&volume);
        process.kill(volume);
        for _ in 0..2 {
            disk = disk.crash(random.bits());
            let process = Process::new(&store);
            let volume = process.open(&disk, &options()).unwrap();
            assert_eq!(writes(&volume), count, "seed {seed}, again");
            process.kill(volume);
        }
        let process = Process::new(&store);
        let volume = process.open(&disk, &options()).unwrap();
        assert_stores(&store, process, volume, count);
    }
}
