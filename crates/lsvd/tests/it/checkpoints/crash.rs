//! A client that dies at any of its requests while checkpoints are made.

use std::sync::Arc;

use lsvd::Volume;
use lsvd::doors::store::ObjectStore;
use lsvd_store::MemoryStore;

use super::{OBJECT, created, model, needed, open, present, try_open, write};
use crate::mortal::{Death, Mortal};
use crate::world::{read, wait_for};

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
