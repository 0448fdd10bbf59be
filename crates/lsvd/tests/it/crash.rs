//! Power cuts, kills and lost disks in the middle of anything: what is there afterwards is what was
//! true at one moment, and holds all that was flushed where the disk was not lost.
//!
//! A run is a chain of lives. In each the volume is opened, compared with the history of all lives,
//! flushed or not, and worked on by a few clients at once, until the machine dies: at a change of the
//! disk or of the store that was chosen before, during the opening too, or when all is quiet. Dead
//! means that no request is answered and nothing is changed any more. Then the process was killed,
//! and the system has what was written; or the power was lost, and with it what was not synced, in
//! this life or in those before it that ended with a kill; or the whole disk was.

mod client;
mod store;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{CreateOptions, FlushTarget, OpenOptions, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk, Reach, Request, Survivors};
use lsvd_sim::history::{Durable, Expect, History, SECTOR};
use lsvd_sim::random::Random;
use lsvd_sim::seeds::of_run;
use lsvd_store::{Fault, Faulty, Latency, MemoryStore, Verb};

use client::Life;
use store::{StoreDeath, StoreOfMachine};

use crate::simulated::{Simulated, one_thread};

const SECTORS: u64 = 2048;
const OBJECT_BYTES: u64 = 32 << 10;

/// Bytes of a segment for objects of that size, with which logs of few segments are made.
const SEGMENT_BYTES: u64 = 100 << 10;

/// Where a life ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// At the change of the disk behind so many, which gets as far as this.
    Disk(u64, Reach),
    Store(StoreDeath),
    /// When the clients are done, and so many milliseconds have passed.
    Quiet(u64),
}

/// What the death of a machine leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The process was killed, the machine goes on.
    Kill,
    Power,
    Disk,
}

/// How often what happened, so that it is known to happen at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    lives: u32,
    died_opening: u32,
    /// The life after as well.
    died_opening_twice: u32,
    died_working: u32,
}

