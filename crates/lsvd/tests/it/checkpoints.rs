//! Checkpoints of volumes that last: what is opened from them, what they may name, what is kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsvd::bytes::checkpoint::{Checkpoint, Form};
use lsvd::bytes::superblock::{Change, Superblock};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::words::name::{Epoch, ObjectId, ObjectKind, ObjectName};
use lsvd::{CheckpointOptions, CreateOptions, Error, ErrorKind, OpenOptions, Volume};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::open_fresh;
use crate::mortal::{Death, Mortal};
use crate::world::{Hasty, MIB, read, runtime, wait_for};

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
fn without_anything_new_there_is_no_new_checkpoint() {
    let store = created();
    let volume = open(&store);
    volume.checkpoint().unwrap();
    assert_eq!(present(&store).len(), 0, "there is nothing to keep");
    volume.write(0, &[1; 512]).unwrap();
    volume.checkpoint().unwrap();
    let superblocks = names(&store, ObjectKind::Superblock).len();
    volume.checkpoint().unwrap();
    assert_eq!(names(&store, ObjectKind::Superblock).len(), superblocks);
    volume.close().unwrap();
    assert_eq!(present(&store).len(), 1);
    let again = open(&store);
    again.checkpoint().unwrap();
    assert_eq!(present(&store).len(), 1, "nothing was written since");
    assert_eq!(again.checkpoint().map_err(|error| error.kind()), Ok(()));
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

/// "More than 2,000 objects to roll forward" makes a checkpoint due, and nobody asks for it.
#[test]
fn many_small_objects_make_a_checkpoint_by_themselves() {
    let store = created();
    let mut model = model();
    let options = OpenOptions::new("this machine");
    let volume = open_fresh(store.clone(), runtime(), options).unwrap();
    for n in 0..2_100_usize {
        let at = n % 1000 * OBJECT;
        write(&volume, &mut model, at, u8::try_from(n % 251).unwrap());
    }
    volume.flush().unwrap();
    wait_for("a checkpoint", || {
        !superblock(&store).state.checkpoints.is_empty()
    });
    drop(volume);
    let cut = superblock(&store).state.checkpoints[0].cut;
    assert!((1_000..2_000).contains(&cut.sequence()), "{cut:?}");
    assert_disk(&open(&store), &model);
}

#[test]
fn little_data_is_not_worth_a_checkpoint() {
    let store = created();
    let mut model = model();
    let volume = try_open(store.clone(), 300).unwrap();
    for n in 0..250_usize {
        write(&volume, &mut model, n * OBJECT, 1);
    }
    volume.flush().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(present(&store).len(), 0);
}

/// The new one and the one before; the objects of others go, and only those.
#[test]
fn two_checkpoints_stay_and_what_neither_needs_goes() {
    let store = created();
    let mut model = model();
    let mut before: Vec<u64> = Vec::new();
    for opening in 0..3_u8 {
        let volume = open(&store);
        for round in 0..6_u8 {
            let at = (usize::from(round) * 37 + usize::from(opening)) * OBJECT;
            write(&volume, &mut model, at, round + 1);
            volume.checkpoint().unwrap();
            let superblock = superblock(&store);
            let kept = &superblock.state.checkpoints;
            assert_eq!(kept.len(), if before.is_empty() { 1 } else { 2 });
            if let Some(before) = before.last() {
                assert_eq!(kept[0].object.as_u64(), *before, "the one before is kept");
            }
            before.push(kept.last().unwrap().object.as_u64());
            wait_for("what is not needed to go", || {
                present(&store) == needed(&store)
            });
        }
        drop(volume);
    }
    assert_disk(&open(&store), &model);
}

#[test]
fn what_cannot_be_removed_is_removed_later() {
    let memory = created();
    let store = Arc::new(Faulty::new(memory.clone()));
    let mut model = model();
    let volume = try_open(store.clone(), u32::MAX).unwrap();
    let refuse = Fault::Refuse(StoreErrorKind::Permission);
    store.fail_next(Verb::Delete, u64::MAX, refuse);
    for round in 0..5_u8 {
        write(&volume, &mut model, 0, round + 1);
        volume.checkpoint().unwrap();
    }
    assert_eq!(present(&memory).len(), 5);
    store.mend();
    write(&volume, &mut model, 0, 77);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    // The same where another opening has to find them.
    store.fail_next(Verb::Delete, u64::MAX, refuse);
    for round in 0..3_u8 {
        write(&volume, &mut model, 0, round + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    assert_ne!(present(&memory), needed(&memory));
    let volume = open(&memory);
    write(&volume, &mut model, 0, 99);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    assert_disk(&volume, &model);
}

/// "Unchanged regions by reference, at most 16 older objects referenced."
#[test]
fn unchanged_regions_are_named_again_from_few_older_objects() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    // Four regions; many extents in the first three, one in the last.
    let region = 4 * MIB;
    for n in 0..3000_u64 {
        let at = n * 4096;
        volume.write(at, &[7; 512]).unwrap();
        let at = usize::try_from(at).unwrap();
        model[at..at + 512].fill(7);
    }
    volume.checkpoint().unwrap();
    let full = root(&store, 0);
    assert!(full.references().is_empty());
    let mut most = 0;
    for round in 0..40_u8 {
        let at = usize::try_from(region * 3).unwrap() + usize::from(round) * OBJECT;
        write(&volume, &mut model, at, round + 1);
        volume.checkpoint().unwrap();
        let newest = root(&store, 1);
        assert!(
            newest.payload_len < full.payload_len / 4,
            "all was written again"
        );
        most = most.max(newest.references().len());
        wait_for("the removal", || present(&store) == needed(&store));
    }
    assert!((1..=16).contains(&most), "{most}");
    drop(volume);
    assert_disk(&open(&store), &model);
}

/// Every bit of the newest root, and of a part that it names: the older one serves, and nothing is
/// removed then.
#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..6_u8 {
        write(&volume, &mut model, usize::from(n) * 17 * OBJECT, n + 1);
        if n > 2 {
            volume.checkpoint().unwrap();
        }
    }
    write(&volume, &mut model, 3 * OBJECT, 200);
    volume.flush().unwrap();
    drop(volume);
    let newest = superblock(&store).state.checkpoints[1].object;
    let name = Checkpoint::name_of(newest).to_string();
    let before = present(&store);
    let bits = root(&store, 1).object_len() * 8;
    // The version field aside: a later version is not for this program to pass over.
    let bits = (0..usize::try_from(bits).unwrap()).filter(|bit| !(64..80).contains(bit));
    for bit in bits.step_by(97) {
        flip(&store, &name, bit);
        let volume = open(&store);
        assert_disk(&volume, &model);
        drop(volume);
        flip(&store, &name, bit);
    }
    let whole = pollster::block_on(store.get(&name)).unwrap();
    for len in [0, 100, whole.len() / 2, whole.len() - 1] {
        replace(&store, &name, whole[..len].to_vec());
        assert_disk(&open(&store), &model);
    }
    // The next checkpoint takes the damaged one's place among the two; nothing goes yet.
    let good = superblock(&store).state.checkpoints[0];
    let volume = open(&store);
    write(&volume, &mut model, 0, 201);
    volume.checkpoint().unwrap();
    let kept = superblock(&store).state.checkpoints;
    assert_eq!((kept.len(), kept[0]), (2, good));
    assert!(before.is_subset(&present(&store)), "something was removed");
    drop(volume);
    let volume = open(&store);
    assert_disk(&volume, &model);
    write(&volume, &mut model, 0, 202);
    volume.checkpoint().unwrap();
    wait_for("the removal", || present(&store) == needed(&store));
}

