//! Power cuts, kills and lost disks in the middle of anything: what is there afterwards is a prefix
//! of what was done, and holds all that was flushed where the disk was not lost.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{CreateOptions, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_sim::random::Random;
use lsvd_store::{Fault, Faulty, Latency, MemoryStore, Verb};

const SECTORS: u64 = 2048;
const SECTOR: usize = 512;
const OBJECT_BYTES: u64 = 32 << 10;

/// Bytes of a segment for objects of that size, with which logs of few segments are made.
const SEGMENT_BYTES: u64 = 100 << 10;

/// What was done, in order; one client, so there is one order.
#[derive(Clone, Copy, Debug)]
enum Done {
    Write {
        start: u64,
        sectors: u64,
        serial: u64,
    },
    Clear {
        start: u64,
        sectors: u64,
    },
}

/// What a sector holds that the write with this serial number wrote, which is never used again.
fn stamp(serial: u64, lba: u64) -> [u8; SECTOR] {
    let mut sector = [u8::try_from(serial % 255).unwrap() + 1; SECTOR];
    sector[..8].copy_from_slice(&serial.to_le_bytes());
    sector[8..16].copy_from_slice(&lba.to_le_bytes());
    sector
}

/// The sectors after all of the history's first operations, compared with what is there.
struct Prefixes<'a> {
    found: &'a [u8],
    /// Whether each sector is as found.
    equal: Vec<bool>,
    different: usize,
}

impl<'a> Prefixes<'a> {
    fn new(found: &'a [u8]) -> Self {
        let equal: Vec<bool> = found
            .chunks(SECTOR)
            .map(|sector| sector.iter().all(|byte| *byte == 0))
            .collect();
        let different = equal.iter().filter(|equal| !**equal).count();
        Self {
            found,
            equal,
            different,
        }
    }

    fn apply(&mut self, done: Done) {
        let (start, sectors, serial) = match done {
            Done::Write {
                start,
                sectors,
                serial,
            } => (start, sectors, Some(serial)),
            Done::Clear { start, sectors } => (start, sectors, None),
        };
        for lba in start..start + sectors {
            let at = usize::try_from(lba).unwrap();
            let found = &self.found[at * SECTOR..(at + 1) * SECTOR];
            let expected = serial.map_or([0; SECTOR], |serial| stamp(serial, lba));
            let equal = found == expected;
            self.different = self.different + usize::from(self.equal[at]) - usize::from(equal);
            self.equal[at] = equal;
        }
    }
}

/// The longest prefix of `history`, of at least `least` operations, that explains what was found.
fn prefix(found: &[u8], history: &[Done], least: usize) -> Option<usize> {
    let mut prefixes = Prefixes::new(found);
    let mut longest = (prefixes.different == 0 && least == 0).then_some(0);
    for (number, done) in history.iter().enumerate() {
        prefixes.apply(*done);
        if prefixes.different == 0 && number + 1 >= least {
            longest = Some(number + 1);
        }
    }
    longest
}

