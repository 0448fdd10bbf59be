//! What the tests share: a runtime, stores, volumes, and reading objects back.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use lsvd::bytes::block::Place;
use lsvd::bytes::data_object::{BlockSpan, DataHeader};
use lsvd::bytes::entry::EntryKind;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::ObjectStore;
use lsvd::words::name::{ObjectKind, ObjectName};
use lsvd::{EphemeralOptions, Volume};

pub(crate) const MIB: u64 = 1 << 20;

/// One runtime for all tests: they are about volumes, not about starting threads.
pub(crate) fn runtime() -> Arc<dyn Runtime> {
    static RUNTIME: LazyLock<Arc<TokioRuntime>> =
        LazyLock::new(|| Arc::new(TokioRuntime::start(2).unwrap()));
    Arc::clone(&*RUNTIME) as Arc<dyn Runtime>
}

/// Small objects and a small window, so that everything fills up and overlaps soon.
pub(crate) fn small(size: u64) -> EphemeralOptions {
    EphemeralOptions {
        object_size: MIB,
        window: 2,
        seal_timeout: Duration::from_millis(50),
        retry_timeout: Duration::from_millis(200),
        ..EphemeralOptions::new(size)
    }
}

pub(crate) fn open(store: Arc<dyn ObjectStore>, options: EphemeralOptions) -> Volume {
    Volume::open_ephemeral(store, runtime(), options).unwrap()
}

pub(crate) fn read(volume: &Volume, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; len];
    volume.read(offset, &mut buffer).unwrap();
    buffer
}

/// Waits for what other threads bring about, however slow the machine is.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what}: this never came"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The data objects of a store, in order of their numbers.
pub(crate) fn objects(store: &dyn ObjectStore) -> BTreeMap<u64, ObjectName> {
    let listed = pollster::block_on(store.list()).unwrap();
    let names = listed
        .iter()
        .map(|object| ObjectName::parse(&object.name).unwrap());
    names.map(|name| (name.id.as_u64(), name)).collect()
}

/// The names in a store that begin so, in no order.
pub(crate) fn objects_of(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let listed = pollster::block_on(store.list()).unwrap();
    let names = listed.into_iter().map(|object| object.name);
    names.filter(|name| name.starts_with(prefix)).collect()
}

pub(crate) fn get(store: &dyn ObjectStore, name: ObjectName) -> Vec<u8> {
    pollster::block_on(store.get(&name.to_string()))
        .unwrap()
        .to_vec()
}

/// What the volume would be if all its objects were replayed in order: what recovery will see.
pub(crate) fn replay(store: &dyn ObjectStore, size: u64) -> Vec<u8> {
    let objects = objects(store);
    for (expected, number) in (0..).zip(objects.keys()) {
        assert_eq!(*number, expected, "the stream has a hole");
    }
    replay_objects(store, size, objects.into_values())
}

/// The same for a volume that lasts, with objects of other kinds beside those with data.
pub(crate) fn replay_stream(store: &dyn ObjectStore, size: u64) -> Vec<u8> {
    let listed = pollster::block_on(store.list()).unwrap();
    let names = listed
        .iter()
        .filter_map(|object| ObjectName::parse(&object.name));
    let mut data: Vec<_> = names.filter(|name| name.kind == ObjectKind::Data).collect();
    data.sort_by_key(|name| name.id);
    replay_objects(store, size, data.into_iter())
}

fn replay_objects(
    store: &dyn ObjectStore,
    size: u64,
    names: impl Iterator<Item = ObjectName>,
) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(size).unwrap()];
    let mut predecessor = None;
    for name in names {
        let object = get(store, name);
        let header = DataHeader::decode_object(&object).unwrap();
        header.check_identity(header.volume, name).unwrap();
        assert_eq!(header.predecessor, predecessor);
        predecessor = Some(name.id);
        let layout = header.layout().unwrap();
        assert_eq!(layout.object_len(), object.len() as u64);
        let place = Place::of(header.volume, name);
        for entry in &header.entries {
            let start = usize::try_from(entry.range.start.0 * 512).unwrap();
            let len = usize::try_from(entry.range.bytes()).unwrap();
            let target = &mut disk[start..start + len];
            match entry.kind {
                EntryKind::Write(offset) => {
                    let span = BlockSpan::new(offset, len);
                    let range = span.stored_range(layout.header_len());
                    let range =
                        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    span.extract(place, &object[range], target).unwrap();
                }
                EntryKind::Discard | EntryKind::WriteZeroes => target.fill(0),
            }
        }
    }
    disk
}

/// How many times as fast hasty time passes.
const HASTE: u32 = 100;

/// The most of a time in which nothing happened that passes hastily: of a machine that stands still
/// for a second it would be minutes, in which nobody answers and all patience ends.
const STANDSTILL_MAX: Duration = Duration::from_millis(20);

/// Hasty time, and when it was looked at the last.
static HASTY_TIME: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);

fn hasty_now() -> Duration {
    let mut time = HASTY_TIME.lock().unwrap();
    // What is looked at all the time stands still when the machine does.
    let started = || {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(1));
                hasty_now();
            }
        });
        (Instant::now(), Duration::ZERO)
    };
    let (last, passed) = time.get_or_insert_with(started);
    let now = Instant::now();
    *passed += (now - *last).min(STANDSTILL_MAX) * HASTE;
    *last = now;
    *passed
}

/// Waits until so much hasty time has passed.
pub(crate) fn pass_hastily(duration: Duration) {
    let until = hasty_now() + duration;
    while hasty_now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A runtime on which time passes a hundred times as fast.
#[derive(Debug)]
pub(crate) struct Hasty(pub(crate) Arc<dyn Runtime>);

impl Runtime for Hasty {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = hasty_now().saturating_add(duration);
        let runtime = Arc::clone(&self.0);
        let mut passes = runtime.sleep(duration / HASTE);
        Box::pin(async move {
            loop {
                passes.await;
                let left = until.saturating_sub(hasty_now());
                if left.is_zero() {
                    return;
                }
                passes = runtime.sleep(left / HASTE);
            }
        })
    }

    fn now(&self) -> Duration {
        hasty_now()
    }

    fn wall_clock(&self) -> Duration {
        self.0.wall_clock()
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}