#[test]
fn a_first_checkpoint_that_is_damaged_is_replaced_by_the_whole_stream() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..6_u8 {
        write(&volume, &mut model, usize::from(n) * 17 * OBJECT, n + 1);
    }
    volume.checkpoint().unwrap();
    write(&volume, &mut model, 0, 9);
    volume.flush().unwrap();
    drop(volume);
    let name = names(&store, ObjectKind::Checkpoint)[0].to_string();
    flip(&store, &name, 900);
    assert_disk(&open(&store), &model);
}

#[test]
fn two_damaged_checkpoints_and_a_missing_one_stop_the_opening() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..3_u8 {
        write(&volume, &mut model, 0, n + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    let names: Vec<String> = superblock(&store)
        .state
        .checkpoints
        .iter()
        .map(|kept| Checkpoint::name_of(kept.object).to_string())
        .collect();
    let check = |error: Error, name: &str| {
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains(name), "{error}");
    };
    names.iter().for_each(|name| flip(&store, name, 1000));
    check(try_open(store.clone(), 9).unwrap_err(), "ckpt.");
    names.iter().for_each(|name| flip(&store, name, 1000));
    let newest = pollster::block_on(store.get(&names[1])).unwrap();
    pollster::block_on(store.delete(&names[1])).unwrap();
    check(try_open(store.clone(), 9).unwrap_err(), &names[1]);
    pollster::block_on(store.put(&names[1], vec![newest])).unwrap();
    assert_disk(&open(&store), &model);
}

