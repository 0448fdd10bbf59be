//! What each decorator adds.

use std::future::poll_fn;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use lsvd_store::{Bandwidth, Counting, Fault, Faulty, Latency, MemoryStore, Verb};
use parking_lot::Mutex;
use pollster::block_on;

#[test]
fn a_late_creation_is_carried_out_when_nobody_waits() {
    let memory = Arc::new(MemoryStore::new());
    let store = Faulty::new(memory.clone());
    store.fail_next_of("a", Verb::Put, 2, Fault::Late);
    for name in ["a1", "a2"] {
        let error = block_on(store.put(name, body(3))).expect_err("nobody waits for it");
        assert_eq!(error.kind(), StoreErrorKind::TooSlow);
    }
    assert_eq!(
        (store.late(), block_on(memory.list()).unwrap().len()),
        (2, 0)
    );
    block_on(store.put("a2", body(4))).unwrap();
    let answers = block_on(store.arrive());
    assert!(answers[0].is_ok());
    let taken = answers[1].as_ref().unwrap_err();
    assert_eq!(taken.kind(), StoreErrorKind::AlreadyExists);
    assert_eq!(block_on(memory.get("a1")).unwrap().len(), 3);
    assert_eq!(block_on(memory.get("a2")).unwrap().len(), 4);
    assert_eq!(store.late(), 0);
}

fn body(len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![0x11; len])]
}

/// A runtime whose time goes on when it is told to.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<Mutex<Duration>>);

impl Clock {
    fn advance(&self, milliseconds: u64) {
        *self.0.lock() += Duration::from_millis(milliseconds);
    }
}

impl Runtime for Clock {
    fn spawn(&self, _task: BoxFuture<'static, ()>) {
        panic!("no decorator needs a task");
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.now() + duration;
        let clock = self.clone();
        Box::pin(poll_fn(move |_| {
            if clock.now() < until {
                return Poll::Pending;
            }
            Poll::Ready(())
        }))
    }

    fn now(&self) -> Duration {
        *self.0.lock()
    }

    fn wall_clock(&self) -> Duration {
        self.now()
    }

    /// Chooses the middle.
    fn random(&self) -> u128 {
        1 << 63
    }
}

type Request<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Whether the request is answered now, which must be well.
fn is_done<T>(request: &mut Request<'_, T>) -> bool {
    let polled = request
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Ready(answer) => answer.map(|_| true).expect("a good answer"),
        Poll::Pending => false,
    }
}

/// Removes the requests that are answered now, and says how many those were.
fn answered<T>(requests: &mut Vec<Request<'_, T>>) -> usize {
    let before = requests.len();
    requests.retain_mut(|request| !is_done(request));
    before - requests.len()
}

const NAMES: [&str; 4] = [
    "data.00000000",
    "data.00000001",
    "data.00000002",
    "data.00000003",
];

#[test]
fn latency_is_added_to_each_request_on_its_own() {
    let inner = Arc::new(MemoryStore::new());
    let clock = Clock::default();
    let range = "20ms..30ms".parse().unwrap();
    let store = Latency::new(inner.clone(), Arc::new(clock.clone())).writes(range);
    let mut puts: Vec<_> = NAMES.map(|name| store.put(name, body(1))).into();
    assert_eq!(answered(&mut puts), 0);
    clock.advance(24);
    assert_eq!(answered(&mut puts), 0);
    assert_eq!(inner.bytes(), 0);
    clock.advance(1);
    assert_eq!(answered(&mut puts), 4, "they wait for one another");
    assert_eq!(block_on(inner.list()).unwrap().len(), 4);
    let mut read = store.get_range("data.00000000", 0..1);
    assert!(is_done(&mut read), "reads are not slowed");
    assert!(store.try_get_range("data.00000000", 0, &mut [0]).is_some());

    let store = Latency::new(inner, Arc::new(clock.clone())).reads(range);
    assert!(store.try_get_range("data.00000000", 0, &mut [0]).is_none());
    let mut read = store.get_range("data.00000000", 0..1);
    assert!(!is_done(&mut read));
    clock.advance(24);
    assert!(!is_done(&mut read));
    clock.advance(1);
    assert!(is_done(&mut read));
    let mut put = store.put("data.0000000a", body(1));
    assert!(is_done(&mut put), "writes are not slowed");
}

#[test]
fn bandwidth_is_shared_by_all_requests_of_one_direction() {
    let bytes_per_second = NonZeroU64::new(10_000_000).unwrap();
    let clock = Clock::default();
    let store = Bandwidth::new(
        Arc::new(MemoryStore::new()),
        Arc::new(clock.clone()),
        bytes_per_second,
    );
    let mut puts: Vec<_> = NAMES.map(|name| store.put(name, body(250_000))).into();
    assert_eq!(answered(&mut puts), 0);
    for at in 1..=100 {
        clock.advance(1);
        let expected = usize::from(at % 25 == 0);
        assert_eq!(answered(&mut puts), expected, "{at} ms");
    }
    let mut put = store.put("data.00000004", body(250_000));
    assert!(!is_done(&mut put));
    let mut get = store.get("data.00000000");
    assert!(!is_done(&mut get));
    clock.advance(24);
    assert!(!is_done(&mut get));
    clock.advance(1);
    assert!(is_done(&mut get), "the other direction is in the way");
    assert!(is_done(&mut put));
}

