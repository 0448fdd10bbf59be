//! Tasks that are dropped, time that passes, background work that ends, closing under load.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::limits::STORE_PATIENCE;
use lsvd::{ErrorKind, FlushTarget, Volume};
use lsvd_store::{Bandwidth, Fault, Faulty, MemoryStore, Verb};

use crate::world::{Hasty, MIB, objects, open, read, replay, runtime, small, wait_for};

const OBJECT: usize = 1 << 20;

fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A client goes away in the middle of its requests: nothing is left locked, counted or queued.
#[test]
fn requests_that_are_dropped_half_way_leave_nothing_behind() {
    let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new())));
    store.fail_next(Verb::Put, 2, Fault::Hang);
    let mut options = small(64 * MIB);
    options.flush = FlushTarget::Store;
    let volume = open(store.clone(), options);
    let mut written = 0;
    while volume.try_write(written * MIB, &vec![1; OBJECT]).is_some() {
        written += 1;
    }
    // What is not under way when they are released would hang for good.
    wait_for("both uploads", || store.hanging() == 2);
    {
        let data = vec![2; OBJECT];
        let mut first = pin!(volume.write_async(40 * MIB, &data));
        let mut second = pin!(volume.write_async(41 * MIB, &data));
        let mut discard = pin!(volume.discard_async(0, MIB));
        let mut flush = pin!(volume.flush_async());
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(discard.as_mut()).is_pending());
        assert!(poll_once(flush.as_mut()).is_pending());
    }
    store.release();
    volume.write(42 * MIB, &vec![3; OBJECT]).unwrap();
    volume.flush().unwrap();
    assert_eq!(
        read(&volume, 0, 512),
        [1; 512],
        "a discard that never began"
    );
    assert_eq!(read(&volume, 40 * MIB, OBJECT), vec![0; OBJECT]);
    assert_eq!(read(&volume, 42 * MIB, OBJECT), vec![3; OBJECT]);
    {
        let mut close = pin!(volume.close_async());
        let _ = poll_once(close.as_mut());
    }
    volume.close().unwrap();
}

/// A request that is never answered is given up and made again.
#[test]
fn requests_that_hang_are_repeated() {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(Faulty::new(memory.clone()));
    store.fail_next(Verb::Put, 1, Fault::Hang);
    let hasty: Arc<dyn Runtime> = Arc::new(Hasty(runtime()));
    let volume = Volume::open_ephemeral(store.clone(), hasty, small(MIB)).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    wait_for("the repetition", || volume.close().is_ok());
    assert_eq!(replay(&*memory, 512), [1; 512]);

    let hasty: Arc<dyn Runtime> = Arc::new(Hasty(runtime()));
    let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new())));
    let mut options = small(MIB);
    options.flush = FlushTarget::Store;
    let volume = Volume::open_ephemeral(store.clone(), hasty, options).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    volume.flush().unwrap();
    store.fail_next(Verb::Get, 1, Fault::Hang);
    let error = volume.read(0, &mut [0; 512]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("60 s"), "{error}");
    assert_eq!(read(&volume, 0, 512), [1; 512]);
}

/// Time that passes fast, and how long was to be waited for the store.
#[derive(Debug)]
struct Watched {
    hasty: Hasty,
    patience: Mutex<Vec<Duration>>,
}

impl Runtime for Watched {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.hasty.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // Nothing else is waited for as long as a store.
        if duration >= STORE_PATIENCE {
            self.patience.lock().unwrap().push(duration);
        }
        self.hasty.sleep(duration)
    }

    fn now(&self) -> Duration {
        self.hasty.now()
    }

    fn wall_clock(&self) -> Duration {
        self.hasty.wall_clock()
    }

    fn random(&self) -> u128 {
        self.hasty.random()
    }
}

/// A store that fails at once for a while and then hangs is not waited for longer than another:
/// until an upload is given up nobody learns that it is stuck.
#[test]
fn only_an_upload_that_was_too_slow_is_given_more_time() {
    let store = Arc::new(Faulty::new(Arc::new(MemoryStore::new())));
    let runtime = Arc::new(Watched {
        hasty: Hasty(runtime()),
        patience: Mutex::default(),
    });
    let volume = Volume::open_ephemeral(store.clone(), runtime.clone(), small(MIB)).unwrap();
    runtime.patience.lock().unwrap().clear();
    let refusal = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next(Verb::Put, 3, refusal);
    store.fail_next(Verb::Put, 1, Fault::Hang);
    store.fail_next(Verb::Put, 2, refusal);
    volume.write(0, &[1; 512]).unwrap();
    wait_for("the end of the upload", || volume.close().is_ok());
    let patience = runtime.patience.lock().unwrap();
    let seconds: Vec<_> = patience.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [60, 60, 60, 60, 120, 120, 120]);
}