/// Falling back happens only on a checksum failure.
#[test]
fn a_checkpoint_that_cannot_be_read_now_stops_the_opening() {
    let memory = created();
    let mut model = model();
    let volume = open(&memory);
    for n in 0..2_u8 {
        write(&volume, &mut model, 0, n + 1);
        volume.checkpoint().unwrap();
    }
    drop(volume);
    let newest = Checkpoint::name_of(superblock(&memory).state.checkpoints[1].object).to_string();
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Permission] {
        let store = Arc::new(Faulty::new(memory.clone()));
        store.fail_next_of(&newest, Verb::Get, 1, Fault::Refuse(kind));
        let error = try_open(store, 9).unwrap_err();
        assert_eq!(error.kind(), kind.for_user(), "{error}");
        assert!(error.to_string().contains(&newest), "{error}");
    }
    assert_disk(&open(&memory), &model);
}

/// Its parts and root were stored, the superblock was not: it does not count, and goes.
#[test]
fn a_checkpoint_that_no_superblock_names_does_not_count() {
    let memory = created();
    let mut model = model();
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = try_open(store.clone(), u32::MAX).unwrap();
    write(&volume, &mut model, 0, 1);
    volume.checkpoint().unwrap();
    let next = superblock(&memory).number + 1;
    let next = Superblock::name_of(next).to_string();
    let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
    store.fail_next_of(&next, Verb::Put, u64::MAX, refuse);
    write(&volume, &mut model, OBJECT, 2);
    let error = volume.checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    write(&volume, &mut model, 2 * OBJECT, 3);
    volume.flush().unwrap();
    assert_eq!(present(&memory).len(), 2);
    let second = open(&memory);
    assert_disk(&second, &model);
    drop(volume);
    write(&second, &mut model, 3 * OBJECT, 4);
    second.checkpoint().unwrap();
    wait_for("the removal", || present(&memory) == needed(&memory));
    drop(second);
    assert_disk(&open(&memory), &model);
}

/// A checkpoint is not valid before all that it names is persisted.
#[test]
fn a_checkpoint_waits_for_all_objects_before_its_cut() {
    let memory = created();
    let mut model = model();
    let store = Arc::new(Faulty::new(memory.clone()));
    let volume = try_open(store.clone(), u32::MAX).unwrap();
    write(&volume, &mut model, 0, 1);
    volume.flush().unwrap();
    store.fail_next_of("data.10000000001", Verb::Put, 0, Fault::Hang);
    let hung = names(&memory, ObjectKind::Data)[0].id.next().unwrap();
    store.fail_next_of(
        &ObjectName::data(hung).to_string(),
        Verb::Put,
        1,
        Fault::Hang,
    );
    write(&volume, &mut model, OBJECT, 2);
    write(&volume, &mut model, 2 * OBJECT, 3);
    let asking = {
        let volume = volume.clone();
        std::thread::spawn(move || volume.checkpoint())
    };
    wait_for("the upload that hangs", || store.hanging() == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(superblock(&memory).state.checkpoints.is_empty());
    store.release();
    asking.join().unwrap().unwrap();
    let cut = superblock(&memory).state.checkpoints[0].cut;
    assert!(cut >= hung);
    drop(volume);
    assert_disk(&open(&memory), &model);
}

#[test]
fn a_fenced_writer_names_no_checkpoint_and_removes_nothing() {
    let store = created();
    let mut model = model();
    let first = open(&store);
    for n in 0..3_u8 {
        write(&first, &mut model, 0, n + 1);
        first.checkpoint().unwrap();
    }
    let second = open(&store);
    let before = superblock(&store);
    let there = present(&store);
    // It may still write what nobody will ever look at.
    let _ = first.write(0, &[99; 512]);
    let error = first.checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(superblock(&store), before);
    assert!(there.is_subset(&present(&store)));
    write(&second, &mut model, OBJECT, 50);
    second.checkpoint().unwrap();
    drop((first, second));
    assert_disk(&open(&store), &model);
}

/// Writers, and discards of everything, go on while one checkpoint after the other is made; each is
/// opened at its cut by a copy of the store that has nothing behind it.
#[test]
fn checkpoints_beside_writers_are_a_state_of_the_stream() {
    let store = created();
    let volume = try_open(store.clone(), 3).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let volume = volume.clone();
            scope.spawn(move || {
                for n in 0..400_u64 {
                    let at = (n * 7919 + thread * 104_729) % (SIZE / 512 - 64) * 512;
                    let byte = u8::try_from((n * 3 + thread) % 255).unwrap() + 1;
                    if n % 97 == 96 {
                        volume.discard(0, SIZE).unwrap();
                    } else {
                        volume.write(at, &vec![byte; 512 * 40]).unwrap();
                    }
                }
            });
        }
    });
    volume.flush().unwrap();
    wait_for("two checkpoints", || {
        superblock(&store).state.checkpoints.len() == 2
    });
    let state = read(&volume, 0, usize::try_from(SIZE).unwrap());
    drop(volume);
    assert_disk(&open(&store), &state);
    // The same from the very beginning: the checkpoints hold what the objects say.
    assert!(crate::world::replay_stream(&*store, SIZE) == state);
}

