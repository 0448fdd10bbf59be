//! Checkpoints of volumes that last: what is opened from them, and what the tests of them share.

mod beside_writers;
mod crash;
mod damaged;
mod due;
mod kept;
mod stalled;

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsvd::bytes::checkpoint::Checkpoint;
use lsvd::bytes::superblock::{Change, Superblock};
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::ObjectStore;
use lsvd::words::limits::STORE_PATIENCE;
use lsvd::words::name::{ObjectKind, ObjectName};
use lsvd::{CheckpointOptions, CreateOptions, ErrorKind, OpenOptions, Volume};
use lsvd_store::{Bandwidth, MemoryStore, Verb};

use crate::host::open_fresh;
use crate::mortal::{Death, Mortal};
use crate::world::{Hasty, MIB, read, runtime};

const SIZE: u64 = 16 * MIB;

const OBJECT: usize = 16 << 10;

fn created() -> Arc<MemoryStore> {
    created_of(SIZE)
}

fn created_of(size: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let options = CreateOptions {
        object_size: OBJECT as u64,
        ..CreateOptions::new(size)
    };
    Volume::create(store.clone(), runtime(), options).unwrap();
    store
}

fn try_open(store: Arc<dyn ObjectStore>, objects: u32) -> lsvd::Result<Volume> {
    open_with(
        store,
        CheckpointOptions {
            objects,
            ..CheckpointOptions::default()
        },
    )
}

fn open_with(store: Arc<dyn ObjectStore>, checkpoint: CheckpointOptions) -> lsvd::Result<Volume> {
    let options = OpenOptions {
        take_over: true,
        retry_timeout: Duration::from_secs(10),
        checkpoint,
        ..OpenOptions::new("this machine")
    };
    open_fresh(store, Arc::new(Hasty(runtime())), options)
}

fn open(store: &Arc<MemoryStore>) -> Volume {
    try_open(store.clone(), u32::MAX).unwrap()
}

/// Writes one object's worth.
fn write(volume: &Volume, model: &mut [u8], at: usize, byte: u8) {
    volume.write(at as u64, &vec![byte; OBJECT]).unwrap();
    model[at..at + OBJECT].fill(byte);
}

fn model() -> Vec<u8> {
    vec![0; usize::try_from(SIZE).unwrap()]
}

#[track_caller]
fn assert_disk(volume: &Volume, model: &[u8]) {
    assert!(read(volume, 0, model.len()) == model, "the disk differs");
}

fn names(store: &MemoryStore, kind: ObjectKind) -> Vec<ObjectName> {
    let listed = pollster::block_on(store.list()).unwrap();
    let names = listed
        .iter()
        .filter_map(|object| ObjectName::parse(&object.name));
    let mut names: Vec<_> = names.filter(|name| name.kind == kind).collect();
    names.sort_by_key(|name| name.id);
    names
}

fn superblock(store: &MemoryStore) -> Superblock {
    let newest = *names(store, ObjectKind::Superblock).last().unwrap();
    let bytes = pollster::block_on(store.get(&newest.to_string())).unwrap();
    Superblock::decode(&bytes, newest.id.as_u64()).unwrap()
}

fn root(store: &MemoryStore, index: usize) -> Checkpoint {
    let superblock = superblock(store);
    let kept = superblock.state.checkpoints[index];
    let name = Checkpoint::name_of(kept.object).to_string();
    let bytes = pollster::block_on(store.get(&name)).unwrap();
    Checkpoint::decode_object(&bytes, superblock.volume, kept.object).unwrap()
}

fn replace(store: &MemoryStore, name: &str, bytes: Vec<u8>) {
    pollster::block_on(store.delete(name)).unwrap();
    pollster::block_on(store.put(name, vec![Bytes::from(bytes)])).unwrap();
}

fn flip(store: &MemoryStore, name: &str, bit: usize) {
    let mut bytes = pollster::block_on(store.get(name)).unwrap().to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    replace(store, name, bytes);
}

