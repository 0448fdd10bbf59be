//! What a clone does before it is there: pins, a second look, its first superblock.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::pins::rules::Broken;
use crate::pins::store::{Foreign, Held, Id, Pin, Place, Superblock};
use crate::pins::{Pins, RequestBody, State};

/// One try to make a clone. Its memory goes with its process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempt {
    /// Which one it is.
    pub id: Id,
    /// The clone's uuid.
    pub uuid: Id,
    /// What it is made from.
    pub source: Held,
    /// Its pins.
    pub pins: BTreeSet<Pin>,
    /// Those that it knows to be there.
    pub answered: BTreeSet<Pin>,
    /// Where it will be, and the number of its first superblock.
    pub target: (Place, usize),
    /// Its first superblock is on its way.
    pub is_sent: bool,
}

impl Pins {
    /// Reads the base, and sends pins for all that the clone will name.
    pub(crate) fn begin_clone(
        &self,
        state: &mut State,
        source: Place,
        target: Place,
    ) -> Option<()> {
        let living = state.store.volumes[source].living()?;
        let snapshot = living.snapshot.as_ref()?;
        if snapshot.is_marked || state.store.volumes[target].living().is_some() {
            return None;
        }
        let source = Held {
            place: source,
            snapshot: snapshot.number,
        };
        let mut named = Foreign::from([source]);
        if self.broken != Broken::BaseAlonePinned {
            named.extend(&snapshot.foreign);
        }
        let number = state.store.volumes[target].makers.len();
        let id = state.next_id();
        let uuid = match self.broken {
            Broken::UuidUsedAgain => Id::MAX,
            _ => id,
        };
        let pins = named.into_iter().map(|held| Pin {
            held,
            uuid,
            place: target,
            number,
        });
        let pins: BTreeSet<_> = pins.collect();
        for pin in &pins {
            state.send(id, RequestBody::PutPin(*pin));
        }
        state.attempts.insert(Attempt {
            id,
            uuid,
            source,
            pins,
            answered: BTreeSet::new(),
            target: (target, number),
            is_sent: false,
        });
        state.used.clones += 1;
        Some(())
    }

    /// Whether it may look at the base again.
    pub(crate) fn may_look_again(&self, attempt: &Attempt) -> bool {
        let is_early = self.broken == Broken::LookedAgainTooEarly;
        !attempt.is_sent && (attempt.answered == attempt.pins || is_early)
    }

    /// Looks at the base again, and makes the clone, or gives up.
    pub(crate) fn look_again(&self, state: &mut State, attempt: &Attempt) -> Option<()> {
        let source = state.store.volumes[attempt.source.place].living();
        let found = source.and_then(|living| living.snapshot.clone());
        let is_there = found.as_ref().is_some_and(|found| {
            let is_same = found.number == attempt.source.snapshot;
            let is_marked = found.is_marked && self.broken != Broken::MarkIgnored;
            (is_same || self.broken == Broken::KnownByName) && !is_marked
        });
        if !is_there && self.broken != Broken::NotLookedAgain {
            return Self::give_up(state, attempt);
        }
        // All that the snapshot needs, as it was read at the beginning: its checkpoint never changes.
        let named: Foreign = match self.broken {
            Broken::BaseAlonePinned => {
                let foreign = found.into_iter().flat_map(|found| found.foreign);
                foreign.chain([attempt.source]).collect()
            }
            _ => attempt.pins.iter().map(|pin| pin.held).collect(),
        };
        let (place, number) = attempt.target;
        let first = Arc::new(Superblock {
            number,
            by: attempt.id,
            uuid: attempt.uuid,
            is_tombstone: false,
            kept: [named.clone(), named],
            snapshot: None,
        });
        state.send(attempt.id, RequestBody::PutSuperblock(place, first));
        state.attempts.remove(attempt);
        state.attempts.insert(Attempt {
            is_sent: true,
            ..attempt.clone()
        });
        Some(())
    }

    /// Whether it may give up, and take its pins away: nothing of it can come to be.
    pub(crate) fn may_give_up(&self, attempt: &Attempt) -> bool {
        !attempt.is_sent || self.broken == Broken::GivesUpTooLate
    }

    /// Takes the pins away.
    pub(crate) fn give_up(state: &mut State, attempt: &Attempt) -> Option<()> {
        for pin in &attempt.pins {
            state.send(attempt.id, RequestBody::DeletePin(*pin));
        }
        state.attempts.remove(attempt).then_some(())
    }

    /// The store's answer to something that a clone sent.
    pub(crate) fn clone_was_answered(
        state: &mut State,
        attempt: &Attempt,
        body: &RequestBody,
        is_ours: bool,
    ) {
        match body {
            RequestBody::PutPin(pin) => {
                let mut answered = attempt.clone();
                answered.answered.insert(*pin);
                state.attempts.remove(attempt);
                state.attempts.insert(answered);
            }
            RequestBody::PutSuperblock(..) if is_ours => drop(state.attempts.remove(attempt)),
            // Another one is there: this one cannot come to be.
            RequestBody::PutSuperblock(..) => drop(Self::give_up(state, attempt)),
            RequestBody::DeletePin(_) => {}
        }
    }
}
