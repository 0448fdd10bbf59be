//! The log of a writer that is gone: what the next opening makes durable, refuses, cuts, sets aside,
//! and tells.

use std::sync::Arc;
use std::time::Duration;

use lsvd::bytes::entry::EntryKind;
use lsvd::bytes::log::Record;
use lsvd::bytes::superblock::{Change, CloseState, GivenUp, Superblock};
use lsvd::doors::store::StoreErrorKind;
use lsvd::words::units::DataOffset;
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk, Survivors};
use lsvd_store::{Fault, MemoryStore, Verb};

use crate::host::{LOG_BYTES, OBJECT_BYTES, create};
use crate::process::{
    Process, RECORD, four_flushed, four_left, options, sectors_with, take_over_and_close,
    unsynced_left, wait_for_mark,
};
use crate::world::read;

fn newest(store: &Arc<MemoryStore>) -> Superblock {
    let newest = Volume::newest_superblock(store.clone(), crate::world::runtime());
    newest.unwrap().unwrap()
}

/// A process whose sync fails ends; the next reads what it wrote. What that serves as durable must
/// be so, and not only in a cache.
#[test]
fn what_is_replayed_is_durable() {
    let (store, disk) = unsynced_left();
    let second = Process::new(&store);
    let volume = second.open(&disk, &options()).unwrap();
    let seen = read(&volume, 0, 4096);
    volume.flush().unwrap();
    let lost = disk.crash_with(Survivors::None);
    second.kill(volume);
    let third = Process::new(&store);
    let volume = third.open(&lost, &options()).unwrap();
    assert_eq!(read(&volume, 0, 4096), seen, "it was read, and flushed");
    third.kill(volume);
}

/// A record that checks, and names data that it does not have: nothing of it is believed, as it would
/// become an object that nobody could read.
#[test]
fn a_record_whose_entry_names_data_elsewhere_is_refused() {
    // Behind the data, behind what any object can have, and before the data.
    for (record, offset) in [(0, 8), (0, 131_068), (1, 0)] {
        let (store, disk) = four_left();
        let at = usize::try_from(sectors_with(&disk, RECORD)[record] * 512).unwrap();
        let mut log = disk.snapshot("log").unwrap();
        let mut wrong = Record::decode(&log[at..]).unwrap();
        wrong.entries[0].kind = EntryKind::Write(DataOffset(offset));
        let wrong = wrong.encode(512);
        log[at..at + wrong.len()].copy_from_slice(&wrong);
        disk.put("log", &log);
        let second = Process::new(&store);
        let refused = second.open(&disk, &options()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        second.end();
    }
}

/// A later record of the same batch says that the damaged one was durable.
#[test]
fn damage_in_the_last_batch_is_told_from_a_torn_tail() {
    for what in ["header", "data"] {
        for number in 1..=3_u8 {
            let (store, disk) = four_left();
            let data = sectors_with(&disk, &[number; 512])[0];
            let header = sectors_with(&disk, RECORD);
            let header = header.into_iter().rfind(|header| *header < data).unwrap();
            match what {
                "header" => disk.flip("log", header * 512 + 90),
                _ => disk.flip("log", data * 512),
            }
            let second = Process::new(&store);
            let refused = second.open(&disk, &options()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
            assert!(refused.to_string().contains("--cut-log"), "{refused}");
            // It stays refused, until it is said to be cut.
            second.open(&disk, &options()).unwrap_err();
            let cut = OpenOptions {
                cut_log: true,
                ..options()
            };
            let volume = second.open(&disk, &cut).unwrap();
            for before in 1..=4_u8 {
                let expected = if before < number { before } else { 0 };
                let found = read(&volume, u64::from(before) * 4096, 4096);
                assert_eq!(
                    found, [expected; 4096],
                    "{what} of {number}: write {before}"
                );
            }
            second.kill(volume);
            // And then it is a log like any other.
            let third = Process::new(&store);
            let volume = third.open(&disk, &options()).unwrap();
            volume.write(0, &[9; 512]).unwrap();
            volume.flush().unwrap();
            third.kill(volume);
            let fourth = Process::new(&store);
            let volume = fourth.open(&disk, &options()).unwrap();
            assert_eq!(read(&volume, 0, 512), [9; 512]);
            fourth.kill(volume);
        }
    }
}

/// A crash amid a cut leaves the log damaged or cut: never with what was behind the damage.
#[test]
fn a_cut_can_be_interrupted_by_a_loss_of_power() {
    for seed in 0..20 {
        let (store, disk) = four_left();
        let data = sectors_with(&disk, &[2; 512])[0];
        disk.flip("log", data * 512);
        let cut = OpenOptions {
            cut_log: true,
            ..options()
        };
        disk.fail_next(DiskFault::Sync);
        let second = Process::new(&store);
        second.open(&disk, &cut).unwrap_err();
        second.end();
        let disk = disk.crash(seed);
        let third = Process::new(&store);
        let volume = match third.open(&disk, &options()) {
            Ok(volume) => volume,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                third.open(&disk, &cut).unwrap()
            }
        };
        assert_eq!(read(&volume, 4096, 4096), [1; 4096]);
        assert_eq!(read(&volume, 2 * 4096, 3 * 4096), [0; 3 * 4096]);
        third.kill(volume);
    }
}

/// A damaged header stops the uploads of the batches behind it; cut, those before it are kept.
#[test]
fn a_cut_keeps_the_batches_before_the_damage() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let first = Process::new(&store);
    let volume = first.open(&disk, &options()).unwrap();
    let batches = 4_u8;
    for batch in 1..=batches {
        let at = u64::from(batch) * OBJECT_BYTES;
        let byte = batch;
        let data = vec![byte; usize::try_from(OBJECT_BYTES).unwrap()];
        volume.write(at, &data).unwrap();
    }
    volume.flush().unwrap();
    wait_for_mark(&disk);
    first.kill(volume);
    let data = sectors_with(&disk, &[3; 512])[0];
    let header = sectors_with(&disk, RECORD);
    let header = header.into_iter().rfind(|header| *header < data).unwrap();
    disk.flip("log", header * 512 + 20);
    let second = Process::new(&store);
    let refused = second.open(&disk, &options()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
    let cut = OpenOptions {
        cut_log: true,
        ..options()
    };
    let volume = second.open(&disk, &cut).unwrap();
    for batch in 1..=batches {
        let expected = if batch < 3 { batch } else { 0 };
        let found = read(&volume, u64::from(batch) * OBJECT_BYTES, 512);
        assert_eq!(found, [expected; 512], "batch {batch}");
    }
    second.kill(volume);
}

/// A volume that goes from host to host, closed each time, leaves one log on each.
#[test]
fn a_log_of_which_everything_is_stored_makes_room() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let hosts = [MemoryDisk::new(512), MemoryDisk::new(512)];
    for round in 0..6_u8 {
        let process = Process::new(&store);
        process.store.mend();
        let disk = &hosts[usize::from(round % 2)];
        let volume = process.open(disk, &options()).unwrap();
        volume.write(0, &[round + 1; 4096]).unwrap();
        volume.close().unwrap();
        process.kill(volume);
    }
    for host in &hosts {
        assert_eq!(host.names(), ["log"]);
    }
}