struct Run {
    seed: u64,
    random: Random,
    store: Arc<MemoryStore>,
    disk: MemoryDisk,
    history: Arc<Mutex<History>>,
    /// Real threads and real time instead of simulated ones.
    on_threads: bool,
    time: Duration,
    lost_disk: bool,
    /// Whether nothing but a flush is to be between the last death and the next, which is a loss of
    /// power: what the flush was answered for must be durable, whoever wrote it.
    only_flushes: bool,
    /// Whether a sync of the disk may fail in this life.
    syncs_fail: bool,
    /// Whether the last life did not come to work.
    died_opening: bool,
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
        let threads = one_thread();
        let runtime = Arc::new(Simulated::new(&threads, seed, Duration::ZERO));
        let created = Volume::create_async(store.clone(), runtime, options);
        threads.block_on(created).unwrap();
        Self {
            seed,
            random,
            store,
            disk: MemoryDisk::new(unit),
            history: Arc::default(),
            on_threads: seed % 8 == 7,
            time: Duration::from_secs(1),
            lost_disk: false,
            only_flushes: false,
            syncs_fail: false,
            died_opening: false,
        }
    }

    /// From an opening to the next death.
    fn live(&mut self, seen: &mut Seen) {
        seen.lives += 1;
        let (threads, runtime) = self.start();
        let death = self.choose_death();
        self.prepare_disk(&threads, &runtime, death);
        let store = self.store_in_a_mood(&runtime, death);
        let options = self.options();
        let disk = self.disk.open().unwrap() as Arc<dyn LocalDisk>;
        let opening = Volume::open_async(store, &disk, Arc::clone(&runtime), &options);
        let opened = threads.block_on(until_stopped(&self.disk, opening));
        let volume = match opened {
            Some(Err(error)) if !self.syncs_fail => panic!("seed {}: {error}", self.seed),
            Some(opened) => opened.ok(),
            None => None,
        };
        let opened = volume.is_some();
        if let Some(volume) = volume {
            let life = Life {
                seed: self.seed,
                volume,
                history: Arc::clone(&self.history),
                durable: match options.flush {
                    FlushTarget::Local => Durable::InLog,
                    FlushTarget::Store => Durable::InStore,
                },
            };
            let settled = Arc::new(AtomicBool::new(false));
            let work = self.work(life, death, Arc::clone(&runtime), Arc::clone(&settled));
            threads.block_on(until_stopped(&self.disk, work));
            self.lost_disk &= !settled.load(Ordering::Relaxed);
        }
        self.disk.stop();
        self.time = runtime.now();
        threads.shutdown_timeout(Duration::from_secs(60));
        drop((disk, runtime));
        if opened {
            seen.died_working += 1;
        } else {
            seen.died_opening += 1;
            seen.died_opening_twice += u32::from(self.died_opening);
        }
        self.died_opening = !opened;
        self.lose();
    }

    fn start(&mut self) -> (tokio::runtime::Runtime, Arc<dyn Runtime>) {
        if self.on_threads {
            let threads = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let runtime = Arc::new(TokioRuntime::on(threads.handle().clone()));
            return (threads, runtime);
        }
        let threads = one_thread();
        let seed = self.random.bits();
        let runtime = Arc::new(Simulated::new(&threads, seed, self.time));
        (threads, runtime)
    }

    /// During the opening, more often where the last one was not survived either, at work, or behind
    /// it.
    fn choose_death(&mut self) -> Death {
        if self.only_flushes {
            return Death::Quiet(0);
        }
        let random = &mut self.random;
        let opening = random.chance(if self.died_opening { 50 } else { 30 });
        let changes = random.below(if opening { 5 } else { 80 });
        let reach = match random.below(4) {
            0 => Reach::Nothing,
            1 => Reach::Part(random.bits()),
            2 => Reach::Unsynced,
            _ => Reach::Whole,
        };
        match random.below(5) {
            0 if !opening => Death::Quiet(random.below(80)),
            0 | 1 => Death::Store(StoreDeath {
                changes,
                made: random.chance(50),
            }),
            _ => Death::Disk(changes, reach),
        }
    }

    fn prepare_disk(
        &mut self,
        threads: &tokio::runtime::Runtime,
        runtime: &Arc<dyn Runtime>,
        death: Death,
    ) {
        if let Death::Disk(mut changes, reach) = death {
            self.disk.stop_when(move |request| {
                let changes_nothing = matches!(
                    request,
                    Request::Open { .. } | Request::List | Request::Read { .. }
                );
                if changes_nothing {
                    return None;
                }
                let left = changes.checked_sub(1);
                changes = left.unwrap_or(0);
                left.is_none().then_some(reach)
            });
        }
        self.syncs_fail = self.random.chance(8);
        if self.syncs_fail {
            self.disk.fail_after(self.random.below(20), DiskFault::Sync);
        }
        if self.random.chance(50) {
            self.slow_disk_down(threads, runtime);
        }
    }

    /// Some requests take a while, so that others overtake them and deaths find them under way.
    fn slow_disk_down(&mut self, threads: &tokio::runtime::Runtime, runtime: &Arc<dyn Runtime>) {
        let (disk, runtime) = (self.disk.clone(), Arc::clone(runtime));
        let mut random = Random::new(self.random.bits());
        let mut which = Random::new(self.random.bits());
        disk.hold_when(move |_| which.chance(50));
        threads.spawn(async move {
            loop {
                disk.until_held(1).await;
                runtime
                    .sleep(Duration::from_micros(random.below(4000)))
                    .await;
                let held = disk.held().len() as u64;
                disk.release(usize::try_from(random.below(held)).unwrap());
            }
        });
    }

    fn options(&mut self) -> OpenOptions {
        let random = &mut self.random;
        let segments = 4 + random.below(6);
        OpenOptions {
            take_over: self.lost_disk,
            window: u32::try_from(1 + random.below(4)).unwrap(),
            log_bytes: SEGMENT_BYTES * (segments + 1),
            seal_timeout: Duration::from_millis(1 + random.below(20)),
            retry_timeout: Duration::from_millis(20),
            flush: match random.below(5) {
                0 => FlushTarget::Store,
                _ => FlushTarget::Local,
            },
            ..OpenOptions::new("this machine")
        }
    }

    /// Slow now and then, losing a reply or refusing a request here and there, or out of reach.
    fn store_in_a_mood(
        &mut self,
        runtime: &Arc<dyn Runtime>,
        death: Death,
    ) -> Arc<dyn ObjectStore> {
        let death = match death {
            Death::Store(death) => Some(death),
            Death::Disk(..) | Death::Quiet(_) => None,
        };
        let store = StoreOfMachine::new(self.store.clone(), self.disk.clone(), death);
        let faulty = Arc::new(Faulty::new(Arc::new(store)));
        for number in 0..self.random.below(3) {
            let fault = if self.random.below(2) == 0 {
                Fault::LoseReply
            } else {
                Fault::Refuse(StoreErrorKind::Unavailable)
            };
            faulty.fail_next_of("data.", Verb::Put, number, fault);
        }
        if self.only_flushes || self.random.chance(25) {
            let fault = Fault::Refuse(StoreErrorKind::Unavailable);
            faulty.fail_next_of("data.", Verb::Put, u64::MAX, fault);
        }
        if self.random.below(2) == 0 {
            return faulty;
        }
        let range = format!("0..{}ms", 1 + self.random.below(30))
            .parse()
            .unwrap();
        Arc::new(Latency::new(faulty, Arc::clone(runtime)).writes(range))
    }

    /// What is done with an open volume.
    fn work(
        &mut self,
        life: Life,
        death: Death,
        runtime: Arc<dyn Runtime>,
        settled: Arc<AtomicBool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let random = &mut self.random;
        let expect = match self.lost_disk {
            true => Expect::Stored,
            false => Expect::Flushed,
        };
        let flushes_first = self.only_flushes || random.chance(30);
        let clients = if self.only_flushes {
            0
        } else {
            1 + random.below(4)
        };
        let flushing = [0, 2, 8, 30][usize::try_from(random.below(4)).unwrap()];
        let clients: Vec<Random> = (0..clients).map(|_| Random::new(random.bits())).collect();
        let closes = random.chance(12);
        async move {
            life.check(expect).await;
            settled.store(true, Ordering::Relaxed);
            if flushes_first {
                life.flush().await;
            }
            let mut working = tokio::task::JoinSet::new();
            for random in clients {
                working.spawn(life.clone().work(random, flushing));
            }
            while let Some(client) = working.join_next().await {
                client.unwrap();
            }
            if closes {
                // Where the store is out of reach it fails, and what was flushed stays.
                let _ = life.volume.close_async().await;
            }
            if let Death::Quiet(milliseconds) = death {
                runtime.sleep(Duration::from_millis(milliseconds)).await;
            }
        }
    }
    fn lose(&mut self) {
        let loss = match self.random.below(16) {
            _ if self.only_flushes => Loss::Power,
            0..8 => Loss::Kill,
            8..14 => Loss::Power,
            _ => Loss::Disk,
        };
        self.only_flushes = loss == Loss::Kill && self.random.chance(30);
        let seed = self.random.bits();
        self.disk = match loss {
            Loss::Kill => self.disk.kill(seed),
            Loss::Power => self.disk.crash(seed),
            Loss::Disk => MemoryDisk::new(512),
        };
        self.lost_disk |= loss == Loss::Disk;
    }
}

