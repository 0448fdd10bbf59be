//! What every store must do, as one suite of tests.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes a test of every check here; each check
//! panics where the store breaks the contract of [`ObjectStore`]. Requests are polled by plain
//! threads, so the suite also shows that a store needs no executor around it.

use std::sync::Barrier;
use std::thread;

use bytes::Bytes;
use lsvd::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use pollster::block_on;

/// Racing creators of one name.
const RACERS: u8 = 16;

/// The size of an object as the engine makes it by default.
const OBJECT_BYTES: usize = 8 << 20;

/// Makes one `#[test]` of every check, in a module of this name; the expression makes a new empty
/// store, and whatever must live as long as it, as `(Arc<dyn ObjectStore>, guard)`.
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $make:expr) => {
        mod $module {
            $crate::conformance_tests!(@each $make;
                bodies_are_read_back
                many_segments_are_one_body
                ranges_are_exact
                ranges_past_the_end_are_truncated
                absent_objects_are_not_found
                names_are_created_once
                small_races_have_one_winner
                large_races_have_one_winner
                lists_name_every_object
                deleted_objects_are_gone
                names_may_be_used_again_after_a_delete
                readers_see_all_or_nothing
                many_requests_run_at_once
            );
        }
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                #[allow(
                    unused_imports,
                    reason = "what makes the store may come from around the module or not"
                )]
                use super::*;
                let (store, _guard) = $make;
                $crate::conformance::$check(&*store);
            }
        )*
    };
}

