//! Logs that were cut, whose sectors are older than they should be, or whose bits have turned over:
//! the volume does not open, or has all that was flushed, as far as anything of it is left to show
//! that it was. And logs with a sector that cannot be read, which are cut there.
//!
//! A log of under 64 KiB in use is damaged in each of its places, and a volume opened with each of
//! the logs that this gives. That is more than every run of the tests has time for: of the bits one
//! in each byte of a header is flipped, and one in every eighth byte of data; and of the bytes at
//! which the log is cut every eighth is tried. `cargo x torn-log` tries all.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{CreateOptions, ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::{MemoryDisk, Survivors};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::simulated::{Simulated, one_thread};

const SECTOR: usize = 512;
const VOLUME_BYTES: u64 = 64 << 10;

/// The smallest objects, and the smallest log for them: four segments.
const OBJECT_BYTES: u64 = 16 << 10;
const LOG_BYTES: u64 = 400 << 10;

/// So many changes are stored, and so many are not.
const STORED: u8 = 20;
const CHANGES: u8 = 24;

/// Long enough for the log to be marked behind its last record.
const UNTIL_MARKED: Duration = Duration::from_millis(100);

/// A volume and its log, which holds what the store was not let have.
struct Written {
    unit: usize,
    store: Arc<MemoryStore>,
    log: Vec<u8>,
    /// The log as it was after each flush, and when it was marked.
    older: Vec<Vec<u8>>,
    /// What the store has, and what there was after each later change.
    states: Vec<State>,
}

struct State {
    content: Vec<u8>,
    /// Where in the log all of it ends that the store has not, if it was flushed before the next
    /// change.
    end: Option<usize>,
}

fn options() -> OpenOptions {
    OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_secs(3600),
        retry_timeout: Duration::from_millis(10),
        window: 1,
        ..OpenOptions::new("this machine")
    }
}

fn refuse_objects(store: &Faulty) {
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of("data.", Verb::Put, u64::MAX, refuse);
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
    let disk = MemoryDisk::new(unit);
    let threads = one_thread();
    let runtime = Arc::new(Simulated::new(&threads, 1, Duration::ZERO)) as Arc<dyn Runtime>;
    let mut written = Written {
        unit,
        store: Arc::clone(&store),
        log: Vec::new(),
        older: Vec::new(),
        states: Vec::new(),
    };
    threads.block_on(async {
        let create = CreateOptions {
            object_size: OBJECT_BYTES,
            ..CreateOptions::new(VOLUME_BYTES)
        };
        let created = Volume::create_async(store.clone(), Arc::clone(&runtime), create);
        created.await.unwrap();
        let faulty = Arc::new(Faulty::new(store));
        let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
        let objects = faulty.clone() as Arc<dyn ObjectStore>;
        let options = options();
        let volume = Volume::open_async(objects, &opened, Arc::clone(&runtime), &options);
        let volume = volume.await.unwrap();
        let mut content = vec![0; usize::try_from(VOLUME_BYTES).unwrap()];
        let mut before = Vec::new();
        for number in 1..=STORED + CHANGES {
            // The first batches are stored, and their segments used again.
            if number == STORED + 1 {
                volume.checkpoint_async().await.unwrap();
                runtime.sleep(UNTIL_MARKED).await;
                refuse_objects(&faulty);
                before = disk.snapshot("log").unwrap();
                written.states.push(State {
                    content: content.clone(),
                    end: Some(0),
                });
            }
            change(&volume, number, &mut content).await;
            let mut end = None;
            if number.is_multiple_of(2) {
                volume.flush_async().await.unwrap();
                let log = disk.snapshot("log").unwrap();
                end = log.iter().zip(&before).rposition(|(now, then)| now != then);
                before.clone_from(&log);
                written.older.push(log);
            }
            if number > STORED {
                let before = written.states.iter().filter_map(|state| state.end).max();
                written.states.push(State {
                    content: content.clone(),
                    end: end.map(|end| (end + 1).max(before.unwrap())),
                });
            }
            // Here and there a mark is behind a record before the next one takes its place.
            if number.is_multiple_of(6) {
                runtime.sleep(UNTIL_MARKED).await;
                written.older.push(disk.snapshot("log").unwrap());
            }
        }
        runtime.sleep(UNTIL_MARKED).await;
    });
    written.log = disk.snapshot("log").unwrap();
    written
}

/// The change of this number to the volume, and to the copy of its content.
async fn change(volume: &Volume, number: u8, content: &mut [u8]) {
    let at = usize::from(number % 5) * 8 * SECTOR;
    let len = usize::from(number % 3 + 1) * 2 * SECTOR;
    if number.is_multiple_of(7) {
        volume.discard_async(at as u64, len as u64).await.unwrap();
        content[at..at + len].fill(0);
    } else {
        let data = vec![number; len];
        volume.write_async(at as u64, &data).await.unwrap();
        content[at..at + len].fill(number);
    }
}

