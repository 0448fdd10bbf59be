//! A client that is stalled at any of its requests, and goes on after another one has taken over,
//! worked and made checkpoints: one line of history survives.

use std::sync::Arc;
use std::thread;

use lsvd::doors::store::ObjectStore;
use lsvd::{OpenOptions, Volume};

use super::{OBJECT, SIZE, assert_disk, created, needed, open, present, write};
use crate::host::open_fresh;
use crate::mortal::{Death, Mortal};
use crate::world::{read, runtime, wait_for};

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
    let (flushed, ended) = first.join().unwrap();
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
    assert!(ended.is_err() || flushed == WRITES, "{death:?}");
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
