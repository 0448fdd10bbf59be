//! What each decorator adds.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lsvd::doors::runtime::TokioRuntime;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd_store::{Bandwidth, Counting, Fault, Faulty, Latency, MemoryStore, Verb};
use pollster::block_on;

fn body(len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![0x11; len])]
}

fn runtime() -> Arc<TokioRuntime> {
    Arc::new(TokioRuntime::start(1).expect("threads can be had"))
}

#[test]
fn latency_is_added_to_each_request_on_its_own() {
    let inner = Arc::new(MemoryStore::new());
    let range = "20ms..30ms".parse().unwrap();
    let store = Latency::new(inner.clone(), runtime()).writes(range);
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || block_on(store.put(&format!("data.{number:08x}"), body(1))));
        }
    });
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(20), "{took:?}");
    assert!(
        took < Duration::from_millis(160),
        "they waited for one another: {took:?}"
    );
    assert_eq!(block_on(inner.list()).unwrap().len(), 8);
    assert!(
        store.try_get_range("data.00000000", 0, &mut [0]).is_some(),
        "reads are not slowed"
    );

    let store = Latency::new(inner, runtime()).reads(range);
    assert!(store.try_get_range("data.00000000", 0, &mut [0]).is_none());
    let begun = Instant::now();
    block_on(store.get_range("data.00000000", 0..1)).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let begun = Instant::now();
    block_on(store.put("data.0000000a", body(1))).unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(20),
        "writes are not slowed"
    );
}

#[test]
fn bandwidth_is_shared_by_all_requests_of_one_direction() {
    let bytes_per_second = NonZeroU64::new(10_000_000).unwrap();
    let store = Bandwidth::new(Arc::new(MemoryStore::new()), runtime(), bytes_per_second);
    let begun = Instant::now();
    thread::scope(|scope| {
        for number in 0..4 {
            let store = &store;
            scope.spawn(move || block_on(store.put(&format!("data.{number:08x}"), body(250_000))));
        }
    });
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(99),
        "1 MB at 10 MB/s took {took:?}"
    );
    let begun = Instant::now();
    block_on(store.get("data.00000000")).unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(24),
        "{:?}",
        begun.elapsed()
    );
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
    thread::scope(|scope| {
        let hanging = scope.spawn(|| block_on(store.put("data.00000000", body(10))));
        while store.hanging() == 0 {
            thread::yield_now();
        }
        assert_eq!(inner.bytes(), 0);
        block_on(store.put("data.00000001", body(1))).unwrap();
        store.release();
        hanging.join().unwrap().unwrap();
    });
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
