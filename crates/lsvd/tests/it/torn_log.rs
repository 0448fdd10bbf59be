//! Logs that were cut, whose sectors are older than they should be, or whose bits have turned over:
//! the volume does not open, or is a prefix of what was written.

use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{CreateOptions, ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

const SECTOR: usize = 512;
const VOLUME_BYTES: u64 = 1 << 20;

/// The smallest objects, so that the log is small and several batches are in it.
const OBJECT_BYTES: u64 = 16 << 10;
const LOG_BYTES: u64 = 400 << 10;

/// A volume whose log holds everything, since nothing was let through to the store.
struct Written {
    store: Arc<MemoryStore>,
    log: Vec<u8>,
    /// The log as it was half way.
    older: Vec<u8>,
    /// The content after each write, the empty one first.
    states: Vec<Vec<u8>>,
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn open(
    threads: &tokio::runtime::Runtime,
    store: Arc<dyn ObjectStore>,
    disk: &MemoryDisk,
) -> lsvd::Result<Volume> {
    let runtime = Arc::new(TokioRuntime::on(threads.handle().clone())) as Arc<dyn Runtime>;
    let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_secs(3600),
        retry_timeout: Duration::from_millis(10),
        ..OpenOptions::new("this machine")
    };
    Volume::open(store, &disk, runtime, &options)
}

fn unwritable(store: Arc<MemoryStore>) -> Arc<Faulty> {
    let faulty = Arc::new(Faulty::new(store));
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    faulty.fail_next_of("data.", Verb::Put, u64::MAX, refuse);
    faulty
}

/// The same objects in a store of their own.
fn copy(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::new());
    pollster::block_on(async {
        for listed in store.list().await.unwrap() {
            let bytes = store.get(&listed.name).await.unwrap();
            copy.put(&listed.name, vec![bytes]).await.unwrap();
        }
    });
    copy
}

fn written(unit: usize) -> Written {
    let store = Arc::new(MemoryStore::new());
    let options = CreateOptions {
        object_size: OBJECT_BYTES,
        ..CreateOptions::new(VOLUME_BYTES)
    };
    Volume::create(store.clone(), crate::world::runtime(), options).unwrap();
    let disk = MemoryDisk::new(unit);
    let threads = threads();
    let volume = open(&threads, unwritable(store.clone()), &disk).unwrap();
    let mut state = vec![0; usize::try_from(VOLUME_BYTES).unwrap()];
    let mut states = vec![state.clone()];
    let mut older = Vec::new();
    for number in 1..=20_u8 {
        let at = usize::from(number % 5) * 8 * SECTOR;
        let len = usize::from(number % 3 + 1) * 2 * SECTOR;
        if number % 7 == 0 {
            volume.discard(at as u64, len as u64).unwrap();
            state[at..at + len].fill(0);
        } else {
            volume.write(at as u64, &vec![number; len]).unwrap();
            state[at..at + len].fill(number);
        }
        states.push(state.clone());
        if number % 2 == 0 {
            volume.flush().unwrap();
        }
        if number == 10 {
            older = disk.snapshot("log").unwrap();
        }
    }
    threads.shutdown_timeout(Duration::from_secs(60));
    drop(volume);
    Written {
        store,
        log: disk.snapshot("log").unwrap(),
        older,
        states,
    }
}

impl Written {
    /// Opens the volume with this log; what it is then must have been at one moment.
    fn assert_prefix(&self, log: &[u8], unit: usize, what: &str) -> bool {
        let disk = MemoryDisk::new(unit);
        disk.put("log", log);
        let threads = threads();
        let opened = open(&threads, unwritable(copy(&self.store)), &disk);
        let opened = opened.map(|volume| {
            let mut found = vec![0xee; usize::try_from(VOLUME_BYTES).unwrap()];
            volume.read(0, &mut found).unwrap();
            found
        });
        threads.shutdown_timeout(Duration::from_secs(60));
        match opened {
            Ok(found) => {
                assert!(self.states.contains(&found), "{what}: this never was");
                true
            }
            Err(error) => {
                let told = matches!(error.kind(), ErrorKind::Damaged | ErrorKind::InUse);
                assert!(told, "{what}: {error:?}");
                false
            }
        }
    }
}

/// The parts of a log in which anything was written.
fn sectors_in_use(log: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let in_use = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
    let sectors = log.chunks(SECTOR).enumerate();
    sectors.filter_map(move |(number, sector)| in_use(sector).then_some(number))
}

#[test]
fn a_whole_log_gives_everything() {
    for unit in [512, 4096] {
        let written = written(unit);
        assert!(written.assert_prefix(&written.log, unit, "whole"));
    }
}

#[test]
fn a_log_with_a_lost_write_of_a_sector_gives_a_prefix_or_an_error() {
    for unit in [512, 4096] {
        let written = written(unit);
        let mut opened = 0;
        let mut tried = 0;
        for sector in sectors_in_use(&written.log) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            let mut log = written.log.clone();
            log[range.clone()].copy_from_slice(&written.older[range]);
            if log != written.log {
                tried += 1;
                let what = format!("unit {unit}, sector {sector}");
                opened += u32::from(written.assert_prefix(&log, unit, &what));
            }
        }
        assert!(tried > 20, "{tried}");
        assert!(opened < tried, "what was synced and is gone is damage");
    }
}

#[test]
fn a_log_cut_anywhere_gives_a_prefix_or_an_error() {
    let written = written(512);
    let ends: Vec<usize> = sectors_in_use(&written.log).collect();
    for sector in ends {
        let mut log = written.log.clone();
        log[sector * SECTOR..].fill(0);
        written.assert_prefix(&log, 512, &format!("zeroes from sector {sector}"));
        log.truncate(sector * SECTOR);
        assert!(!written.assert_prefix(&log, 512, &format!("cut at sector {sector}")));
    }
}

#[test]
fn a_log_with_a_flipped_bit_gives_a_prefix_or_an_error() {
    let written = written(512);
    for (number, sector) in sectors_in_use(&written.log).enumerate() {
        let mut log = written.log.clone();
        // Another place in each sector, and the header's in all of them in the end.
        let at = sector * SECTOR + number * 37 % SECTOR;
        log[at] ^= 1 << (number % 8);
        written.assert_prefix(&log, 512, &format!("sector {sector}, byte {at}"));
    }
}