/// What a machine does until its disk stops.
async fn until_stopped<T>(disk: &MemoryDisk, work: impl Future<Output = T>) -> Option<T> {
    match select(Box::pin(work), Box::pin(disk.until_stopped())).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

const LIVES: u32 = 24;

/// The seeds of every run.
const FIXED_SEEDS: Range<u64> = 0..80;

/// How many more there are, new ones in each run.
const FRESH_SEEDS: u64 = 8;

/// `LSVD_CRASH_SEEDS=FIRST..END` runs others. Which ones are run is printed. Every eighth is on real
/// threads, and may be another run every time.
fn seeds() -> Vec<u64> {
    of_run("crash", "LSVD_CRASH_SEEDS", FIXED_SEEDS, FRESH_SEEDS)
}

#[test]
fn after_every_crash_there_is_a_prefix_with_all_that_was_flushed() {
    let seeds = seeds();
    let is_short = seeds.len() < 8;
    let mut seen = Seen::default();
    for seed in seeds {
        let mut run = Run::new(seed);
        for _ in 0..LIVES {
            run.live(&mut seen);
        }
    }
    let rare = [
        seen.died_opening,
        seen.died_opening_twice,
        seen.died_working,
    ];
    assert!(is_short || !rare.contains(&0), "{seen:?}");
}

/// A machine that dies where it gives a new log its name, and then loses power.
#[test]
fn a_log_that_was_named_at_a_kill_keeps_its_name() {
    let store = Run::new(0).store;
    let mut disk = MemoryDisk::new(512);
    disk.stop_when(|request| matches!(request, Request::Rename { .. }).then_some(Reach::Unsynced));
    let mut found = vec![0; SECTOR];
    for life in 0..3 {
        let threads = one_thread();
        let runtime = Arc::new(Simulated::new(&threads, life, Duration::from_secs(life)));
        let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: SEGMENT_BYTES * 6,
            ..OpenOptions::new("this machine")
        };
        let opening = Volume::open_async(store.clone(), &opened, runtime, &options);
        threads.block_on(async {
            let Some(volume) = until_stopped(&disk, opening).await else {
                assert_eq!(life, 0);
                return;
            };
            let volume = volume.unwrap();
            if life == 1 {
                volume.write_async(0, &[7; SECTOR]).await.unwrap();
                volume.flush_async().await.unwrap();
            } else {
                volume.read_async(0, &mut found).await.unwrap();
            }
        });
        drop((threads, opened));
        assert_eq!(disk.is_stopped(), life == 0);
        disk = match life {
            0 => disk.kill(0),
            _ => disk.crash_with(Survivors::None),
        };
    }
    assert_eq!(found, [7; SECTOR]);
}

