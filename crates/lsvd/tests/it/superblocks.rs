//! Superblocks that cannot be read: of a later version, and of a length that none has. Those that the
//! store refuses.

use std::sync::Arc;

use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{Error, ErrorKind};
use lsvd_store::{Counting, Fault, Faulty, MemoryStore, Verb};

use crate::host::{create, open_stored};
use crate::world::read;

/// What opening says of a volume whose superblock was changed so, and bytes that were read for it.
fn refusal(change: impl Fn(&mut Vec<u8>)) -> (Error, u64) {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let name = "superblock.00000000";
    pollster::block_on(async {
        let mut bytes = store.get(name).await.unwrap().to_vec();
        store.delete(name).await.unwrap();
        change(&mut bytes);
        store.put(name, vec![bytes.into()]).await.unwrap();
    });
    let counting = Arc::new(Counting::new(store));
    let error = open_stored(counting.clone(), true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains(name), "{error}");
    (error, counting.counts().get.bytes)
}

#[test]
fn one_of_a_later_version_is_not_called_damaged() {
    let (error, _) = refusal(|bytes| bytes[8] = 2);
    let message = error.to_string();
    assert!(message.contains("of format version 2"), "{message}");
    assert!(!message.contains("does not check"), "{message}");
}

#[test]
fn one_that_is_longer_than_any_is_not_read() {
    let (error, bytes) = refusal(|bytes| {
        bytes[12..16].copy_from_slice(&(2_u32 << 20).to_le_bytes());
        bytes.resize(2 << 20, b' ');
    });
    assert!(error.to_string().contains("does not check"), "{error}");
    assert!(bytes < 4096, "{bytes} bytes were read");
}

#[test]
fn one_that_is_cut_short_is_refused() {
    for len in [0, 50, 112, 200] {
        let (error, _) = refusal(|bytes| bytes.truncate(len));
        assert!(error.to_string().contains("does not check"), "{error}");
    }
}

/// A store may answer a creation with anything. As long as nobody's superblock is there, nobody took
/// over.
#[test]
fn one_that_is_refused_and_not_there_fences_nobody() {
    for kind in [
        StoreErrorKind::NotFound,
        StoreErrorKind::AlreadyExists,
        StoreErrorKind::Truncated,
        StoreErrorKind::Permission,
        StoreErrorKind::NoSpace,
        StoreErrorKind::TooSlow,
        StoreErrorKind::Unavailable,
    ] {
        let memory = Arc::new(MemoryStore::new());
        create(&memory);
        let store = Arc::new(Faulty::new(memory));
        let refuse = || store.fail_next_of("superblock.", Verb::Put, 1, Fault::Refuse(kind));
        refuse();
        let error = open_stored(store.clone(), true).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Damaged, "{kind:?}: {error}");
        let volume = open_stored(store.clone(), true).unwrap();
        volume.write(0, &[1; 512]).unwrap();
        refuse();
        volume
            .checkpoint()
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(!volume.status().fenced, "{kind:?}");
        assert_eq!(read(&volume, 0, 512), [1; 512]);
        volume.close().unwrap();
    }
}