impl Written {
    /// Opens the volume with this log, and gives how many changes it has that the store has not, or
    /// nothing where it does not open.
    fn open(&self, log: &[u8], what: impl Fn() -> String) -> Option<usize> {
        let disk = MemoryDisk::new(self.unit);
        disk.put("log", log);
        self.open_with(copy(&self.store), &disk, &options(), what)
    }

    /// The same with what is on a disk, and in a store.
    fn open_with(
        &self,
        store: Arc<MemoryStore>,
        disk: &MemoryDisk,
        options: &OpenOptions,
        what: impl Fn() -> String,
    ) -> Option<usize> {
        let store = Arc::new(Faulty::new(store));
        refuse_objects(&store);
        let threads = one_thread();
        let runtime = Arc::new(Simulated::new(&threads, 2, Duration::from_secs(1000)));
        let found = threads.block_on(async {
            let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
            let volume = Volume::open_async(store, &disk, runtime, options).await?;
            let mut found = vec![0xee; usize::try_from(VOLUME_BYTES).unwrap()];
            volume.read_async(0, &mut found).await.map(|()| found)
        });
        match found {
            Ok(found) => {
                let mut states = self.states.iter();
                let state = states.rposition(|state| state.content == found);
                Some(state.unwrap_or_else(|| panic!("{}: this never was", what())))
            }
            Err(error) => {
                let told = matches!(
                    error.kind(),
                    ErrorKind::Damaged | ErrorKind::InUse | ErrorKind::LocalDisk
                );
                assert!(told, "{}: {error:?}", what());
                None
            }
        }
    }

    /// The bytes of the sectors in which anything was written.
    fn in_use(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let sectors = (0..self.log.len()).step_by(SECTOR);
        let sectors = sectors.map(|at| at..at + SECTOR);
        sectors.filter(|sector| self.log[sector.clone()].iter().any(|byte| *byte != 0))
    }
}

/// What became of logs that were damaged in one place each: all that was flushed is there, or they
/// do not open.
#[derive(Default)]
struct Tried {
    opened: u32,
    refused: u32,
    /// Those that opened without something that was flushed.
    silent: Vec<String>,
}

impl Tried {
    fn log(&mut self, written: &Written, log: &[u8], what: impl Fn() -> String) {
        match written.open(log, &what) {
            Some(state) if state + 1 == written.states.len() => self.opened += 1,
            Some(state) => self.silent.push(format!("{} gives state {state}", what())),
            None => self.refused += 1,
        }
    }

    /// Gives how many there were, and how many opened.
    fn assert_none_silent(&self) -> (u32, u32) {
        let silent = self.silent.len();
        let tried = self.opened + self.refused + u32::try_from(silent).unwrap();
        let some = &self.silent[..silent.min(8)];
        assert!(
            some.is_empty(),
            "{silent} of {tried}: flushed writes went silently: {some:#?}"
        );
        (tried, self.opened)
    }
}

/// Whether all places are to be tried, and not a choice of them.
fn tries_all() -> bool {
    let all = std::env::var_os("LSVD_TORN_LOG");
    assert!(all.as_ref().is_none_or(|all| all == "all"), "{all:?}");
    all.is_some()
}

/// Whether this is one of the places that are chosen: every eighth, another one in each sector.
fn is_chosen(at: usize) -> bool {
    at % 8 == at / SECTOR % 8
}

#[test]
fn a_whole_log_gives_everything_and_is_what_it_should_be() {
    for unit in [512, 4096] {
        let written = written(unit);
        let newest = written.states.len() - 1;
        assert_eq!(
            written.open(&written.log, || "whole".to_owned()),
            Some(newest)
        );
        let used = written.in_use().count() * SECTOR;
        assert!((24 << 10..=64 << 10).contains(&used), "{used} bytes in use");
        let batches = written.log[8192..]
            .chunks(SECTOR)
            .filter(|sector| sector.starts_with(b"LSVDrec\n"))
            .map(|sector| u64::from_le_bytes(*sector[32..].first_chunk().unwrap()));
        let batches: std::collections::BTreeSet<_> = batches.collect();
        assert!(batches.len() > 2, "{batches:?}");
    }
}

