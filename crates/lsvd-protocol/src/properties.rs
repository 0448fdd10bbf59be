//! What must hold in every state, and what must be reached in some.

use std::sync::Arc;

use stateright::Property;

use crate::history::Served;
use crate::model::{Process, Protocol, State};
use crate::opening::Step;
use crate::search::Search;
use crate::serving::Making;
use crate::store::{Change, Superblock};

/// Something that happens in some states: without it a model proves nothing.
pub type Reached = (&'static str, fn(&Protocol, &State) -> bool);

/// No report of a writer that something is persisted is ever broken by who comes after it. Two live
/// epochs that both persist would each have what the other lacks.
pub const PERSISTED_STAYS: &str = "what was reported as persisted is found by every later opening";
/// What is found is a state that was true at one moment.
pub const A_PREFIX: &str = "an opening finds a prefix of what was written";
/// Nothing that was flushed is lost where the log is there.
pub const FLUSHED_STAYS: &str = "an opening with the last writer's log finds all that was flushed";
/// Nothing goes that the volume is opened from.
pub const NEEDED_IS_THERE: &str = "what the newest superblock needs is there";
/// A prefix is always readable.
pub const NO_DAMAGE: &str = "no opening is refused for damage, as nothing was damaged";
/// What was cut off stays off.
pub const ENDS_NEVER_RISE: &str = "an end that was fixed never rises";
/// An epoch is claimed once.
pub const ONE_WRITER: &str = "an epoch has one writer";

/// All properties, and `reached`.
#[must_use]
pub fn all(reached: &[Reached]) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(PERSISTED_STAYS, persisted_stays),
        Property::always(A_PREFIX, a_prefix),
        Property::always(FLUSHED_STAYS, flushed_stays),
        Property::always(NEEDED_IS_THERE, needed_is_there),
        Property::always(NO_DAMAGE, |_, state: &State| state.damage.is_none()),
        Property::always(ENDS_NEVER_RISE, ends_never_rise),
        Property::always(ONE_WRITER, one_writer),
    ];
    for (name, condition) in reached {
        properties.push(Property::sometimes(name, *condition));
    }
    properties
}

/// The pairs of an opening and a later one of the same volume.
fn pairs(state: &State) -> impl Iterator<Item = (&Served, &Served)> {
    let later = |before: &Served, after: &Served| {
        before.volume == after.volume && before.epoch < after.epoch
    };
    let all = state.served.iter();
    all.flat_map(move |before| {
        let after = state
            .served
            .iter()
            .filter(move |after| later(before, after));
        after.map(move |after| (before, after))
    })
}

/// Holds for reports that come late, too, when the later opening was there before.
fn persisted_stays(_: &Protocol, state: &State) -> bool {
    pairs(state).all(|(before, after)| after.start().starts_with(before.promised()))
}

fn a_prefix(_: &Protocol, state: &State) -> bool {
    state.served.iter().all(|found| {
        let is_of = |before: &Served| {
            let is_before = before.volume == found.volume && before.epoch < found.epoch;
            is_before && before.line.starts_with(found.start())
        };
        found.start().is_empty() || state.served.iter().any(is_of)
    })
}

fn flushed_stays(_: &Protocol, state: &State) -> bool {
    state.served.iter().all(|found| {
        let mut served = state.served.iter();
        let before = served.find(|before| Some(before.id) == found.own_log_of);
        before.is_none_or(|before| found.start().starts_with(&before.line))
    })
}

/// What deletion may take is a model of its own: [`crate::deletion`].
pub fn needed_is_there(_: &Protocol, state: &State) -> bool {
    let (newest, store) = (state.newest(), &state.store);
    if newest.change == Change::Tombstone {
        return true;
    }
    let checkpoints = newest.checkpoints.iter().all(|kept| {
        let object = store.checkpoints.get(&kept.name);
        object.is_some_and(|object| {
            let base = object.base;
            let line = object.line.iter();
            base.is_none_or(|base| store.checkpoints.contains_key(&base))
                && line
                    .copied()
                    .all(|batch| store.data.contains_key(&batch.name()))
        })
    });
    let mut served = state.served.iter();
    checkpoints
        && served.all(|served| {
            let mut promised = served.promised().iter();
            served.volume != newest.volume
                || promised.all(|batch| {
                    let object = store.data.get(&batch.name());
                    object.is_some_and(|object| object.batch == *batch)
                })
        })
}

fn ends_never_rise(_: &Protocol, state: &State) -> bool {
    let fixes = || {
        let all = state.store.superblocks.values();
        all.filter(|superblock| superblock.change == Change::FixEnds)
    };
    let is_right = |before: &Arc<Superblock>, after: &Arc<Superblock>| {
        let own = before.epochs.last().map(|own| own.epoch);
        after.epochs.iter().all(|end| {
            let mut listed = before.epochs.iter();
            match listed.find(|listed| listed.epoch == end.epoch) {
                Some(listed) => listed
                    .objects
                    .is_none_or(|objects| end.objects.is_some_and(|end| end <= objects)),
                None => Some(end.epoch) > own,
            }
        })
    };
    fixes().all(|after| {
        let mut before = fixes().filter(|before| before.number < after.number);
        before.all(|before| before.volume != after.volume || is_right(before, after))
    })
}

