//! What must hold in every state of deletion, and what must be reached in some.

use std::collections::BTreeSet;

use stateright::Property;

use crate::deletion::rules::Broken;
use crate::deletion::store::{Content, Kept, Name};
use crate::deletion::{Deletion, RequestBody, State};

/// Something that happens in some states: without it a model proves nothing.
pub type Reached = (&'static str, fn(&Deletion, &State) -> bool);

/// A prefix is always readable: all of it, as nothing else was lost here.
pub const OPENS: &str = "from either kept checkpoint the volume opens to all that was written";
/// Neither misses anything, also where rolling forward would make up for it: readers beside the writer
/// and clones read what it names.
pub const KEPT_READS: &str = "each kept checkpoint reads all that it names";
/// The writer itself reads on.
pub const SERVES: &str = "the writer that has the volume finds all that it and its clients read";
/// Snapshots hold what they need.
pub const SNAPSHOT_READS: &str = "a snapshot reads all that was there when it was taken";
/// None is forgotten before it has a checkpoint.
pub const SNAPSHOT_STAYS: &str = "a snapshot that was taken and not deleted is there";
/// None comes back.
pub const DELETED_STAYS_AWAY: &str = "a snapshot that was deleted does not come back";
/// Nothing is leaked.
pub const DEAD_GOES: &str =
    "two openings without a fault remove all that is dead, and nothing else";

/// All properties, and `reached`.
#[must_use]
pub fn all(reached: &[Reached]) -> Vec<Property<Deletion>> {
    let mut properties = vec![
        Property::always(OPENS, opens),
        Property::always(KEPT_READS, kept_reads),
        Property::always(SERVES, serves),
        Property::always(SNAPSHOT_READS, snapshot_reads),
        Property::always(SNAPSHOT_STAYS, snapshot_stays),
        Property::always(DELETED_STAYS_AWAY, deleted_stays_away),
        Property::always(DEAD_GOES, dead_goes),
    ];
    for (name, condition) in reached {
        properties.push(Property::sometimes(name, *condition));
    }
    properties
}

/// The ways in which the volume may be opened next.
fn ways(state: &State) -> &'static [bool] {
    let [older, _newest] = &state.store.newest.kept[..] else {
        return &[false];
    };
    match state.store.damaged.contains(&older.name) {
        true => &[false],
        false => &[false, true],
    }
}

fn opens(model: &Deletion, state: &State) -> bool {
    let store = &state.store;
    let length = store.stream.len();
    !state.refused
        && ways(state).iter().all(|is_misread| {
            let opened = store.open(*is_misread, model.broken);
            opened.is_ok_and(|opened| {
                store.has_all_of(&opened.map) && store.is_state_behind(&opened.map, length)
            })
        })
}

fn kept_reads(_: &Deletion, state: &State) -> bool {
    let store = &state.store;
    let mut kept = store.newest.kept.iter();
    kept.all(|Kept { name, cut }| {
        let checkpoint = store.checkpoints.get(name);
        checkpoint.is_some_and(|checkpoint| {
            store.has_all_of(&checkpoint.map) && store.is_state_behind(&checkpoint.map, *cut)
        })
    })
}

fn serves(_: &Deletion, state: &State) -> bool {
    let store = &state.store;
    state.current().is_none_or(|writer| {
        let mut read = writer.reading.iter();
        store.has_all_of(&writer.map)
            && store.is_state_behind(&writer.map, store.stream.len())
            && read.all(|name| store.objects.contains(name))
    })
}

fn snapshot_reads(_: &Deletion, state: &State) -> bool {
    let store = &state.store;
    store.newest.snapshots.values().all(|Kept { name, cut }| {
        let checkpoint = store.checkpoints.get(name);
        checkpoint.is_some_and(|checkpoint| {
            store.has_all_of(&checkpoint.map) && store.is_state_behind(&checkpoint.map, *cut)
        })
    })
}

/// The snapshot that an opening would go on to make, with all that it needs.
fn pending(model: &Deletion, state: &State, is_misread: bool) -> Option<u8> {
    let opened = state.store.open(is_misread, model.broken).ok()?;
    let pending = opened.pending?;
    let store = &state.store;
    let is_right =
        store.has_all_of(&pending.map) && store.is_state_behind(&pending.map, pending.cut);
    pending.snapshot.filter(|_| is_right)
}

