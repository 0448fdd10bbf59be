//! Removing volumes: who is refused, who is fenced, what stays, and what a crash half way leaves.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use lsvd::words::name::{ObjectId, ObjectKind, ObjectName};
use lsvd::{CreateOptions, ErrorKind, RemoveOptions, Removed, Volume};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::open_stored;
use crate::world::{MIB, read, runtime, wait_for};

fn create(store: &Arc<MemoryStore>) {
    let options = CreateOptions {
        object_size: MIB,
        ..CreateOptions::new(16 * MIB)
    };
    Volume::create(store.clone(), runtime(), options).unwrap();
}

fn open(store: &Arc<MemoryStore>, take_over: bool) -> lsvd::Result<Volume> {
    open_stored(store.clone(), take_over)
}

fn remove(store: Arc<dyn ObjectStore>, take_over: bool) -> lsvd::Result<Removed> {
    let options = RemoveOptions {
        machine: "another machine".to_owned(),
        take_over,
    };
    Volume::remove(store, runtime(), options)
}

fn names(store: &MemoryStore) -> Vec<String> {
    let listed = pollster::block_on(store.list()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

/// A volume that was opened twice, with data of both times; superblocks 0 to 4.
fn worn() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    for round in 0..2 {
        let volume = open(&store, true).unwrap();
        volume.write(round * MIB, &[7; 4096]).unwrap();
        volume.flush().unwrap();
    }
    store
}

#[test]
fn all_goes_but_the_superblocks() {
    let store = worn();
    let put = |name: &str| pollster::block_on(store.put(name, Vec::new())).unwrap();
    put(&format!("probe.{:032x}", 7));
    // These are no objects of ours.
    put("probe.of-mine");
    put("letter");
    let removed = remove(store.clone(), true).unwrap();
    // The last one is the tombstone.
    let expected = [
        "letter",
        "probe.of-mine",
        "superblock.00000000",
        "superblock.00000001",
        "superblock.00000002",
        "superblock.00000003",
        "superblock.00000004",
        "superblock.00000005",
    ];
    assert_eq!(names(&store), expected);
    assert_eq!(removed.objects, 3, "two of data, and the probe");
    assert_eq!(open(&store, true).unwrap_err().kind(), ErrorKind::NotFound);
    let again = remove(store, true).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound, "{again}");
}

/// An opener that was stalled just before its claim, while the volume was written, closed and removed,
/// has no number to claim left, or it would serve a volume that is not there.
#[test]
fn an_opener_that_was_stalled_over_a_removal_is_refused() {
    let memory = Arc::new(MemoryStore::new());
    create(&memory);
    let writer = open(&memory, true).unwrap();
    let slow = Arc::new(Faulty::new(memory.clone()));
    slow.fail_next_of("superblock.00000003", Verb::Put, 1, Fault::Hang);
    let opener = std::thread::spawn({
        let slow = slow.clone();
        move || open_stored(slow, true)
    });
    wait_for("the stall", || slow.hanging() > 0);
    for n in 0..5 {
        writer.write(n * 512, &[1; 512]).unwrap();
        writer.checkpoint().unwrap();
    }
    writer.close().unwrap();
    remove(memory.clone(), false).unwrap();
    slow.release();
    let refused = opener.join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert_eq!(open(&memory, true).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_volume_that_somebody_writes_is_not_removed_without_take_over() {
    let store = worn();
    let volume = open(&store, true).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    volume.flush().unwrap();
    let before = names(&store);
    let refused = remove(store.clone(), false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    assert!(refused.to_string().contains("this machine"), "{refused}");
    assert_eq!(names(&store), before, "a refusal changed something");

    remove(store.clone(), true).unwrap();
    volume.write(512, &[2; 512]).unwrap();
    let fenced = volume.flush().unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
}

#[test]
fn a_new_volume_counts_on_from_the_tombstone() {
    let store = worn();
    let old = open(&store, true).unwrap();
    remove(store.clone(), true).unwrap();
    create(&store);
    let volume = open(&store, false).unwrap();
    assert_ne!(volume.uuid(), old.uuid());
    assert_eq!(
        read(&volume, 0, 4096),
        [0; 4096],
        "it shows the old one's data"
    );
    volume.write(0, &[3; 4096]).unwrap();
    volume.flush().unwrap();
    let data: Vec<ObjectId> = names(&store)
        .iter()
        .filter_map(|name| ObjectName::parse(name))
        .filter(|name| name.kind == ObjectKind::Data)
        .map(|name| name.id)
        .collect();
    // Epochs 0 to 2 were written in, 3 is the tombstone's.
    assert_eq!(data.len(), 1);
    assert_eq!(data[0].epoch().0, 4);
    // The writer of the old one is as fenced as before.
    old.write(0, &[4; 512]).unwrap();
    assert_eq!(old.flush().unwrap_err().kind(), ErrorKind::Fenced);
    volume.flush().unwrap();
    assert_eq!(read(&volume, 0, 512), [3; 512]);
}

#[test]
fn a_removal_that_was_cut_short_goes_on() {
    let memory = worn();
    let store = Arc::new(Faulty::new(memory.clone()));
    store.fail_next(
        Verb::Delete,
        1000,
        Fault::Refuse(StoreErrorKind::Unavailable),
    );
    let failed = remove(store, true).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
    assert!(failed.to_string().contains("once more"), "{failed}");
    let data = |store: &MemoryStore| {
        let names = names(store);
        names
            .iter()
            .filter(|name| name.starts_with("data."))
            .count()
    };
    assert_eq!(data(&memory), 2);
    assert_eq!(open(&memory, true).unwrap_err().kind(), ErrorKind::NotFound);
    // No second tombstone, and nothing to take over any more.
    let removed = remove(memory.clone(), false).unwrap();
    assert_eq!(removed.objects, 2);
    assert_eq!(data(&memory), 0);
    assert!(!names(&memory).contains(&"superblock.00000006".to_owned()));
}

/// A store in which somebody makes a new volume and writes to it just before the second list is
/// answered: between the tombstone and the look at what is to go.
#[derive(Debug)]
struct Interrupted {
    inner: Arc<MemoryStore>,
    lists: AtomicU32,
}

impl ObjectStore for Interrupted {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.put(name, body)
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get(name)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get_range(name, range)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        if self.lists.fetch_add(1, Ordering::SeqCst) == 1 {
            create(&self.inner);
            let volume = open(&self.inner, false).unwrap();
            volume.write(0, &[5; 512]).unwrap();
            volume.flush().unwrap();
        }
        self.inner.list()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[test]
fn a_removal_never_touches_the_next_volume() {
    let inner = worn();
    let store = Arc::new(Interrupted {
        inner: inner.clone(),
        lists: AtomicU32::new(0),
    });
    let removed = remove(store, true).unwrap();
    assert_eq!(removed.objects, 2);
    let volume = open(&inner, true).unwrap();
    assert_eq!(read(&volume, 0, 512), [5; 512]);
}

#[test]
fn a_lost_reply_to_the_tombstone_is_found_out() {
    let memory = worn();
    let store = Arc::new(Faulty::new(memory.clone()));
    store.fail_next_of("superblock.00000005", Verb::Put, 1, Fault::LoseReply);
    remove(store, true).unwrap();
    assert_eq!(open(&memory, true).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn where_nothing_is_there_is_nothing_to_remove() {
    let store = Arc::new(MemoryStore::new());
    let error = remove(store.clone(), true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(names(&store), Vec::<String>::new());
}
