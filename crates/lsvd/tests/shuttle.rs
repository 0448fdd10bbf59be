//! Batch, extent map and map M under a scheduler that decides at every lock who goes on.
//!
//! Only built with `--cfg shuttle`; `cargo x shuttle` runs it. It drives the volume itself: writers,
//! a reader, the uploader and the sealer, on a store in memory.
#![cfg(shuttle)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lsvd::bytes::block::Place;
use lsvd::bytes::data_object::{BlockSpan, DataHeader};
use lsvd::bytes::entry::EntryKind;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::ObjectStore;
use lsvd::state::batch::{Batcher, BufferPool, Identity, NewEntry, Sink};
use lsvd::state::extent_map::{Cut, ExtentMap, RegionNumber};
use lsvd::state::in_flight::InFlight;
use lsvd::state::object_table::ObjectTable;
use lsvd::state::progress::{Persists, Progress};
use lsvd::state::uploads::{SealedBatch, UploadQueue};
use lsvd::words::name::{Epoch, ObjectId, ObjectName, VolumeUuid};
use lsvd::words::units::{DataOffset, Lba, LbaRange, Location, ObjectSlot};
use lsvd::{EphemeralOptions, FlushTarget, Volume};
use lsvd_store::MemoryStore;

const SIZE: usize = 64 << 10;

/// Tasks are the checker's, and time passes as the schedule goes.
#[derive(Debug, Default)]
struct CheckedRuntime {
    ticks: AtomicU64,
    /// A schedule that ends while tasks are left drops them in the middle of what they do.
    tasks: Mutex<Vec<shuttle::future::JoinHandle<()>>>,
}

impl CheckedRuntime {
    fn join(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        for task in tasks {
            shuttle::future::block_on(task).unwrap();
        }
    }
}

impl Runtime for CheckedRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = shuttle::future::spawn(task);
        self.tasks.lock().unwrap().push(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration > Duration::from_secs(10) {
            return Box::pin(std::future::pending());
        }
        Box::pin(shuttle::future::yield_now())
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn wall_clock(&self) -> Duration {
        self.now()
    }

    fn random(&self) -> u128 {
        0x1234_5678
    }
}

fn open(store: &Arc<MemoryStore>, flush: FlushTarget) -> (Volume, Arc<CheckedRuntime>) {
    let options = EphemeralOptions {
        object_size: 16 << 10,
        window: 2,
        seal_timeout: Duration::from_millis(1),
        flush,
        ..EphemeralOptions::new(SIZE as u64)
    };
    let runtime = Arc::new(CheckedRuntime::default());
    let volume = Volume::open_ephemeral(store.clone(), runtime.clone(), options).unwrap();
    (volume, runtime)
}

fn read(volume: &Volume) -> Vec<u8> {
    let mut buffer = vec![0xee; SIZE];
    volume.read(0, &mut buffer).unwrap();
    buffer
}

fn replay(store: &MemoryStore) -> Vec<u8> {
    let mut disk = vec![0; SIZE];
    for number in 0.. {
        let name = ObjectName::data(ObjectId::from_u64(number));
        let Ok(object) = pollster::block_on(store.get(&name.to_string())) else {
            break;
        };
        let header = DataHeader::decode(&object).unwrap();
        for entry in &header.entries {
            let start = usize::try_from(entry.range.start.0 * 512).unwrap();
            let len = usize::try_from(entry.range.bytes()).unwrap();
            let target = &mut disk[start..start + len];
            let EntryKind::Write(offset) = entry.kind else {
                target.fill(0);
                continue;
            };
            let span = BlockSpan::new(offset, len);
            let range = span.stored_range(header.layout().unwrap().header_len());
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            span.extract(Place::of(header.volume, name), &object[range], target)
                .unwrap();
        }
    }
    disk
}