fn snapshot_stays(model: &Deletion, state: &State) -> bool {
    let stream = state.store.stream.iter();
    let mut taken = stream.filter_map(|entry| match entry.content {
        Content::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    taken.all(|snapshot| {
        let is_pending = |is_misread: &bool| pending(model, state, *is_misread) == Some(snapshot);
        state.deleted.contains(&snapshot)
            || state.store.newest.snapshots.contains_key(&snapshot)
            || ways(state).iter().all(is_pending)
    })
}

fn deleted_stays_away(model: &Deletion, state: &State) -> bool {
    state.deleted.iter().all(|deleted| {
        let comes_back = |is_misread: &bool| {
            let opened = state.store.open(*is_misread, model.broken).ok();
            let pending = opened.and_then(|opened| opened.pending);
            pending.is_some_and(|pending| pending.snapshot == Some(*deleted))
        };
        !state.store.newest.snapshots.contains_key(deleted) && !ways(state).iter().any(comes_back)
    })
}

/// What is in the store says how this ends, so each store is tried once.
fn dead_goes(model: &Deletion, state: &State) -> bool {
    let what = (&state.store, state.used.openings);
    model.tried.once(&what, || all_dead_goes(model, state))
}

/// Ends all processes, loses all that is on its way, and lets one opener after another work alone: the
/// first may have to fall back, and then removes nothing.
fn all_dead_goes(model: &Deletion, state: &State) -> bool {
    let mut state = state.clone();
    state.network.clear();
    state.hosts = vec![None];
    let arrive_all = |state: &mut State| {
        while let Some(request) = state.network.first().cloned() {
            model.arrive(state, &request, false);
        }
    };
    for _opening in 0..2 {
        state.hosts = vec![None];
        model.open(&mut state, 0, false);
        arrive_all(&mut state);
        for _checkpoint in 0..3 {
            if model.cut(&mut state, 0, None).is_none() {
                return false;
            }
            arrive_all(&mut state);
            if model.remove(&mut state, 0).is_none() {
                return false;
            }
            arrive_all(&mut state);
        }
    }
    let Some(writer) = state.current() else {
        return false;
    };
    let snapshots = state.store.newest.snapshots.values();
    let kept: BTreeSet<_> = state
        .store
        .newest
        .kept
        .iter()
        .chain(snapshots)
        .map(|kept| kept.name)
        .collect();
    let checkpoints = state.store.checkpoints.values();
    let needed: BTreeSet<Name> = checkpoints
        .flat_map(|checkpoint| checkpoint.map)
        .chain(writer.map)
        .map(|location| location.at)
        .collect();
    state.store.objects == needed && state.store.checkpoints.keys().copied().eq(kept)
}

/// Something dead is gone.
pub const DATA_GOES: Reached = ("data is removed", |_, state| {
    let mut stream = state.store.stream.iter();
    stream.any(|entry| !state.store.objects.contains(&entry.name))
});

/// Moved data is gone.
pub const MOVED_GOES: Reached = ("moved data is removed", |_, state| {
    let hosts = state.hosts.iter().flatten();
    let mut tables = hosts.flat_map(|writer| writer.table.keys());
    tables.any(|name| matches!(name, Name::Gc(..)) && !state.store.objects.contains(name))
});

/// A victim is gone, and its data is read elsewhere.
pub const MOVED: Reached = (
    "a victim is gone, what it had is read elsewhere",
    |_, state| {
        let mut writers = state.hosts.iter().flatten();
        writers.any(|writer| {
            let mut locations = writer.map.iter();
            locations.any(|location| {
                let is_moved = location.at != location.value;
                is_moved && !state.store.objects.contains(&location.value)
            })
        })
    },
);

/// A removal is on its way, and the volume has another writer than who sent it.
pub const LATE_REMOVAL: Reached = ("a removal is on its way when another opened", |_, state| {
    let mut network = state.network.iter();
    network.any(|request| {
        let is_removal = matches!(request.body, RequestBody::Delete(_));
        is_removal && request.from < state.used.openings
    })
});

/// An opener rolls forward over a snapshot without a checkpoint.
pub const PENDING_FOUND: Reached = ("an opener finds a pending snapshot", |_, state| {
    let opened = state.store.open(false, Broken::Nothing).ok();
    opened.is_some_and(|opened| opened.pending.is_some())
});

/// A snapshot alone needs something.
pub const SNAPSHOT_ALONE: Reached = ("a snapshot alone keeps an object", |_, state| {
    let store = &state.store;
    let checkpoint = |kept: &Kept| store.checkpoints.get(&kept.name);
    let is_kept = |name| {
        let mut kept = store.newest.kept.iter().filter_map(checkpoint);
        kept.any(|checkpoint| checkpoint.needs(name))
    };
    let snapshots = store.newest.snapshots.values();
    let mut locations = snapshots.filter_map(checkpoint).flat_map(|held| held.map);
    locations.any(|location| !is_kept(location.at))
});

/// A writer fell back and has made a checkpoint since.
pub const FELL_BACK: Reached = ("a writer that fell back has a checkpoint", |_, state| {
    let mut writers = state.hosts.iter().flatten();
    writers.any(|writer| writer.fell_back_from.is_some() && !writer.cut_of.is_empty())
});