/// An object through a line on which it takes longer than a store is given at first.
#[test]
fn a_store_that_is_slow_gets_everything_in_the_end() {
    let memory = Arc::new(MemoryStore::new());
    let hasty: Arc<dyn Runtime> = Arc::new(Hasty(runtime()));
    let slow = Bandwidth::new(
        memory.clone(),
        hasty.clone(),
        NonZeroU64::new(12 << 10).unwrap(),
    );
    let slow: Arc<dyn ObjectStore> = Arc::new(slow);
    let mut options = small(4 * MIB);
    options.window = 1;
    let volume = Volume::open_ephemeral(slow, hasty, options).unwrap();
    volume.write(0, &vec![5; OBJECT]).unwrap();
    wait_for("the end of the upload", || volume.close().is_ok());
    assert_eq!(replay(&*memory, MIB), vec![5; OBJECT]);
}

/// The threads under the volume go away: whoever waits is told, for ever.
#[test]
fn when_the_background_work_ends_nobody_waits_for_it() {
    let threads = tokio::runtime::Runtime::new().unwrap();
    let runtime = Arc::new(TokioRuntime::on(threads.handle().clone()));
    let mut options = small(64 * MIB);
    options.flush = FlushTarget::Store;
    // Only the flush is to ask for an upload, and by then nobody is there to make it.
    options.seal_timeout = Duration::from_secs(3600);
    let store = Arc::new(MemoryStore::new());
    let volume = Volume::open_ephemeral(store, runtime, options).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    drop(threads);
    let error = volume.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("background work ended"),
        "{error}"
    );
    let mut refused = None;
    for n in 0..20 {
        refused = volume.write(n * MIB, &vec![1; OBJECT]).err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(
        refused.map(|error| error.kind()),
        Some(ErrorKind::Unavailable)
    );
    assert_eq!(volume.close().unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Everything acknowledged before the close is in the store, everything later is refused, and
/// nobody hangs, also of those who wait for room.
#[test]
fn closing_under_load_keeps_what_was_acknowledged() {
    for round in 0..5_u64 {
        let memory = Arc::new(MemoryStore::new());
        let volume = open(memory.clone(), small(16 * MIB));
        let refused = AtomicBool::new(false);
        let acknowledged: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for (thread, count) in (0_u64..).zip(&acknowledged) {
                let (volume, refused) = (&volume, &refused);
                scope.spawn(move || {
                    for n in 1.. {
                        let byte = u8::try_from(n % 255).unwrap() + 1;
                        match volume.write(thread * 4 * MIB + n % 7 * 512, &vec![byte; OBJECT]) {
                            Ok(()) => count.store(n, Ordering::Release),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                                refused.store(true, Ordering::Release);
                                return;
                            }
                        }
                        let _ = volume.try_read(thread * 4 * MIB, &mut [0; 512]);
                    }
                });
            }
            let counts = || {
                acknowledged
                    .iter()
                    .map(|count| count.load(Ordering::Acquire))
            };
            wait_for("a write of each thread", || counts().all(|n| n > 0));
            std::thread::sleep(Duration::from_millis(round * 7));
            volume.close().unwrap();
        });
        assert!(refused.load(Ordering::Acquire));
        let disk = replay(&*memory, 16 * MIB);
        for (thread, count) in (0_u64..).zip(&acknowledged) {
            let n = count.load(Ordering::Acquire);
            let byte = u8::try_from(n % 255).unwrap() + 1;
            let at = usize::try_from(thread * 4 * MIB + 6 * 512).unwrap();
            assert_eq!(disk[at], byte, "the last write of thread {thread}");
        }
    }
}

#[test]
fn a_batch_is_stored_soon_after_its_own_first_entry() {
    let memory = Arc::new(MemoryStore::new());
    let mut options = small(16 * MIB);
    options.seal_timeout = Duration::from_millis(600);
    let volume = open(memory.clone(), options);
    // The second batch opens late in the time of the first, which is full before its time is over.
    volume.write(0, &[1; 512]).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    volume.write(MIB, &vec![2; OBJECT]).unwrap();
    volume.write(4 * MIB, &[3; 512]).unwrap();
    wait_for("all three objects", || objects(&*memory).len() == 3);
    assert_eq!(read(&volume, 4 * MIB, 512), [3; 512]);
}