fn one_writer(_: &Protocol, state: &State) -> bool {
    let mut epochs: Vec<_> = state.served.iter().map(|served| served.epoch).collect();
    epochs.sort_unstable();
    epochs.windows(2).all(|pair| pair[0] < pair[1])
}

/// A second writer serves, and both had something to persist.
pub const SECOND_PERSISTS: Reached = ("two writers after one another persist", |_, state| {
    let own = |served: &&Served| served.persisted > served.found;
    state.served.iter().filter(own).count() > 1
});

/// Both are at work, and the first does not know of the second.
pub const TWO_AT_WORK: Reached = ("two writers are at work", |_, state| {
    let is_at_work = |process: &Process| matches!(process, Process::Serving(_));
    let hosts = state.hosts.iter();
    hosts.filter(|host| is_at_work(&host.process)).count() > 1
});

/// A writer's last batches, flushed to its log, are given up by a take-over.
pub const BATCHES_GIVEN_UP: Reached =
    ("a take-over gives up what is in a log alone", |_, state| {
        pairs(state).any(|(before, after)| before.line.len() > after.found)
    });

/// A batch of an epoch that ended before comes from the log.
pub const LOG_REPLAYED: Reached = (
    "a log brings back what the store does not have",
    |_, state| {
        let is_from_log =
            |served: &Served| served.found > served.persisted && served.own_log_of.is_some();
        state.served.iter().any(is_from_log)
    },
);

/// The store has an object that came behind the end.
pub const STRAY: Reached = (
    "an object arrives behind the end of its epoch",
    |_, state| {
        let newest = state.newest();
        let ends = newest.epochs.iter();
        let mut fixed = ends.filter_map(|end| Some((end.epoch, end.objects?)));
        fixed.any(|end| state.store.data.contains_key(&end))
    },
);

/// A claim goes on behind what the writer that is taken over still made.
pub const CLAIM_BEHIND_CHECKPOINT: Reached = (
    "a claim that lost its number to a checkpoint goes on behind it",
    |_, state| {
        let waiting = state.hosts.iter().filter_map(|host| match &host.process {
            Process::Opening(opening) => Some(opening),
            _ => None,
        });
        let mut claims = waiting.filter_map(|opening| match &opening.step {
            Step::Claiming { claim, .. } => Some(claim),
            _ => None,
        });
        let superblocks = &state.store.superblocks;
        claims.any(|claim| {
            let before = claim.number.checked_sub(1);
            let before = before.and_then(|before| superblocks.get(&before));
            before.is_some_and(|before| before.change == Change::Checkpoint)
        })
    },
);

/// Something is to be removed.
pub const REMOVES: Reached = ("a writer is to remove what nobody needs", |_, state| {
    let mut hosts = state.hosts.iter();
    hosts.any(|host| match &host.process {
        Process::Serving(serving) => matches!(serving.making, Making::Removing(_)),
        _ => false,
    })
});

/// What is removed is not only behind the ends that the superblock lists.
pub const REMOVES_UNLISTED: Reached = (
    "an object of no stream goes from an epoch that is not listed",
    |_, state| {
        let mut hosts = state.hosts.iter();
        hosts.any(|host| match &host.process {
            Process::Serving(serving) => serving.strays.iter().any(|name| {
                let mut listed = serving.own.epochs.iter();
                listed.all(|end| end.epoch != name.0)
            }),
            _ => false,
        })
    },
);

/// A superblock does not list all epochs that the volume has objects of.
pub const LEFT_THE_LIST: Reached = (
    "an epoch that the volume has objects of is not listed",
    |_, state| {
        let newest = state.newest();
        let first = newest.epochs.first().map(|first| first.epoch);
        state.served.iter().any(|served| {
            let line = served.line.first().map(|first| first.epoch);
            served.volume == newest.volume && line.is_some() && line < first
        })
    },
);

/// A volume that was closed is opened again.
pub const REOPENED: Reached = ("a volume that was closed is opened again", |_, state| {
    let all = state.store.superblocks.values();
    let mut closed = all.filter(|superblock| superblock.change == Change::Close);
    closed.any(|closed| {
        let epoch = closed.epochs.last().map(|own| own.epoch);
        state.served.iter().any(|served| Some(served.epoch) > epoch)
    })
});

/// A volume is made where another one was removed, and served.
pub const MADE_AGAIN: Reached = (
    "a volume is made again where one was removed",
    |_, state| {
        let mut served = state.served.iter();
        served.any(|served| served.volume > 0 && served.persisted > 0)
    },
);

/// An opener whose claim was followed by another does not find what it wants to load. It is told of
/// damage where there is none; nothing comes of it.
pub const OVERTAKEN_MISSES: Reached = (
    "an opener that was overtaken misses its checkpoint",
    |_, state| {
        let mut hosts = state.hosts.iter();
        hosts.any(|host| match &host.process {
            Process::Opening(opening) => match &opening.step {
                Step::Claimed(claim) => Search::begin(&state.store, claim).is_err(),
                _ => false,
            },
            _ => false,
        })
    },
);