/// What an older log holds alone is kept, and what is left of the volume does without it.
#[test]
fn a_log_with_something_of_its_own_is_set_aside() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let hosts = [MemoryDisk::new(512), MemoryDisk::new(512)];
    let first = Process::new(&store);
    let volume = four_flushed(&first, &hosts[0]);
    first.kill(volume);
    let second = Process::new(&store);
    let taking = OpenOptions {
        take_over: true,
        ..options()
    };
    let volume = second.open(&hosts[1], &taking).unwrap();
    assert_eq!(read(&volume, 4096, 4096), [0; 4096]);
    second.store.mend();
    volume.close().unwrap();
    second.kill(volume);
    let third = Process::new(&store);
    let volume = third.open(&hosts[0], &options()).unwrap();
    assert_eq!(read(&volume, 4096, 4096), [0; 4096]);
    third.kill(volume);
    let mut names = hosts[0].names();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].starts_with("log.foreign."), "{names:?}");
}

/// A log of another size than is asked for goes as soon as nobody needs it.
#[test]
fn a_log_gets_its_new_size_when_the_volume_was_closed() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let larger = OpenOptions {
        log_bytes: 2 * LOG_BYTES,
        ..options()
    };
    let first = Process::new(&store);
    let volume = four_flushed(&first, &disk);
    first.kill(volume);
    let second = Process::new(&store);
    let volume = second.open(&disk, &larger).unwrap();
    assert!(volume.status().log_bytes <= LOG_BYTES);
    assert_eq!(read(&volume, 4096, 4096), [1; 4096]);
    second.store.mend();
    volume.close().unwrap();
    second.kill(volume);
    let third = Process::new(&store);
    let volume = third.open(&disk, &larger).unwrap();
    assert!(volume.status().log_bytes > LOG_BYTES);
    assert_eq!(read(&volume, 4096, 4096), [1; 4096]);
    third.kill(volume);
}