/// So few bytes that every checkpoint has parts, and writers wait for it all the time.
const TIGHT: CheckpointOptions = CheckpointOptions {
    objects: 9,
    copied_bytes: 300,
    part_bytes: 4 << 10,
};

#[test]
fn settings_out_of_range_are_refused() {
    let store = created();
    for (objects, part_bytes) in [(0, 4 << 10), (1, 4095), (1, (64 << 20) + 1)] {
        let options = CheckpointOptions {
            objects,
            part_bytes,
            ..TIGHT
        };
        let refused = open_with(store.clone(), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

/// A volume that has room for so many extents that a walk of it is in several steps.
const LARGE: u64 = 64 * MIB;

/// Random sectors of the whole volume, so that every region has many extents.
fn scatter(volume: &Volume, writes: u64, seed: u64) {
    for n in 0..writes {
        let sector = (n * 7919 + seed * 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (LARGE / 512);
        let byte = u8::try_from((n + seed) % 255).unwrap() + 1;
        volume.write(sector * 512, &[byte; 512]).unwrap();
    }
}

/// Parts are stored as soon as they are full, and the root names them.
#[test]
fn a_checkpoint_larger_than_a_part_is_in_parts() {
    let store = created_of(LARGE);
    let options = CheckpointOptions {
        objects: u32::MAX,
        ..TIGHT
    };
    let volume = open_with(store.clone(), options).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let volume = &volume;
            scope.spawn(move || scatter(volume, 30_000, seed));
        }
    });
    volume.checkpoint().unwrap();
    let newest = root(&store, 0);
    assert!(newest.references().len() > 2, "{:?}", newest.references());
    for part in newest.references() {
        let name = Checkpoint::name_of(part).to_string();
        let bytes = pollster::block_on(store.get(&name)).unwrap();
        let part = Checkpoint::decode_object(&bytes, newest.volume, part).unwrap();
        assert_eq!(part.form, Form::Part);
    }
    wait_for("the removal", || present(&store) == needed(&store));
    let state = read(&volume, 0, usize::try_from(LARGE).unwrap());
    drop(volume);
    // A damaged part is as a damaged root.
    let part = Checkpoint::name_of(newest.references()[1]).to_string();
    let volume = open(&store);
    assert_disk(&volume, &state);
    drop(volume);
    flip(&store, &part, 8 * 1000);
    assert_disk(&open(&store), &state);
    assert!(crate::world::replay_stream(&*store, LARGE) == state);
}

/// Writers that wait for a checkpoint do not wait for ever for the store: it is given up then.
#[test]
fn a_checkpoint_that_the_store_does_not_take_is_given_up_when_writers_wait() {
    let memory = created_of(LARGE);
    let store = Arc::new(Faulty::new(memory.clone()));
    let options = OpenOptions {
        checkpoint: CheckpointOptions {
            objects: u32::MAX,
            ..TIGHT
        },
        ..OpenOptions::new("this machine")
    };
    // Not hastily: a store that does not answer has longer than writers who wait.
    let volume = open_fresh(store.clone(), runtime(), options).unwrap();
    scatter(&volume, 90_000, 0);
    volume.flush().unwrap();
    let epoch = superblock(&memory).state.epochs.last().unwrap().epoch;
    for sequence in 0..2_u64 {
        let id = ObjectId::new(Epoch(epoch), sequence).unwrap();
        let name = Checkpoint::name_of(id).to_string();
        store.fail_next_of(&name, Verb::Put, 1, Fault::Hang);
    }
    let asking = {
        let volume = volume.clone();
        std::thread::spawn(move || volume.checkpoint())
    };
    wait_for("a part that hangs", || store.hanging() > 0);
    scatter(&volume, 500, 9);
    let given_up = asking.join().unwrap().unwrap_err();
    assert!(given_up.to_string().contains("given up"), "{given_up}");
    wait_for("the next attempt", || volume.checkpoint().is_ok());
    let state = read(&volume, 0, usize::try_from(LARGE).unwrap());
    drop(volume);
    assert_disk(&open(&memory), &state);
}

/// Every request of a run in which checkpoints are made, replaced and removed is the last that gets
/// through, carried out or not: what was flushed is there, and the next opening can go on, twice.
#[test]
fn a_crash_at_any_request_leaves_a_volume_that_opens() {
    let count = {
        let store = Arc::new(Mortal::new(created(), Death::Never));
        let mut model = model();
        script(store.clone(), &mut model).unwrap();
        store.asked().len()
    };
    assert!(count > 90, "{count}");
    for number in 0..count {
        for death in [Death::Before(number), Death::After(number)] {
            let memory = created();
            let mortal = Arc::new(Mortal::new(memory.clone(), death));
            let mut model = model();
            let outcome = script(mortal, &mut model);
            check_after_crash(&memory, &mut model, outcome, death);
        }
    }
}

/// The last operation of a script, where it failed: it may be there, or not.
type Failed = (usize, u8);

/// Writes, flushes and checkpoints, in two openings; `model` is what was flushed.
fn script(store: Arc<dyn ObjectStore>, model: &mut [u8]) -> Result<(), Option<Failed>> {
    drop(session(&store, model, 0..6)?);
    let volume = session(&store, model, 6..11)?;
    volume.close().map_err(|_| None)
}

fn session(
    store: &Arc<dyn ObjectStore>,
    model: &mut [u8],
    steps: std::ops::Range<u8>,
) -> Result<Volume, Option<Failed>> {
    let volume = try_open(Arc::clone(store), u32::MAX).map_err(|_| None)?;
    for n in steps {
        let at = usize::from(n) % 5 * 19 * OBJECT;
        let failed = |_| Some((at, n + 1));
        volume
            .write(at as u64, &vec![n + 1; OBJECT])
            .map_err(failed)?;
        volume.flush().map_err(failed)?;
        model[at..at + OBJECT].fill(n + 1);
        if n % 2 == 1 {
            volume.checkpoint().map_err(|_| None)?;
        }
    }
    Ok(volume)
}

fn check_after_crash(
    store: &Arc<MemoryStore>,
    model: &mut [u8],
    outcome: Result<(), Option<Failed>>,
    death: Death,
) {
    let volume =
        try_open(store.clone(), u32::MAX).unwrap_or_else(|error| panic!("{death:?}: {error}"));
    if let Err(Some((at, byte))) = outcome
        && read(&volume, at as u64, 1 << 9)[0] == byte
    {
        model[at..at + OBJECT].fill(byte);
    }
    assert!(read(&volume, 0, model.len()) == *model, "{death:?}");
    for round in 0..3_u8 {
        write(&volume, model, 300 * OBJECT, 100 + round);
        volume.checkpoint().unwrap();
    }
    wait_for("the removal", || present(store) == needed(store));
    drop(volume);
    let volume = open(store);
    assert!(read(&volume, 0, model.len()) == *model, "{death:?}");
}
