//! Volumes that last: creation, opening again with and without the log, one writer.

use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{CreateOptions, ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{Host, LOG_BYTES, OBJECT_BYTES, cache, create, options};
use crate::world::{MIB, read, runtime, wait_for};

fn data_objects(store: &dyn ObjectStore) -> Vec<String> {
    let listed = pollster::block_on(store.list()).unwrap();
    let mut names: Vec<String> = listed
        .into_iter()
        .map(|object| object.name)
        .filter(|name| name.starts_with("data."))
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

fn taking_over() -> OpenOptions {
    OpenOptions {
        take_over: true,
        ..options()
    }
}

/// A store that can be read but not written to.
fn unwritable(store: &Arc<MemoryStore>) -> Arc<Faulty> {
    let faulty = Arc::new(Faulty::new(store.clone()));
    faulty.fail_next_of(
        "data.",
        Verb::Put,
        u64::MAX,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    faulty
}

#[test]
fn what_was_flushed_is_there_after_a_kill_though_nothing_was_stored() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let cache = cache();
    for round in 0..5_u8 {
        let host = Host::new(&cache);
        let volume = host.open(unwritable(&store), &options()).unwrap();
        assert_eq!(volume.size(), 16 * MIB);
        for before in 0..round {
            let at = u64::from(before) * MIB;
            assert_eq!(read(&volume, at, 4096), vec![before + 1; 4096]);
            assert_eq!(read(&volume, at + 4096, 4096), vec![0; 4096]);
            assert_eq!(read(&volume, at + 8192, 512), vec![before + 1; 512]);
        }
        let at = u64::from(round) * MIB;
        volume.write(at, &vec![round + 1; 8704]).unwrap();
        volume.discard(at + 4096, 4096).unwrap();
        volume.flush().unwrap();
        host.kill(volume);
    }
    assert!(
        data_objects(&*store).is_empty(),
        "no upload was let through"
    );
    let host = Host::new(&cache);
    let volume = host.open(store.clone(), &options()).unwrap();
    assert_eq!(read(&volume, 4 * MIB, 4096), vec![5; 4096]);
    volume.close().unwrap();
    assert_eq!(
        data_objects(&*store).len(),
        5,
        "each batch under its own name"
    );
}

#[test]
fn without_its_log_a_volume_is_as_it_was_last_stored() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let faulty = Arc::new(Faulty::new(store.clone()));
    let first = cache();
    let host = Host::new(&first);
    let volume = host.open(faulty.clone(), &options()).unwrap();
    volume.write(0, &[1; 4096]).unwrap();
    volume.flush().unwrap();
    wait_for("the upload", || !data_objects(&*store).is_empty());
    faulty.fail_next_of(
        "data.",
        Verb::Put,
        u64::MAX,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    volume.write(4096, &[2; 4096]).unwrap();
    volume.flush().unwrap();
    host.kill(volume);

    let second = cache();
    let host = Host::new(&second);
    let refused = host.open(store.clone(), &options()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    assert!(refused.to_string().contains("this machine"), "{refused}");
    let volume = host.open(store.clone(), &taking_over()).unwrap();
    assert_eq!(read(&volume, 0, 4096), [1; 4096]);
    assert_eq!(read(&volume, 4096, 4096), [0; 4096]);
    volume.write(4096, &[3; 4096]).unwrap();
    volume.close().unwrap();

    // The first host's log is not replayed: it is set aside.
    let host = Host::new(&first);
    let volume = host.open(store, &taking_over()).unwrap();
    assert_eq!(read(&volume, 4096, 4096), [3; 4096]);
    let names = std::fs::read_dir(first.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    let set_aside = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("log.foreign.");
    assert_eq!(names.iter().filter(set_aside).count(), 1, "{names:?}");
}

#[test]
fn a_backlog_larger_than_memory_leaves_it_and_is_read_back() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let cache = cache();
    let host = Host::new(&cache);
    let wide = OpenOptions {
        log_bytes: 32 << 20,
        ..options()
    };
    let faulty = unwritable(&store);
    let volume = host.open(faulty.clone(), &wide).unwrap();
    let pattern = |n: u64| vec![u8::try_from(n % 251).unwrap() + 1; 64 << 10];
    let writes = 16 * MIB / (64 << 10);
    for n in 0..writes {
        volume.write(n * (64 << 10), &pattern(n)).unwrap();
    }
    volume.flush().unwrap();
    for n in 0..writes {
        assert_eq!(read(&volume, n * (64 << 10), 64 << 10), pattern(n), "{n}");
    }
    faulty.mend();
    wait_for("the uploads", || volume.close().is_ok());
    assert!(data_objects(&*store).len() >= 64);
    drop(volume);
    let host = Host::new(&cache);
    let volume = host.open(store, &options()).unwrap();
    for n in 0..writes {
        assert_eq!(read(&volume, n * (64 << 10), 64 << 10), pattern(n), "{n}");
    }
}

#[test]
fn a_full_log_makes_writes_wait_and_then_fail_and_reads_go_on() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let cache = cache();
    let host = Host::new(&cache);
    let faulty = unwritable(&store);
    let volume = host.open(faulty.clone(), &options()).unwrap();
    let mut accepted = 0;
    let error = loop {
        match volume.write(accepted * (64 << 10), &[7; 64 << 10]) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(
            accepted * (64 << 10) < 16 * MIB,
            "the log is not that large"
        );
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    volume.flush().unwrap();
    assert!(accepted * (64 << 10) >= 8 * (256 << 10), "{accepted}");
    assert_eq!(read(&volume, (accepted - 1) * (64 << 10), 512), [7; 512]);
    faulty.mend();
    wait_for("room in the log", || {
        volume.write(accepted * (64 << 10), &[8; 64 << 10]).is_ok()
    });
    wait_for("the uploads", || volume.close().is_ok());
    drop(volume);
    let host = Host::new(&cache);
    let volume = host.open(store, &options()).unwrap();
    assert_eq!(read(&volume, (accepted - 1) * (64 << 10), 512), [7; 512]);
    assert_eq!(read(&volume, accepted * (64 << 10), 512), [8; 512]);
}

#[test]
fn a_place_with_a_volume_or_with_anything_else_is_not_created_in() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let again = Volume::create(store, runtime(), CreateOptions::new(MIB));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NotEmpty);
    let store = Arc::new(MemoryStore::new());
    pollster::block_on(store.put("data.00000000", Vec::new())).unwrap();
    let beside = Volume::create(store.clone(), runtime(), CreateOptions::new(MIB));
    assert_eq!(beside.unwrap_err().kind(), ErrorKind::NotEmpty);
    let cache = cache();
    let absent = Host::new(&cache).open(store, &taking_over()).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

#[test]
fn of_racing_creators_one_wins() {
    let store = Arc::new(MemoryStore::new());
    let created: Vec<_> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                scope.spawn(|| Volume::create(store, runtime(), CreateOptions::new(MIB)))
            })
            .collect();
        creators
            .into_iter()
            .map(|creator| creator.join().unwrap())
            .collect()
    });
    let won: Vec<_> = created.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{created:?}");
    let cache = cache();
    let host = Host::new(&cache);
    let small = OpenOptions {
        log_bytes: 64 << 20,
        ..options()
    };
    assert_eq!(host.open(store, &small).unwrap().uuid(), *won[0]);
}