/// `len` bytes that tell their place and their `stamp`.
fn pattern(stamp: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        let word = (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(stamp);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The body as the engine sends it: blocks with small pieces between them, and nothing at times.
fn segments(body: &[u8]) -> Vec<Bytes> {
    let body = Bytes::copy_from_slice(body);
    let mut parts = Vec::new();
    let mut at = 0;
    for len in [4096, 4, 0].into_iter().cycle() {
        if at == body.len() {
            return parts;
        }
        let end = body.len().min(at + len);
        parts.push(body.slice(at..end));
        at = end;
    }
    parts
}

fn put(store: &dyn ObjectStore, name: &str, body: &[u8]) -> Result<(), StoreError> {
    block_on(store.put(name, vec![Bytes::copy_from_slice(body)]))
}

fn must_put(store: &dyn ObjectStore, name: &str, body: &[u8]) {
    put(store, name, body).expect("creating a new object succeeds");
}

/// Whether the object holds `body`, whichever way it is read.
fn assert_holds(store: &dyn ObjectStore, name: &str, body: &[u8]) {
    let whole = block_on(store.get(name)).expect("the object is there");
    assert!(
        whole == body,
        "{name}: get gave {} other bytes",
        whole.len()
    );
    if !body.is_empty() {
        let range = block_on(store.get_range(name, 0..body.len() as u64)).expect("and readable");
        assert!(range == body, "{name}: get_range gave other bytes");
        let mut buffer = vec![0xee; body.len()];
        if let Some(answer) = store.try_get_range(name, 0, &mut buffer) {
            answer.expect("an answer at once is no error");
            assert!(buffer == body, "{name}: try_get_range gave other bytes");
        }
    }
}

fn assert_kind<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: StoreErrorKind) {
    match result {
        Ok(answer) => panic!("{kind:?} was due, but it succeeded: {answer:?}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().starts_with("cannot "), "{error}");
        }
    }
}

/// Bodies of many lengths come back, the empty one among them.
///
/// # Panics
/// Where the store breaks the contract; so do all checks.
pub fn bodies_are_read_back(store: &dyn ObjectStore) {
    for len in [0, 1, 511, 512, 4095, 4096, 4097, (1 << 20) + 3] {
        let name = format!("data.{len:08x}");
        let body = pattern(1, len);
        must_put(store, &name, &body);
        assert_holds(store, &name, &body);
    }
    block_on(store.put("data.ffffffff", Vec::new())).expect("no segments at all are fine");
    assert_holds(store, "data.ffffffff", &[]);
}

/// A body in thousands of small segments is their concatenation.
pub fn many_segments_are_one_body(store: &dyn ObjectStore) {
    for (name, len) in [
        ("data.00000000", OBJECT_BYTES + 8190),
        ("data.00000001", 4100),
    ] {
        let body = pattern(2, len);
        block_on(store.put(name, segments(&body))).expect("many segments are fine");
        assert_holds(store, name, &body);
    }
    let single_bytes = pattern(3, 5000);
    let parts = single_bytes.chunks(1).map(Bytes::copy_from_slice);
    block_on(store.put("data.00000002", parts.collect())).expect("single bytes are fine");
    assert_holds(store, "data.00000002", &single_bytes);
}

/// A range is answered with exactly its bytes, at once as well as after waiting.
pub fn ranges_are_exact(store: &dyn ObjectStore) {
    let body = pattern(4, 100_000);
    must_put(store, "data.00000000", &body);
    for (start, end) in [
        (0, 1),
        (0, 100_000),
        (99_999, 100_000),
        (4095, 8193),
        (512, 1024),
    ] {
        let range = start as u64..end as u64;
        let part = block_on(store.get_range("data.00000000", range)).expect("inside the object");
        assert!(part == body[start..end], "{start}..{end}");
        let mut buffer = vec![0xee; end - start];
        if let Some(answer) = store.try_get_range("data.00000000", start as u64, &mut buffer) {
            answer.expect("an answer at once is no error");
            assert!(buffer == body[start..end], "{start}..{end} at once");
        }
    }
}

/// A range that the object does not reach is an error, however far away it is.
pub fn ranges_past_the_end_are_truncated(store: &dyn ObjectStore) {
    must_put(store, "data.00000000", &pattern(5, 10_000));
    must_put(store, "data.00000001", &[]);
    let ranges = [
        9_999..10_001,
        0..10_001,
        10_000..10_001,
        0..1 << 40,
        1 << 40..(1 << 40) + 512,
        u64::MAX - 1..u64::MAX,
    ];
    for range in ranges {
        let answer = block_on(store.get_range("data.00000000", range.clone()));
        // The largest offsets are beyond what an operating system can even be asked for.
        if range.end > i64::MAX as u64 {
            assert!(answer.is_err(), "{range:?}");
        } else {
            assert_kind(answer, StoreErrorKind::Truncated);
        }
    }
    assert_kind(
        block_on(store.get_range("data.00000001", 0..1)),
        StoreErrorKind::Truncated,
    );
    let mut buffer = [0; 2];
    for offset in [9_999, 10_000, u64::MAX] {
        if let Some(answer) = store.try_get_range("data.00000000", offset, &mut buffer) {
            assert_kind(answer, StoreErrorKind::Truncated);
        }
    }
}

/// What is not there is "not found", for every verb.
pub fn absent_objects_are_not_found(store: &dyn ObjectStore) {
    assert_kind(
        block_on(store.get("data.00000000")),
        StoreErrorKind::NotFound,
    );
    assert_kind(
        block_on(store.get_range("data.00000000", 0..1)),
        StoreErrorKind::NotFound,
    );
    assert_kind(
        block_on(store.delete("data.00000000")),
        StoreErrorKind::NotFound,
    );
    if let Some(answer) = store.try_get_range("data.00000000", 0, &mut [0]) {
        assert_kind(answer, StoreErrorKind::NotFound);
    }
}

/// A second creation of a name fails and changes nothing.
pub fn names_are_created_once(store: &dyn ObjectStore) {
    let first = pattern(6, 5000);
    must_put(store, "data.00000000", &first);
    for body in [pattern(7, 5000), pattern(7, 1), Vec::new(), first.clone()] {
        assert_kind(
            put(store, "data.00000000", &body),
            StoreErrorKind::AlreadyExists,
        );
        assert_holds(store, "data.00000000", &first);
    }
    let listed = block_on(store.list()).expect("listing works");
    assert_eq!(
        listed.len(),
        1,
        "a failed creation left something: {listed:?}"
    );
}

fn race(store: &dyn ObjectStore, name: &str, len: usize) {
    let start = Barrier::new(usize::from(RACERS));
    let racer = |stamp| {
        let parts = segments(&pattern(stamp, len));
        start.wait();
        block_on(store.put(name, parts))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|stamp| scope.spawn(move || racer(stamp)))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().expect("no racer panics"))
            .collect()
    });
    let mut winners = Vec::new();
    for (stamp, result) in (0..RACERS).zip(results) {
        match result {
            Ok(()) => winners.push(stamp),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::AlreadyExists, "{error}"),
        }
    }
    assert_eq!(winners.len(), 1, "{name}: the winners are {winners:?}");
    assert_holds(store, name, &pattern(winners[0], len));
}