/// A take-over whose opening failed behind its claim tells the next what was given up.
#[test]
fn what_a_take_over_gives_up_is_told_however_often_it_is_tried() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let hosts = [MemoryDisk::new(512), MemoryDisk::new(512)];
    let first = Process::new(&store);
    let volume = four_flushed(&first, &hosts[0]);
    let own = newest(&store).state.writer.unwrap();
    assert_eq!(own.given_up, None);
    let left = first.threads.block_on(volume.leave_async());
    left.unwrap();
    first.kill(volume);
    let close = newest(&store).state.writer.unwrap().close;
    let log_bytes = 4 * 4096;
    assert_eq!(close, Some(CloseState::Unclean { log_bytes }));
    let given_up = Some(GivenUp {
        machine: own.machine,
        log: own.log,
        log_bytes: Some(log_bytes),
    });
    // The claim is there, and nothing can be stored behind it.
    let second = Process::new(&store);
    let taking = OpenOptions {
        take_over: true,
        ..options()
    };
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    let behind_claim = Superblock::name_of(newest(&store).number + 2).to_string();
    second
        .store
        .fail_next_of(&behind_claim, Verb::Put, u64::MAX, refuse);
    second.open(&hosts[1], &taking).unwrap_err();
    assert_eq!(newest(&store).state.change, Change::Claim);
    assert_eq!(newest(&store).state.writer.unwrap().given_up, given_up);
    second.store.mend();
    let volume = second.open(&hosts[1], &options()).unwrap();
    assert_eq!(newest(&store).state.writer.unwrap().given_up, given_up);
    second.kill(volume);
    // It was told: the next opening has nothing to tell.
    let third = Process::new(&store);
    let volume = third.open(&hosts[1], &options()).unwrap();
    assert_eq!(newest(&store).state.writer.unwrap().given_up, None);
    third.kill(volume);
}

/// The age of what is at risk goes on where the process before left it.
#[test]
fn what_is_at_risk_is_as_old_as_it_is() {
    let (store, disk) = four_left();
    let aged = Duration::from_millis(300);
    std::thread::sleep(aged);
    let second = Process::new(&store);
    let volume = second.open(&disk, &options()).unwrap();
    // By the wall clock, which need not go as fast as the one that the sleep goes by.
    assert!(volume.status().at_risk_since >= Some(aged / 2));
    second.kill(volume);
}

/// The end of an epoch that was fixed with the log is an upper bound, and a claim of another host behind
/// which its opening failed has not lowered it: the log has what the store has not.
#[test]
fn a_log_that_alone_has_what_an_end_counts_is_set_aside() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let hosts = [MemoryDisk::new(512), MemoryDisk::new(512)];
    let first = Process::new(&store);
    let volume = four_flushed(&first, &hosts[0]);
    first.kill(volume);
    let again = Process::new(&store);
    let volume = again.open(&hosts[0], &options()).unwrap();
    assert_eq!(read(&volume, 4096, 4096), [1; 4096]);
    again.kill(volume);
    let second = Process::new(&store);
    let taking = OpenOptions {
        take_over: true,
        ..options()
    };
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    let objects = &second.store;
    let behind_claim = Superblock::name_of(newest(&store).number + 2).to_string();
    objects.fail_next_of(&behind_claim, Verb::Put, u64::MAX, refuse);
    second.open(&hosts[1], &taking).unwrap_err();
    assert_eq!(newest(&store).state.change, Change::Claim);
    // So the first host takes the volume back.
    let third = Process::new(&store);
    let volume = third.open(&hosts[0], &taking).unwrap();
    third.kill(volume);
    assert_eq!(hosts[0].names().len(), 2, "{:?}", hosts[0].names());
}

/// What is only discarded has no bytes.
#[test]
fn a_log_with_flushed_discards_alone_is_set_aside() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let hosts = [MemoryDisk::new(512), MemoryDisk::new(512)];
    let first = Process::new(&store);
    let volume = first.open(&hosts[0], &options()).unwrap();
    volume.discard(0, 4096).unwrap();
    volume.flush().unwrap();
    first.kill(volume);
    take_over_and_close(&store, &hosts[1]);
    let third = Process::new(&store);
    let volume = third.open(&hosts[0], &options()).unwrap();
    third.kill(volume);
    assert_eq!(hosts[0].names().len(), 2, "{:?}", hosts[0].names());
}