#[test]
fn a_lost_reply_to_a_superblock_is_found_out() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory));
    for number in 1..=2 {
        let name = format!("superblock.{number:08x}");
        store.fail_next_of(&name, Verb::Put, 1, Fault::LoseReply);
    }
    let cache = cache();
    let host = Host::new(&cache);
    let volume = host.open(store, &options()).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    volume.close().unwrap();
}

#[test]
fn a_writer_that_is_taken_over_is_fenced_in_everything() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let (one, two) = (cache(), cache());
    let (first_host, second_host) = (Host::new(&one), Host::new(&two));
    let to_the_store = OpenOptions {
        flush: lsvd::FlushTarget::Store,
        ..options()
    };
    let first = first_host.open(store.clone(), &to_the_store).unwrap();
    first.write(0, &[1; 512]).unwrap();
    first.flush().unwrap();
    let second = second_host.open(store.clone(), &taking_over()).unwrap();
    first.write(512, &[2; 512]).unwrap();
    let fenced = first.flush().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    let read_back = first.read(0, &mut [0; 512]).unwrap_err();
    assert_eq!(read_back.kind(), ErrorKind::Fenced);
    assert_eq!(
        first.write(0, &[9; 512]).unwrap_err().kind(),
        ErrorKind::Fenced
    );
    assert_eq!(first.discard(0, 512).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(read(&second, 512, 512), [0; 512], "it was never persisted");
    second.write(1024, &[3; 512]).unwrap();
    second.flush().unwrap();
    second_host.kill(second);
    drop(first);

    let host = Host::new(&two);
    let third = host.open(store, &options()).unwrap();
    assert_eq!(read(&third, 0, 512), [1; 512]);
    assert_eq!(read(&third, 512, 512), [0; 512]);
    assert_eq!(read(&third, 1024, 512), [3; 512]);
}