/// Of racing creators of a small object one wins, and the object is his.
pub fn small_races_have_one_winner(store: &dyn ObjectStore) {
    for round in 0..20 {
        race(store, &format!("data.{round:08x}"), 4096);
    }
}

/// Of racing creators of an object of the usual size one wins, and the object is his.
pub fn large_races_have_one_winner(store: &dyn ObjectStore) {
    race(store, "data.00000000", OBJECT_BYTES);
}

/// A list holds all objects with their sizes, and nothing else.
pub fn lists_name_every_object(store: &dyn ObjectStore) {
    assert_eq!(
        block_on(store.list()).expect("an empty store can be listed"),
        []
    );
    let mut expected = Vec::new();
    for number in 0..300_usize {
        let name = format!("data.{number:08x}");
        must_put(store, &name, &pattern(8, number * 7));
        expected.push((name, number as u64 * 7));
    }
    let listed = block_on(store.list()).expect("listing works");
    let mut listed: Vec<_> = listed
        .into_iter()
        .map(|row| (row.name, row.bytes))
        .collect();
    listed.sort();
    assert_eq!(listed, expected);
}

/// After a delete the object is gone for every verb, and its neighbours are not.
pub fn deleted_objects_are_gone(store: &dyn ObjectStore) {
    let body = pattern(9, 5000);
    must_put(store, "data.00000000", &body);
    must_put(store, "data.00000001", &body);
    assert_holds(store, "data.00000000", &body);
    block_on(store.delete("data.00000000")).expect("what is there can be deleted");
    absent_objects_are_not_found(store);
    assert_holds(store, "data.00000001", &body);
    let listed = block_on(store.list()).expect("listing works");
    assert_eq!(listed.len(), 1, "{listed:?}");
}

/// A name that was deleted may be created anew, and nobody is answered from the old object.
pub fn names_may_be_used_again_after_a_delete(store: &dyn ObjectStore) {
    for stamp in 0..10 {
        let body = pattern(stamp, 5000 - usize::from(stamp));
        must_put(store, "data.00000000", &body);
        assert_holds(store, "data.00000000", &body);
        block_on(store.delete("data.00000000")).expect("what is there can be deleted");
    }
}

/// Who reads while an object is created finds nothing or all of it.
pub fn readers_see_all_or_nothing(store: &dyn ObjectStore) {
    let body = pattern(10, OBJECT_BYTES);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                loop {
                    match block_on(store.get("data.00000000")) {
                        Ok(whole) => break assert!(whole == body, "{} bytes", whole.len()),
                        Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}"),
                    }
                }
            });
        }
        let parts = segments(&body);
        start.wait();
        block_on(store.put("data.00000000", parts)).expect("creating a new object succeeds");
        assert_holds(store, "data.00000000", &body);
    });
}

/// Creations, reads and deletes of many objects from many threads do not disturb one another.
pub fn many_requests_run_at_once(store: &dyn ObjectStore) {
    thread::scope(|scope| {
        for thread in 0..RACERS {
            scope.spawn(move || {
                for round in 0..20_usize {
                    let name = format!("data.{thread:02x}{round:06x}");
                    let body = pattern(thread, 10_000 + round);
                    must_put(store, &name, &body);
                    assert_holds(store, &name, &body);
                    if round % 2 == 0 {
                        block_on(store.delete(&name)).expect("what is there can be deleted");
                    }
                }
            });
        }
    });
    let listed = block_on(store.list()).expect("listing works");
    assert_eq!(listed.len(), usize::from(RACERS) * 10);
}