/// Two writers and a discarder race over the same sectors while a reader looks: nothing torn,
/// nothing older than what was there before, and the objects replay to what the map says.
fn racing_writers() {
    let store = Arc::new(MemoryStore::new());
    let (volume, runtime) = open(&store, FlushTarget::Local);
    let threads: Vec<_> = [(1_u8, 0_u64), (2, 4096), (3, 2048)]
        .into_iter()
        .map(|(stamp, start)| {
            let volume = volume.clone();
            shuttle::thread::spawn(move || {
                volume.write(start, &[stamp; 8192]).unwrap();
                if stamp == 3 {
                    volume.discard(8192, 4096).unwrap();
                } else {
                    volume.write(start, &[stamp + 10; 8192]).unwrap();
                }
            })
        })
        .collect();
    let reader = {
        let volume = volume.clone();
        shuttle::thread::spawn(move || {
            let (first, second) = (read(&volume), read(&volume));
            for sector in first.chunks(512).chain(second.chunks(512)) {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a torn sector"
                );
            }
            // Only the first writer comes here: its values only ever go up.
            assert!([0, 1, 11].contains(&first[0]) && second[0] >= first[0]);
        })
    };
    for thread in threads {
        thread.join().unwrap();
    }
    reader.join().unwrap();
    let state = read(&volume);
    assert!([11, 3].contains(&state[2048]));
    volume.close().unwrap();
    runtime.join();
    assert!(
        replay(&store) == state,
        "the order of the map is not the order of the objects"
    );
}