/// The same where the log of a volume that was closed gets another size.
#[test]
fn a_log_that_was_made_anew_at_a_kill_keeps_its_name() {
    let store = Run::new(0).store;
    let mut disk = MemoryDisk::new(512);
    let mut found = vec![0; SECTOR];
    for life in 0..4 {
        if life == 1 {
            disk.stop_when(|request| {
                matches!(request, Request::Rename { .. }).then_some(Reach::Unsynced)
            });
        }
        let threads = one_thread();
        let runtime = Arc::new(Simulated::new(&threads, life, Duration::from_secs(life)));
        let opened = disk.open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: SEGMENT_BYTES * if life == 0 { 6 } else { 9 },
            ..OpenOptions::new("this machine")
        };
        let opening = Volume::open_async(store.clone(), &opened, runtime, &options);
        threads.block_on(async {
            let Some(volume) = until_stopped(&disk, opening).await else {
                assert_eq!(life, 1);
                return;
            };
            let volume = volume.unwrap();
            match life {
                0 => {
                    volume.write_async(0, &[1; SECTOR]).await.unwrap();
                    volume.close_async().await.unwrap();
                }
                2 => {
                    volume.write_async(0, &[7; SECTOR]).await.unwrap();
                    volume.flush_async().await.unwrap();
                }
                _ => volume.read_async(0, &mut found).await.unwrap(),
            }
        });
        drop((threads, opened));
        assert_eq!(disk.is_stopped(), life == 1);
        disk = match life {
            0 | 1 => disk.kill(0),
            _ => disk.crash_with(Survivors::None),
        };
    }
    assert_eq!(found, [7; SECTOR]);
}