/// The checkpoint objects that those which the superblock names need.
fn needed(store: &MemoryStore) -> BTreeSet<u64> {
    let kept = superblock(store).state.checkpoints.len();
    let roots = (0..kept).map(|index| root(store, index));
    roots
        .flat_map(|root| root.references().into_iter().chain([root.id]))
        .map(|id| id.as_u64())
        .collect()
}

fn present(store: &MemoryStore) -> BTreeSet<u64> {
    let names = names(store, ObjectKind::Checkpoint);
    names.iter().map(|name| name.id.as_u64()).collect()
}

#[test]
fn a_volume_opens_from_its_checkpoint_and_what_came_behind() {
    let store = created();
    let mut model = model();
    for round in 0..4_u8 {
        let volume = open(&store);
        assert_disk(&volume, &model);
        for n in 0..5 {
            let at = usize::from(n + round * 3) * OBJECT * 7;
            write(&volume, &mut model, at, 10 * round + n + 1);
        }
        volume.checkpoint().unwrap();
        write(&volume, &mut model, 3 * OBJECT, 100 + round);
        volume.discard(0, OBJECT as u64).unwrap();
        model[..OBJECT].fill(0);
        volume.flush().unwrap();
    }
    assert_disk(&open(&store), &model);
    assert_eq!(superblock(&store).state.checkpoints.len(), 2);
}

/// Once two are kept, what is before the older one's cut is not looked at any more.
#[test]
fn an_opening_walks_the_stream_from_the_older_checkpoint_only() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..20_u8 {
        write(&volume, &mut model, usize::from(n) * OBJECT, n + 1);
        if n == 9 || n == 14 {
            volume.checkpoint().unwrap();
        }
    }
    volume.flush().unwrap();
    drop(volume);
    let older = superblock(&store).state.checkpoints[0].cut;
    let watched = Arc::new(Mortal::new(store, Death::Never));
    let volume = try_open(watched.clone(), u32::MAX).unwrap();
    let asked = watched.asked();
    let looked_at: BTreeSet<u64> = asked
        .iter()
        .filter(|(verb, _)| *verb == Verb::Get)
        .filter_map(|(_, name)| ObjectName::parse(name))
        .filter(|name| name.kind == ObjectKind::Data)
        .map(|name| name.id.as_u64())
        .collect();
    assert_eq!(looked_at.first().copied(), Some(older.as_u64() + 1));
    assert!(looked_at.contains(&19));
    assert_disk(&volume, &model);
}

#[test]
fn an_orderly_close_leaves_nothing_to_roll_forward() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..10_u8 {
        write(&volume, &mut model, usize::from(n) * OBJECT, n + 1);
    }
    volume.close().unwrap();
    let newest = superblock(&store);
    assert_eq!(newest.state.change, Change::Close);
    assert_eq!(newest.state.checkpoints[0].cut.sequence(), 9);
    assert_disk(&open(&store), &model);
}

#[test]
fn an_ephemeral_or_closed_volume_makes_no_checkpoint() {
    let store = Arc::new(MemoryStore::new());
    let volume = crate::world::open(store, crate::world::small(MIB));
    let refused = volume.checkpoint().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let store = created();
    let volume = open(&store);
    volume.close().unwrap();
    assert_eq!(volume.checkpoint().unwrap_err().kind(), ErrorKind::Closed);
}

/// As many bytes a second as make the checkpoint take longer than a request is given at first. It was
/// stored so, and nobody would open the volume any more.
#[test]
fn a_checkpoint_that_is_slow_to_read_is_loaded() {
    let store = created();
    let volume = open(&store);
    for n in 0..30_000_u64 {
        let sector = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (SIZE / 512);
        volume.write(sector * 512, &[1; 512]).unwrap();
    }
    volume.close().unwrap();
    drop(volume);
    let len = root(&store, 0).object_len();
    let hasty: Arc<dyn Runtime> = Arc::new(Hasty(runtime()));
    let seconds = STORE_PATIENCE.as_secs() * 5 / 4;
    let bytes_per_second = NonZeroU64::new(len / seconds).unwrap();
    let slow = Bandwidth::new(store, hasty, bytes_per_second);
    let volume = try_open(Arc::new(slow), u32::MAX).unwrap();
    drop(volume);
}
