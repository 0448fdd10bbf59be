//! A store that fails: uploads are repeated, nothing acknowledged is forgotten, nothing pretends.

use std::sync::Arc;

use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{ErrorKind, FlushTarget, Volume};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::world::{MIB, objects, open, read, replay, small, wait_for};

fn faulty(flush: FlushTarget) -> (Arc<MemoryStore>, Arc<Faulty>, Volume) {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(Faulty::new(memory.clone()));
    let mut options = small(64 * MIB);
    options.flush = flush;
    let volume = open(store.clone(), options);
    (memory, store, volume)
}

#[test]
fn failed_and_lost_answers_are_repeated_until_the_data_is_stored_once() {
    let (memory, store, volume) = faulty(FlushTarget::Store);
    store.fail_next(Verb::Put, 2, Fault::Refuse(StoreErrorKind::Unavailable));
    store.fail_next(Verb::Put, 1, Fault::LoseReply);
    store.fail_next(Verb::Get, 1, Fault::Refuse(StoreErrorKind::Unavailable));
    volume.write(0, &[1; 4096]).unwrap();
    // The retries may outlast this test's short patience; then a flush fails and the next waits.
    wait_for("a flush", || volume.flush().is_ok());
    assert_eq!(objects(&*memory).len(), 1);
    assert_eq!(replay(&*memory, 4096), [1; 4096]);
}

#[test]
fn after_the_patience_flushes_fail_and_reads_go_on_until_the_store_is_back() {
    for flush in [FlushTarget::Local, FlushTarget::Store] {
        let (memory, store, volume) = faulty(flush);
        store.fail_next(Verb::Put, u64::MAX, Fault::Refuse(StoreErrorKind::NoSpace));
        volume.write(0, &[1; 4096]).unwrap();
        let mut refused = None;
        wait_for("a flush that fails", || {
            refused = volume.flush().err();
            // A local flush promises nothing until the failure lasts.
            assert!(
                refused.is_some() || flush == FlushTarget::Local,
                "flushed to a store that refuses everything"
            );
            refused.is_some()
        });
        let error = refused.unwrap();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().contains("data.00000000"), "{error}");
        assert_eq!(
            volume.flush().unwrap_err().kind(),
            ErrorKind::NoSpace,
            "it is sticky"
        );
        assert_eq!(read(&volume, 0, 4096), [1; 4096]);
        store.mend();
        wait_for("the recovery", || volume.flush().is_ok());
        volume.close().unwrap();
        assert_eq!(replay(&*memory, 4096), [1; 4096]);
    }
}

#[test]
fn writes_wait_for_a_failing_store_and_then_fail_leaving_all_that_was_acknowledged() {
    let (memory, store, volume) = faulty(FlushTarget::Local);
    store.fail_next(
        Verb::Put,
        u64::MAX,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    let mut acknowledged = 0;
    let error = loop {
        match volume.write(acknowledged * MIB, &vec![7; 1 << 20]) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 20, "memory is not bounded");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let len = usize::try_from(acknowledged * MIB).unwrap();
    assert_eq!(read(&volume, 0, len), vec![7; len]);
    assert_eq!(
        read(&volume, acknowledged * MIB, 1 << 20),
        vec![0; 1 << 20],
        "the refused write"
    );
    assert!(
        volume.close().is_err(),
        "close tells that not all is stored"
    );
    store.mend();
    wait_for("the recovery", || volume.close().is_ok());
    assert_eq!(replay(&*memory, len as u64), vec![7; len]);
}

#[test]
fn an_object_of_somebody_else_under_our_name_is_reported_and_never_touched() {
    let (memory, _store, volume) = faulty(FlushTarget::Store);
    let theirs = ::bytes::Bytes::from_static(b"not ours");
    pollster::block_on(memory.put("data.00000000", vec![theirs.clone()])).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    let error = volume.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("another writer"), "{error}");
    assert_eq!(read(&volume, 0, 512), [1; 512]);
    assert_eq!(
        pollster::block_on(memory.get("data.00000000")).unwrap(),
        theirs
    );
}

#[test]
fn a_read_that_fails_fails_alone() {
    let (memory, store, volume) = faulty(FlushTarget::Store);
    volume.write(0, &[1; 4096]).unwrap();
    volume.flush().unwrap();
    assert_eq!(objects(&*memory).len(), 1);
    store.fail_next(Verb::Get, 2, Fault::Refuse(StoreErrorKind::Unavailable));
    let failed = (0..4)
        .filter(|_| volume.read(0, &mut [0; 4096]).is_err())
        .count();
    assert!(failed >= 1, "the fault reached the reader");
    assert_eq!(read(&volume, 0, 4096), [1; 4096]);
    store.fail_next(Verb::Get, 1, Fault::FlipBit(77));
    let damaged = volume.read(0, &mut [0; 4096]).unwrap_err();
    assert_eq!(damaged.kind(), ErrorKind::Damaged);
    store.fail_next(Verb::Get, 1, Fault::Truncate(100));
    assert_eq!(
        volume.read(0, &mut [0; 4096]).unwrap_err().kind(),
        ErrorKind::Damaged
    );
    volume.write(4096, &[2; 512]).unwrap();
    volume.flush().unwrap();
    assert_eq!(read(&volume, 0, 4096), [1; 4096]);
}