#[test]
fn a_log_with_a_lost_write_of_a_sector_opens_with_all_or_not() {
    for unit in [512, 4096] {
        let written = written(unit);
        let mut tried = Tried::default();
        let mut log = written.log.clone();
        for sector in written.in_use() {
            let mut older: Vec<&[u8]> = written
                .older
                .iter()
                .map(|log| &log[sector.clone()])
                .collect();
            older.push(&[0; SECTOR]);
            older.sort_unstable();
            older.dedup();
            for older in older {
                log[sector.clone()].copy_from_slice(older);
                if log != written.log {
                    let what = || format!("unit {unit}, an older sector at {}", sector.start);
                    tried.log(&written, &log, what);
                }
            }
            log[sector.clone()].copy_from_slice(&written.log[sector]);
        }
        let (tried, opened) = tried.assert_none_silent();
        assert!(tried > 100, "{tried}");
        assert!(
            opened < tried / 4,
            "{opened} of {tried}: what was synced and is gone is damage"
        );
    }
}

/// Opened as it is, such a log gives all that was flushed, or nothing. Cut, it gives all that was
/// flushed before the sector, and what it gives then stays, also when the sector can be read again.
#[test]
fn a_log_with_a_sector_that_cannot_be_read_is_cut_there() {
    for unit in [512, 4096] {
        let written = written(unit);
        let newest = written.states.len() - 1;
        let cutting = OpenOptions {
            cut_log: true,
            ..options()
        };
        let (mut refused, mut kept) = (0, 0);
        for sector in written.in_use() {
            let what = || format!("unit {unit}, the sector at {}", sector.start);
            let disk = MemoryDisk::new(unit);
            disk.put("log", &written.log);
            disk.spoil("log", sector.start as u64, SECTOR as u64);
            let store = copy(&written.store);
            match written.open_with(store.clone(), &disk, &options(), what) {
                Some(state) => assert_eq!(state, newest, "{}", what()),
                None => refused += 1,
            }
            let cut = written.open_with(store.clone(), &disk, &cutting, what);
            let Some(cut) = cut else {
                panic!("{} does not open though it may be cut", what());
            };
            let at = sector.start / unit * unit;
            let is_before = |state: &State| state.end.is_some_and(|end| end <= at);
            let before = written.states.iter().rposition(is_before);
            assert!(
                before.is_none_or(|before| before <= cut),
                "{}: what was flushed before it is gone",
                what()
            );
            kept += u32::from(cut < newest && cut > 0);
            let disk = disk.crash_with(Survivors::None);
            disk.mend("log");
            let again = written.open_with(store, &disk, &options(), what);
            assert_eq!(again, Some(cut), "{}, given again", what());
        }
        assert!(refused > 10 && kept > 10, "{refused} refused, {kept} kept");
    }
}

#[test]
fn a_log_that_is_zero_from_any_byte_on_gives_what_was_flushed_before() {
    let (written, all) = (written(512), tries_all());
    for sector in written.in_use() {
        let mut log = written.log.clone();
        log[sector.end..].fill(0);
        // From behind, so that less and less is left.
        for at in sector.clone().rev() {
            log[at] = 0;
            if !all && !is_chosen(at) {
                continue;
            }
            let what = || format!("zeroes from byte {at} on");
            if let Some(state) = written.open(&log, what) {
                let is_left = |state: &State| state.end.is_some_and(|end| end <= at);
                let kept = written.states.iter().rposition(is_left);
                assert!(
                    kept.is_none_or(|kept| kept <= state),
                    "{}: flushed writes are gone",
                    what()
                );
            }
        }
    }
}

#[test]
fn a_log_that_is_too_short_does_not_open() {
    let (written, all) = (written(512), tries_all());
    for sector in written.in_use() {
        for at in sector.clone() {
            if !all && !is_chosen(at) {
                continue;
            }
            let what = || format!("cut at byte {at}");
            assert_eq!(written.open(&written.log[..at], what), None, "{}", what());
        }
    }
}

/// Opens the volume with logs of which one bit each is turned over.
fn flip_bits(unit: usize) {
    let (written, all) = (written(unit), tries_all());
    let mut log = written.log.clone();
    let mut tried = Tried::default();
    for sector in written.in_use() {
        let is_header = written.log[sector.clone()].starts_with(b"LSVD");
        for at in sector {
            for bit in 0..8 {
                let is_next = bit == (at + at / SECTOR) % 8 && (is_header || is_chosen(at));
                if all || is_next {
                    log[at] ^= 1 << bit;
                    let what = || format!("unit {unit}, byte {at}, bit {bit}");
                    tried.log(&written, &log, what);
                    log[at] ^= 1 << bit;
                }
            }
        }
    }
    let (tried, opened) = tried.assert_none_silent();
    // Padding, the second copy of the file's header, and what earlier uses left behind.
    assert!(opened < tried / 3 * 2, "{opened} of {tried}");
}

#[test]
fn a_log_with_a_flipped_bit_opens_with_all_or_not() {
    flip_bits(512);
}

#[test]
fn a_log_of_large_units_with_a_flipped_bit_opens_with_all_or_not() {
    flip_bits(4096);
}
