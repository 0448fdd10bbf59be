//! A client that is stalled at any of its requests, and goes on after another one has taken over,
//! worked and made checkpoints: one line of history survives.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::store::ObjectStore;
use lsvd::{ErrorKind, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::Verb;

use super::{OBJECT, SIZE, assert_disk, created, needed, open, present, write};
use crate::host::open_fresh;
use crate::mortal::{Death, Mortal};
use crate::world::{Hasty, pass_hastily, read, runtime, wait_for};

/// Objects that the first client writes, each at a place of its own.
const WRITES: u8 = 8;

/// Behind all that the first client writes.
const SECOND: usize = 300 * OBJECT;

fn place(n: u8) -> usize {
    usize::from(n) * 19 * OBJECT
}

/// The first client's life: an opening, objects, checkpoints that are made, replaced and removed, a
/// close. Gives how many of its writes were flushed to the store.
fn life(store: Arc<dyn ObjectStore>) -> (u8, lsvd::Result<()>) {
    let mut flushed = 0;
    let ended = live(store, &mut flushed);
    (flushed, ended)
}

fn live(store: Arc<dyn ObjectStore>, flushed: &mut u8) -> lsvd::Result<()> {
    // Not hastily: what waits is not to be given up and tried again.
    let volume = open_fresh(store, runtime(), OpenOptions::new("the first"))?;
    for n in 0..WRITES {
        volume.write(place(n) as u64, &vec![n + 1; OBJECT])?;
        volume.flush()?;
        *flushed = n + 1;
        if n % 2 == 1 {
            volume.checkpoint()?;
        }
    }
    volume.close()
}

fn work(volume: &Volume, model: &mut [u8], rounds: std::ops::Range<u8>) {
    for round in rounds {
        let at = SECOND + usize::from(round) * OBJECT;
        write(volume, model, at, 100 + round);
        volume.flush().unwrap();
        volume.checkpoint().unwrap();
    }
}

fn stall(death: Death) {
    let memory = created();
    let slow = Arc::new(Mortal::asleep(memory.clone(), death));
    let first = thread::spawn({
        let store = slow.clone();
        move || life(store)
    });
    wait_for("the stall", || slow.is_asleep() || first.is_finished());
    let second = open(&memory);
    let mut model = read(&second, 0, usize::try_from(SIZE).unwrap());
    work(&second, &mut model, 0..3);
    slow.wake();
    let (flushed, _ended) = first.join().unwrap();
    let found: Vec<u8> = (0..WRITES).map(|n| model[place(n)]).collect();
    let there = found.iter().take_while(|byte| **byte != 0).count();
    assert!(
        there >= usize::from(flushed),
        "{death:?}: {flushed} were flushed of {found:?}"
    );
    assert!(
        found[there..].iter().all(|byte| *byte == 0),
        "{death:?}: no prefix: {found:?}"
    );
    assert_disk(&second, &model);
    work(&second, &mut model, 3..5);
    second.close().unwrap();
    drop(second);
    let third = open(&memory);
    assert_disk(&third, &model);
    // What came late is of no use to anybody.
    work(&third, &mut model, 5..6);
    wait_for("the removal", || present(&memory) == needed(&memory));
    assert_disk(&third, &model);
}

#[test]
fn a_client_that_was_stalled_at_any_request_harms_nothing() {
    let count = {
        let store = Arc::new(Mortal::new(created(), Death::Never));
        let (flushed, ended) = life(store.clone());
        ended.unwrap();
        assert_eq!(flushed, WRITES);
        store.asked().len()
    };
    assert!(count > 50, "{count}");
    for number in 0..count {
        stall(Death::Before(number));
        stall(Death::After(number));
    }
}

/// A look at the next superblock counts from when it began: so does the creation of the superblock that
/// fixes the ends, whose answer may have been long on its way.
#[test]
fn an_opening_that_was_stalled_answers_no_flush_long_after_a_take_over() {
    let open_first = |store: Arc<dyn ObjectStore>| {
        let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
        let options = OpenOptions {
            log_bytes: 16 << 20,
            ..OpenOptions::new("the first")
        };
        Volume::open(store, &disk, Arc::new(Hasty(runtime())), &options)
    };
    let fix_of_ends = {
        let store = Arc::new(Mortal::new(created(), Death::Never));
        drop(open_first(store.clone()).unwrap());
        let asked = store.asked();
        let fix = (Verb::Put, "superblock.00000002".to_owned());
        asked.iter().position(|asked| *asked == fix).unwrap()
    };
    let memory = created();
    let slow = Arc::new(Mortal::asleep(memory.clone(), Death::After(fix_of_ends)));
    let first = thread::spawn({
        let store = slow.clone();
        move || open_first(store)
    });
    wait_for("the stall", || slow.is_asleep());
    let second = open(&memory);
    second.write(0, &[2; 512]).unwrap();
    second.flush().unwrap();
    pass_hastily(Duration::from_secs(20));
    slow.wake();
    if let Ok(first) = first.join().unwrap() {
        // Who comes first has somebody look, and may be told already.
        let written = first.write(512, &[1; 512]);
        let flushed = written.and_then(|()| first.flush()).unwrap_err();
        assert_eq!(flushed.kind(), ErrorKind::Fenced, "{flushed}");
    }
}