/// Without the log, what was not persisted may be gone from some point on, and only that.
/// Nothing says that it was persisted, but so much was not under way at once: it was there.
#[test]
fn a_missing_object_with_more_than_a_window_behind_it_is_damage() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let store = Arc::new(Faulty::new(memory.clone()));
    let open = |store: Arc<dyn ObjectStore>| {
        let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: 4 * LOG_BYTES,
            take_over: true,
            ..options()
        };
        Volume::open(store, &disk, runtime(), &options)
    };
    let volume = open(store.clone()).unwrap();
    store.fail_next_of("superblock.", Verb::Get, u64::MAX, Fault::Hang);
    for number in 0..6_u8 {
        let data = vec![number + 1; usize::try_from(OBJECT_BYTES).unwrap()];
        volume
            .write(u64::from(number) * OBJECT_BYTES, &data)
            .unwrap();
    }
    wait_for("six objects", || data_objects(&*memory).len() == 6);
    let names = data_objects(&*memory);
    let delete = |name: &str| pollster::block_on(memory.delete(name)).unwrap();
    delete(&names[5]);
    delete(&names[2]);
    let damaged = open(memory.clone()).unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Damaged);
    assert!(damaged.to_string().contains(&names[2]), "{damaged}");
    // One behind it may well have been under way with it.
    delete(&names[4]);
    let cut = open(memory.clone()).unwrap();
    assert_eq!(read(&cut, OBJECT_BYTES, 512), [2; 512]);
    assert_eq!(read(&cut, 2 * OBJECT_BYTES, 512), [0; 512]);
    store.mend();
    store.release();
}

#[test]
fn a_missing_end_is_cut_and_a_missing_middle_is_damage() {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let cache_of = |n: u32| (n, cache());
    let (_, first) = cache_of(0);
    let host = Host::new(&first);
    let quick = OpenOptions {
        flush: lsvd::FlushTarget::Store,
        seal_timeout: Duration::from_secs(3600),
        ..options()
    };
    let volume = host.open(store.clone(), &quick).unwrap();
    for number in 0..150_u8 {
        let at = u64::from(number) * 512;
        volume.write(at, &[number + 1; 512]).unwrap();
        volume.flush().unwrap();
    }
    host.kill(volume);
    let names = data_objects(&*store);
    assert_eq!(names.len(), 150);
    let delete = |name: &str| pollster::block_on(store.delete(name)).unwrap();
    delete(&names[149]);
    let (_, second) = cache_of(1);
    let host = Host::new(&second);
    let volume = host.open(store.clone(), &taking_over()).unwrap();
    assert_eq!(read(&volume, 148 * 512, 512), [149; 512]);
    assert_eq!(read(&volume, 149 * 512, 512), [0; 512]);
    host.kill(volume);
    delete(&names[10]);
    let (_, third) = cache_of(2);
    let damaged = Host::new(&third).open(store, &taking_over()).unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Damaged);
    assert!(damaged.to_string().contains("data.0000000a"), "{damaged}");
}
