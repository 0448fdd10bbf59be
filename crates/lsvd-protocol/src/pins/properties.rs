//! What must hold in every state of volumes, snapshots and clones, and what must be reached in some.

use stateright::Property;

use crate::pins::store::{Held, PLACES, Place};
use crate::pins::writer::Step;
use crate::pins::{Action, Arrival, Pins, RequestBody, State};

/// Something that happens in some states: without it a model proves nothing.
pub type Reached = (&'static str, fn(&Pins, &State) -> bool);

/// Nothing goes that a clone reads.
pub const CLONE_READS: &str = "a clone that is there reads all that it names of other volumes";
/// Pins stay as long as they are needed.
pub const CLONE_IS_PINNED: &str = "what a clone needs of another volume is pinned there";
/// No pin, mark or half a clone blocks a volume for ever.
pub const SNAPSHOT_GOES: &str =
    "a user alone can delete a snapshot that no clone needs, and no other";
/// Nothing is in the way of its removal.
pub const ALL_GOES: &str = "a user alone can remove all volumes";

/// All properties, and `reached`.
#[must_use]
pub fn all(reached: &[Reached]) -> Vec<Property<Pins>> {
    let mut properties = vec![
        Property::always(CLONE_READS, clone_reads),
        Property::always(CLONE_IS_PINNED, clone_is_pinned),
        Property::always(SNAPSHOT_GOES, |model, state| {
            ends_well(model, state, 0, snapshot_goes)
        }),
        Property::always(ALL_GOES, |model, state| {
            ends_well(model, state, 1, all_goes)
        }),
    ];
    for (name, condition) in reached {
        properties.push(Property::sometimes(name, *condition));
    }
    properties
}

fn clone_reads(_: &Pins, state: &State) -> bool {
    let volumes = state.store.volumes.iter();
    let mut living = volumes.filter_map(|volume| volume.living());
    living.all(|living| {
        let mut foreign = living.foreign();
        foreign.all(|held| !state.store.gone.contains(held))
    })
}

fn clone_is_pinned(_: &Pins, state: &State) -> bool {
    let volumes = state.store.volumes.iter();
    let mut living = volumes.filter_map(|volume| volume.living());
    living.all(|living| {
        living.foreign().all(|held| {
            let mut pins = state.store.volumes[held.place].pins.iter();
            pins.any(|pin| pin.held == *held && pin.uuid == living.uuid)
        })
    })
}

/// Ends all processes, loses all that is on its way, and lets a user work alone. What is in the store
/// says how that ends, so each store is tried once.
fn ends_well(
    model: &Pins,
    state: &State,
    which: u8,
    works: fn(&Pins, State) -> Option<bool>,
) -> bool {
    model.tried.once(&(&state.store, which), || {
        let mut model = model.clone();
        model.bounds.deletions = usize::MAX;
        model.bounds.removals = usize::MAX;
        let mut state = state.clone();
        state.network.clear();
        state.writers.clear();
        state.attempts.clear();
        works(&model, state).unwrap_or_default()
    })
}

fn arrive_all(model: &Pins, state: &mut State) {
    while let Some(request) = state.network.first().cloned() {
        model.arrive(state, &request, Arrival::Answered);
    }
}

/// Deletes the snapshot of a volume as its rules say, and gives the writer that did it.
fn delete_snapshot(model: &Pins, state: &mut State, place: Place) -> Option<u8> {
    model.open(state, place)?;
    let id = state.ids;
    for step in [Step::Look, Step::Mark, Step::Look, Step::Settle] {
        work_if_allowed(model, state, id, step)?;
    }
    Some(id)
}

/// Does a step that the writer's rules allow, and says whether they do.
fn work_if_allowed(model: &Pins, state: &mut State, id: u8, step: Step) -> Option<bool> {
    let mut actions = Vec::new();
    model.writer_actions(state, &state.writer(id)?.clone(), &mut actions);
    let is_allowed = actions.contains(&Action::Work(id, step));
    if is_allowed {
        model.work(state, id, step)?;
        arrive_all(model, state);
    }
    Some(is_allowed)
}

fn snapshot_goes(model: &Pins, mut state: State) -> Option<bool> {
    let Some(base) = state.store.volumes[0].living() else {
        return Some(true);
    };
    let Some(snapshot) = base.snapshot.clone() else {
        return Some(true);
    };
    let held = Held {
        place: 0,
        snapshot: snapshot.number,
    };
    let clones = state.store.volumes.iter();
    let clones = clones.filter_map(|volume| volume.living().cloned());
    let clones: Vec<_> = clones.collect();
    let is_needed = clones
        .iter()
        .any(|clone| clone.foreign().any(|need| *need == held));
    // A clone that needs the snapshot no more may still have its pin: its writer takes it away.
    let mut pins = state.store.volumes[0].pins.iter();
    let is_pinned = pins.any(|pin| clones.iter().any(|clone| clone.uuid == pin.uuid));
    delete_snapshot(model, &mut state, 0)?;
    let after = state.store.volumes[0].living()?.snapshot.clone();
    Some(match after {
        None => !is_needed,
        Some(after) => !after.is_marked && (is_needed || is_pinned),
    })
}

fn all_goes(model: &Pins, mut state: State) -> Option<bool> {
    for place in (0..PLACES).rev() {
        if state.store.volumes[place].living().is_none() {
            continue;
        }
        let id = delete_snapshot(model, &mut state, place)?;
        if state.writer(id)?.own.snapshot.is_some() {
            return Some(false);
        }
        if !work_if_allowed(model, &mut state, id, Step::Remove)? {
            return Some(false);
        }
    }
    let mut volumes = state.store.volumes.iter();
    Some(volumes.all(|volume| volume.living().is_none()))
}

/// A clone is made.
pub const CLONED: Reached = ("a clone is there", |_, state| {
    state.store.volumes[1].living().is_some()
});

/// A clone's clone is made.
pub const CLONED_AGAIN: Reached = ("a clone of a clone is there", |_, state| {
    state.store.volumes[2].living().is_some()
});

/// The base's snapshot is deleted, and what it kept is gone, as no clone came to be.
pub const SNAPSHOT_GONE: Reached = ("what a snapshot kept is gone", |_, state| {
    !state.store.gone.is_empty()
});

/// A pin has nobody.
pub const ORPHAN: Reached = (
    "a pin is there without a clone or who makes one",
    |_, state| {
        let mut pins = state.store.volumes[0].pins.iter();
        pins.any(|pin| {
            let mut attempts = state.attempts.iter();
            let volumes = state.store.volumes.iter();
            let mut living = volumes.filter_map(|volume| volume.living());
            !attempts.any(|attempt| attempt.uuid == pin.uuid)
                && !living.any(|living| living.uuid == pin.uuid)
        })
    },
);

/// The mark of a process that is gone.
pub const MARK_LEFT: Reached = ("a mark is there, and nobody goes on with it", |_, state| {
    let base = state.store.volumes[0].living();
    let snapshot = base.and_then(|base| base.snapshot.as_ref());
    let is_marked = snapshot.is_some_and(|snapshot| snapshot.is_marked);
    is_marked && state.writers.is_empty() && state.network.is_empty()
});

/// A clone that is on its way finds a tombstone in its place.
pub const FENCED: Reached = ("a clone on its way finds its number taken", |_, state| {
    let mut network = state.network.iter();
    network.any(|request| match &request.body {
        RequestBody::PutSuperblock(place, superblock) => {
            let volume = &state.store.volumes[*place];
            let maker = volume.makers.get(superblock.number);
            *place > 0 && maker.is_some_and(|maker| *maker != superblock.by)
        }
        _ => false,
    })
});

/// A clone got rid of its base.
pub const UNPINNED: Reached = (
    "a clone needs its base no more, and has no pin",
    |_, state| {
        let clone = state.store.volumes[1].living();
        clone.is_some_and(|clone| {
            clone.foreign().next().is_none() && state.pins_of(clone.uuid).next().is_none()
        })
    },
);

/// The base is removed.
pub const BASE_REMOVED: Reached = ("the base is removed while a clone is made", |_, state| {
    let base = state.store.volumes[0].newest.as_ref();
    base.is_some_and(|base| base.is_tombstone) && !state.attempts.is_empty()
});