#[test]
fn a_full_memory_store_refuses_and_takes_again_when_space_is_freed() {
    let store = MemoryStore::limited(1000);
    block_on(store.put("data.00000000", body(900))).unwrap();
    let error = block_on(store.put("data.00000001", body(101))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSpace);
    assert_eq!(store.bytes(), 900);
    block_on(store.put("data.00000001", body(100))).unwrap();
    block_on(store.delete("data.00000000")).unwrap();
    block_on(store.put("data.00000002", body(900))).unwrap();
}

#[test]
fn requests_and_bytes_are_counted_per_verb() {
    let store = Counting::new(Arc::new(MemoryStore::new()));
    block_on(store.put("data.00000000", body(1000))).unwrap();
    block_on(store.put("data.00000000", body(1000))).unwrap_err();
    block_on(store.get("data.00000000")).unwrap();
    block_on(store.get_range("data.00000000", 10..30)).unwrap();
    block_on(store.get_range("data.00000001", 10..30)).unwrap_err();
    store
        .try_get_range("data.00000000", 0, &mut [0; 7])
        .unwrap()
        .unwrap();
    block_on(store.list()).unwrap();
    block_on(store.delete("data.00000000")).unwrap();
    let counts = store.counts();
    let numbers = |verb: lsvd_store::VerbCounts| (verb.requests, verb.failed, verb.bytes);
    assert_eq!(numbers(counts.put), (2, 1, 1000));
    assert_eq!(numbers(counts.get), (1, 0, 1000));
    assert_eq!(numbers(counts.get_range), (2, 1, 20));
    assert_eq!(numbers(counts.try_get_range), (1, 0, 7));
    assert_eq!(numbers(counts.list), (1, 0, 0));
    assert_eq!(numbers(counts.delete), (1, 0, 0));
}

fn faulty() -> (Faulty, Arc<MemoryStore>) {
    let inner = Arc::new(MemoryStore::new());
    (Faulty::new(inner.clone()), inner)
}

#[test]
fn a_refused_put_does_nothing_and_a_lost_reply_hides_a_put_that_was_done() {
    let (store, inner) = faulty();
    store.fail_next(Verb::Put, 2, Fault::Refuse(StoreErrorKind::NoSpace));
    store.fail_next(Verb::Put, 1, Fault::LoseReply);
    for _ in 0..2 {
        let error = block_on(store.put("data.00000000", body(10))).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::NoSpace);
        assert_eq!(inner.bytes(), 0);
    }
    let error = block_on(store.put("data.00000000", body(10))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(inner.bytes(), 10);
    let error = block_on(store.put("data.00000000", body(10))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
}

#[test]
fn faults_of_one_object_leave_the_others_alone_until_mended() {
    let (store, _) = faulty();
    store.fail_next_of(
        "a",
        Verb::Put,
        u64::MAX,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    block_on(store.put("b", body(1))).unwrap();
    for _ in 0..5 {
        block_on(store.put("a", body(1))).unwrap_err();
    }
    store.mend();
    block_on(store.put("a", body(1))).unwrap();
}

#[test]
fn a_hanging_put_goes_on_when_it_is_released() {
    let (store, inner) = faulty();
    store.fail_next(Verb::Put, 1, Fault::Hang);
    let mut hanging = store.put("data.00000000", body(10));
    assert!(!is_done(&mut hanging));
    assert_eq!((store.hanging(), inner.bytes()), (1, 0));
    let mut other = store.put("data.00000001", body(1));
    assert!(is_done(&mut other));
    assert!(!is_done(&mut hanging));
    store.release();
    assert!(is_done(&mut hanging));
    assert_eq!(store.hanging(), 0);
    assert_eq!(inner.bytes(), 11);
}

#[test]
fn reads_can_be_cut_and_damaged() {
    let (store, _) = faulty();
    block_on(store.put("data.00000000", body(100))).unwrap();
    let mut buffer = [0; 8];
    assert!(
        store
            .try_get_range("data.00000000", 0, &mut buffer)
            .is_some()
    );

    store.fail_next(Verb::Get, 3, Fault::Truncate(50));
    assert!(
        store
            .try_get_range("data.00000000", 0, &mut buffer)
            .is_none()
    );
    assert_eq!(block_on(store.get("data.00000000")).unwrap().len(), 50);
    assert_eq!(
        block_on(store.get_range("data.00000000", 40..50))
            .unwrap()
            .len(),
        10
    );
    let error = block_on(store.get_range("data.00000000", 40..51)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Truncated);

    store.fail_next(Verb::Get, 2, Fault::FlipBit(8 * 10 + 3));
    let damaged = block_on(store.get_range("data.00000000", 0..20)).unwrap();
    assert_eq!(damaged[10], 0x11 ^ 8);
    let differing = block_on(store.get("data.00000000")).unwrap();
    assert_eq!(differing.iter().filter(|byte| **byte != 0x11).count(), 1);
    assert_eq!(
        block_on(store.get("data.00000000")).unwrap(),
        vec![0x11; 100]
    );
}