struct Run {
    random: Random,
    store: Arc<MemoryStore>,
    disk: MemoryDisk,
    history: Vec<Done>,
    serial: u64,
    flushed: usize,
    lost_disk: bool,
    seed: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let unit = if random.below(2) == 0 { 512 } else { 4096 };
        let store = Arc::new(MemoryStore::new());
        let options = CreateOptions {
            object_size: OBJECT_BYTES,
            ..CreateOptions::new(SECTORS * SECTOR as u64)
        };
        Volume::create(store.clone(), crate::world::runtime(), options).unwrap();
        Self {
            random,
            store,
            disk: MemoryDisk::new(unit),
            history: Vec::new(),
            serial: 0,
            flushed: 0,
            lost_disk: false,
            seed,
        }
    }

    /// From an opening to the next crash.
    fn live(&mut self) {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let runtime = Arc::new(TokioRuntime::on(threads.handle().clone())) as Arc<dyn Runtime>;
        let segments = 4 + self.random.below(6);
        let options = OpenOptions {
            take_over: self.lost_disk,
            window: u32::try_from(1 + self.random.below(4)).unwrap(),
            log_bytes: SEGMENT_BYTES * (segments + 1),
            seal_timeout: Duration::from_millis(1 + self.random.below(20)),
            retry_timeout: Duration::from_millis(20),
            ..OpenOptions::new("this machine")
        };
        let disk = self.disk.open().unwrap() as Arc<dyn LocalDisk>;
        let store = self.store_in_a_mood(&runtime);
        let volume = Volume::open(store, &disk, runtime, &options)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.check(&volume);
        for _ in 0..self.random.below(120) {
            self.act(&volume);
        }
        threads.shutdown_timeout(Duration::from_secs(60));
        drop((volume, disk));
        self.crash();
    }

    /// Slow now and then, and losing a reply or refusing a request here and there.
    fn store_in_a_mood(&mut self, runtime: &Arc<dyn Runtime>) -> Arc<dyn ObjectStore> {
        let faulty = Arc::new(Faulty::new(self.store.clone()));
        for number in 0..self.random.below(3) {
            let fault = if self.random.below(2) == 0 {
                Fault::LoseReply
            } else {
                Fault::Refuse(StoreErrorKind::Unavailable)
            };
            faulty.fail_next_of("data.", Verb::Put, number, fault);
        }
        if self.random.below(8) == 0 {
            let fault = Fault::Refuse(StoreErrorKind::Unavailable);
            faulty.fail_next_of("data.", Verb::Put, u64::MAX, fault);
        }
        if self.random.below(2) == 0 {
            return faulty;
        }
        let range = format!("0..{}ms", 1 + self.random.below(5))
            .parse()
            .unwrap();
        Arc::new(Latency::new(faulty, Arc::clone(runtime)).writes(range))
    }

    fn check(&mut self, volume: &Volume) {
        let mut found = vec![0xee; usize::try_from(SECTORS).unwrap() * SECTOR];
        volume
            .read(0, &mut found)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        let least = if self.lost_disk { 0 } else { self.flushed };
        let kept = prefix(&found, &self.history, least).unwrap_or_else(|| {
            panic!(
                "seed {}: no prefix of {} operations, of which {least} were flushed",
                self.seed,
                self.history.len()
            )
        });
        // What is gone now must not come back later.
        self.history.truncate(kept);
        self.flushed = if self.lost_disk { kept } else { self.flushed };
        self.lost_disk = false;
    }

    fn act(&mut self, volume: &Volume) {
        let largest = if self.random.below(8) == 0 { 64 } else { 8 };
        let sectors = 1 + self.random.below(largest);
        let start = if self.random.below(2) == 0 {
            self.random.below(64)
        } else {
            self.random.below(SECTORS - sectors)
        };
        let (at, len) = (start * SECTOR as u64, sectors * SECTOR as u64);
        match self.random.below(12) {
            0 => {
                volume
                    .flush()
                    .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
                self.flushed = self.history.len();
            }
            1 => {
                let cleared = if self.random.below(2) == 0 {
                    volume.discard(at, len)
                } else {
                    volume.write_zeroes(at, len)
                };
                if cleared.is_ok() {
                    self.history.push(Done::Clear { start, sectors });
                }
            }
            2 => {
                let mut buffer = vec![0; usize::try_from(len).unwrap()];
                volume
                    .read(at, &mut buffer)
                    .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            }
            _ => {
                self.serial += 1;
                let serial = self.serial;
                let data: Vec<u8> = (start..start + sectors)
                    .flat_map(|lba| stamp(serial, lba))
                    .collect();
                // A log that is full of what no store takes refuses: then nothing was written.
                if volume.write(at, &data).is_ok() {
                    self.history.push(Done::Write {
                        start,
                        sectors,
                        serial,
                    });
                }
            }
        }
    }

    fn crash(&mut self) {
        match self.random.below(8) {
            // The process is killed, the machine goes on.
            0 | 1 => {}
            2 => {
                self.disk = MemoryDisk::new(512);
                self.lost_disk = true;
            }
            _ => {
                let seed = self.random.below(u64::MAX);
                self.disk = self.disk.crash(seed);
            }
        }
    }
}

/// The seeds of every run.
const FIXED_SEEDS: Range<u64> = 0..24;

/// How many more there are, new ones in each run.
const FRESH_SEEDS: u64 = 8;

/// `LSVD_CRASH_SEEDS=FIRST..END` runs others. Which ones are run is printed: a seed is the same load
/// with the same faults, not the same run, since threads take part.
fn seeds() -> Vec<u64> {
    let (fixed, fresh) = if let Ok(chosen) = std::env::var("LSVD_CRASH_SEEDS") {
        let (first, end) = chosen.split_once("..").unwrap();
        (first.parse().unwrap()..end.parse().unwrap(), 0..0)
    } else {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let fresh = since.unwrap().as_secs() * FRESH_SEEDS;
        (FIXED_SEEDS, fresh..fresh + FRESH_SEEDS)
    };
    // Not by `eprintln`, which is heard of failed tests alone.
    let line = format!("crash: seeds {fixed:?}, and new ones {fresh:?}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    fixed.chain(fresh).collect()
}

#[test]
fn after_every_crash_there_is_a_prefix_with_all_that_was_flushed() {
    for seed in seeds() {
        let mut run = Run::new(seed);
        for _ in 0..12 {
            run.live();
        }
    }
}