/// Writes beyond the memory there is, from two threads, with flushes: all go through, in order.
fn full_window() {
    let store = Arc::new(MemoryStore::new());
    let (volume, runtime) = open(&store, FlushTarget::Store);
    let threads: Vec<_> = (0..2_u8)
        .map(|thread| {
            let volume = volume.clone();
            shuttle::thread::spawn(move || {
                for round in 0..6 {
                    volume.write(0, &[thread * 100 + round; 16 << 10]).unwrap();
                    volume
                        .write(u64::from(thread + 1) * 16384, &[round + 1; 512])
                        .unwrap();
                }
                volume.flush().unwrap();
                let mut own = [0; 512];
                volume
                    .read(u64::from(thread + 1) * 16384, &mut own)
                    .unwrap();
                assert_eq!(own, [6; 512]);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let state = read(&volume);
    assert!([5, 105].contains(&state[0]));
    assert!(
        replay(&store) == state,
        "flushed to the store and not there"
    );
    volume.close().unwrap();
    runtime.join();
}

/// A map of a few chunks and what writes to it are entered in.
struct Parts {
    map: ExtentMap,
    batcher: Batcher,
    uploads: Arc<UploadQueue>,
}

const CHUNK: u64 = 1 << 13;

impl Parts {
    fn new() -> Arc<Self> {
        let identity = Identity {
            volume: VolumeUuid::from_u128(1),
            session: 2,
        };
        let pool = BufferPool::new(16 << 10, 64);
        let uploads = Arc::new(UploadQueue::default());
        let batcher = Batcher::new(
            identity,
            Epoch(0),
            None,
            pool,
            Arc::new(ObjectTable::default()),
            Arc::new(InFlight::default()),
            Arc::new(Progress::new(None, Persists::WhenAnswered)),
            Sink::Uploads(Arc::clone(&uploads)),
        );
        let map = ExtentMap::new(3 * CHUNK);
        Arc::new(Self {
            map,
            batcher,
            uploads,
        })
    }

    /// As a volume writes or discards.
    fn change(&self, start: u64, sectors: u64, what: NewEntry) {
        let range = LbaRange::with_len(Lba(start), sectors);
        let mut locked = self.map.lock(range);
        let slot = self.batcher.append(range, what).unwrap().unwrap();
        let cuts = slot.cuts();
        if what == NewEntry::Write {
            let location = slot.fill(&vec![1; usize::try_from(sectors).unwrap() * 512]);
            locked.insert(range, location, cuts, |_| {});
        } else {
            drop(locked.detach(range, cuts));
        }
    }

    /// What the sealed batches up to `last` say of every sector that they map.
    fn replay(&self, last: Option<ObjectId>, sectors: &mut BTreeMap<u64, Location>) {
        let end = last.map_or(0, |last| last.sequence() + 1);
        while let Some((_, batch)) = self.uploads.take(end) {
            let SealedBatch::Memory(batch) = batch else {
                panic!("there is no log");
            };
            shuttle::future::block_on(batch.filled());
            for entry in &batch.header(0, None).entries {
                for (by, lba) in (0..).zip(entry.range.as_range()) {
                    let EntryKind::Write(offset) = entry.kind else {
                        sectors.remove(&lba);
                        continue;
                    };
                    sectors.insert(lba, location(batch.slot(), offset.0 + by));
                }
            }
        }
    }
}

fn location(object: ObjectSlot, offset: u32) -> Location {
    let offset = DataOffset(offset);
    Location { object, offset }
}

/// Walks the changed regions of a cut over what the last one left.
fn walk(map: &ExtentMap, cut: &Cut<'_>, checkpoint: &mut BTreeMap<u64, Location>) {
    for region in (0..map.region_count()).filter(|region| cut.is_changed(RegionNumber(*region))) {
        let len = map.region_sectors();
        checkpoint.retain(|lba, _| lba / len != region);
        let mut walk = cut.walk(RegionNumber(region)..RegionNumber(region + 1));
        let mut visit = |extent: lsvd::words::units::Extent| {
            for (by, lba) in (0..).zip(extent.range.as_range()) {
                let offset = extent.location.offset.0 + by;
                let twice = checkpoint.insert(lba, location(extent.location.object, offset));
                assert_eq!(twice, None, "sector {lba} was walked twice");
            }
        };
        while walk.step(&mut visit).is_some() {}
    }
}

/// Cuts beside writers, and a discard of everything: each is exactly the batches before it.
fn cuts_beside_writers() {
    let parts = Parts::new();
    let threads: Vec<_> = (0..2_u64)
        .map(|thread| {
            let parts = parts.clone();
            shuttle::thread::spawn(move || {
                parts.change(thread * CHUNK + 4, 4, NewEntry::Write);
                parts.change(CHUNK - 2, 4, NewEntry::Write);
                if thread == 1 {
                    parts.change(0, 3 * CHUNK, NewEntry::Discard);
                }
                parts.change(CHUNK + thread, 3, NewEntry::Write);
            })
        })
        .collect();
    let (mut model, mut checkpoint) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..3 {
        let mut cut = parts.map.prepare_cut(u64::MAX).unwrap();
        let (last, _) = parts.batcher.cut(|cuts| cut.begin(cuts));
        cut.settle();
        cut.start_walk();
        walk(&parts.map, &cut, &mut checkpoint);
        cut.end_walk();
        parts.replay(last, &mut model);
        assert_eq!(checkpoint, model, "the cut is not what the batches say");
        cut.persisted();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    parts.map.self_check().unwrap();
}

#[test]
fn cuts_beside_writers_at_random() {
    shuttle::check_random(cuts_beside_writers, 3000);
}

#[test]
fn cuts_beside_writers_with_few_preemptions() {
    shuttle::check_pct(cuts_beside_writers, 2000, 3);
}

#[test]
fn racing_writers_and_readers_at_random() {
    shuttle::check_random(racing_writers, 2000);
}

#[test]
fn racing_writers_and_readers_with_few_preemptions() {
    shuttle::check_pct(racing_writers, 1000, 3);
}

#[test]
fn a_full_window_at_random() {
    shuttle::check_random(full_window, 1000);
}

#[test]
fn a_full_window_with_few_preemptions() {
    shuttle::check_pct(full_window, 500, 3);
}
