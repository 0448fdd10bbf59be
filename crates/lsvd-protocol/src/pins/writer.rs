//! What a volume's writer does: take and delete a snapshot, get rid of what is another volume's,
//! remove the volume.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::pins::rules::Broken;
use crate::pins::store::{Foreign, Held, Id, Pin, Place, Snapshot, Superblock};
use crate::pins::{Action, Pins, RequestBody, State};

/// A writer's memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Writer {
    /// Which process it is.
    pub id: Id,
    /// Its volume.
    pub place: Place,
    /// Its newest superblock.
    pub own: Arc<Superblock>,
    /// A superblock of which it does not know what became of it.
    pub outstanding: Option<Arc<Superblock>>,
    /// The pins that a look found.
    pub looked: Option<BTreeSet<Pin>>,
}

impl Writer {
    fn mark(&self) -> Option<bool> {
        let snapshot = self.own.snapshot.as_ref()?;
        Some(snapshot.is_marked)
    }

    /// Whether anything that is kept needs another volume.
    fn needs(&self, place: Place, broken: Broken) -> bool {
        let needs = |foreign: &Foreign| foreign.iter().any(|held| held.place == place);
        let [older, newest] = &self.own.kept;
        let mut snapshot = self.own.snapshot.iter();
        needs(newest)
            || needs(older) && broken != Broken::UnpinsWithNewest
            || snapshot.any(|snapshot| needs(&snapshot.foreign))
                && broken != Broken::UnpinsUnderSnapshot
    }

    /// Its pins in volumes that it does not need.
    fn needless_pins(&self, state: &State, broken: Broken) -> Vec<Pin> {
        let pins = state.pins_of(self.own.uuid);
        pins.filter(|pin| !self.needs(pin.held.place, broken))
            .collect()
    }
}

/// Steps of a writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It takes a snapshot.
    Take,
    /// It marks the snapshot.
    Mark,
    /// It lists the pins.
    Look,
    /// It settles the pins that it found, and deletes the snapshot, or takes the mark away.
    Settle,
    /// It makes a checkpoint that needs nothing of another volume.
    Flatten(Place),
    /// It takes its pins away.
    Unpin,
    /// It sends a tombstone.
    Remove,
}

impl Pins {
    /// Claims the volume.
    pub(crate) fn open(&self, state: &mut State, place: Place) -> Option<()> {
        let living = Arc::clone(state.store.volumes[place].living()?);
        let id = state.next_id();
        let claim = Arc::new(living.next(id));
        state.store.volumes[place].create(&claim);
        state.used.openings += 1;
        let mut writer = Writer {
            id,
            place,
            own: claim,
            outstanding: None,
            looked: None,
        };
        if self.broken == Broken::OldLookTrusted && writer.mark() == Some(true) {
            writer.looked = Some(BTreeSet::new());
        }
        state.writers.insert(writer);
        Some(())
    }

    /// What a writer may do next.
    pub(crate) fn writer_actions(&self, state: &State, writer: &Writer, actions: &mut Vec<Action>) {
        if writer.outstanding.is_some() {
            return;
        }
        let (bounds, used) = (&self.bounds, &state.used);
        let mut push = |step, may| {
            if may {
                actions.push(Action::Work(writer.id, step));
            }
        };
        let (mark, looked) = (writer.mark(), writer.looked.is_some());
        let looks_early = [Broken::LooksBeforeMark, Broken::TombstoneOverSnapshot];
        let is_early = looks_early.contains(&self.broken) && mark == Some(false);
        let may_take = mark.is_none() && used.snapshots < bounds.snapshots;
        push(Step::Take, may_take);
        let may_mark = looked || self.broken != Broken::LooksBeforeMark;
        let may_mark = may_mark && used.deletions < bounds.deletions;
        push(Step::Mark, mark == Some(false) && may_mark);
        push(Step::Look, !looked && (mark == Some(true) || is_early));
        push(Step::Settle, looked && mark == Some(true));
        let places: BTreeSet<_> = writer
            .own
            .kept
            .iter()
            .flatten()
            .map(|held| held.place)
            .collect();
        for place in places {
            push(Step::Flatten(place), used.flattenings < bounds.flattenings);
        }
        let needless = writer.needless_pins(state, self.broken);
        push(Step::Unpin, !needless.is_empty());
        let found_none = writer.looked.as_ref().is_some_and(BTreeSet::is_empty);
        let may_over = self.broken == Broken::TombstoneOverSnapshot && found_none;
        let is_pinned = !state.store.volumes[writer.place].pins.is_empty();
        let awaits = self.broken == Broken::RemovalAwaitsPins && is_pinned;
        let may_remove = (mark.is_none() || may_over) && !awaits;
        push(Step::Remove, may_remove && used.removals < bounds.removals);
    }

    /// One step.
    pub(crate) fn work(&self, state: &mut State, id: Id, step: Step) -> Option<()> {
        let mut writer = state.writer(id)?.clone();
        state.writers.remove(&writer);
        let mut next = writer.own.next(id);
        match step {
            Step::Take => {
                state.used.snapshots += 1;
                next.snapshot = Some(Snapshot {
                    number: state.used.snapshots,
                    is_marked: false,
                    foreign: next.kept[1].clone(),
                });
            }
            Step::Mark => {
                state.used.deletions += 1;
                next.snapshot.as_mut()?.is_marked = true;
            }
            Step::Look => {
                writer.looked = Some(self.look(state, &writer)?);
                state.writers.insert(writer);
                return Some(());
            }
            Step::Settle => match self.settle(state, &writer)? {
                true => next.snapshot.as_mut()?.is_marked = false,
                false => next.snapshot = None,
            },
            Step::Flatten(place) => {
                state.used.flattenings += 1;
                let mut newest = next.kept[1].clone();
                newest.retain(|held| held.place != place);
                next.kept = [next.kept[1].clone(), newest];
            }
            Step::Unpin => {
                for pin in writer.needless_pins(state, self.broken) {
                    state.send(id, RequestBody::DeletePin(pin));
                }
                state.writers.insert(writer);
                return Some(());
            }
            Step::Remove => {
                state.used.removals += 1;
                if self.broken == Broken::UnpinsBeforeTombstone {
                    Self::unpin_all(state, id, writer.own.uuid);
                }
                next = Superblock::tombstone(next.number, id);
            }
        }
        let next = Arc::new(next);
        let body = RequestBody::PutSuperblock(writer.place, Arc::clone(&next));
        writer.outstanding = Some(next);
        state.writers.insert(writer);
        state.send(id, body);
        Some(())
    }

    /// The pins of the snapshot. The list has all that were there before it was asked for.
    fn look(&self, state: &State, writer: &Writer) -> Option<BTreeSet<Pin>> {
        let snapshot = writer.own.snapshot.as_ref()?.number;
        let held = Held {
            place: writer.place,
            snapshot,
        };
        let pins = state.store.volumes[writer.place].pins.iter().copied();
        let pins = pins.filter(|pin| pin.held == held && self.broken != Broken::ListIsLate);
        Some(pins.collect())
    }

    /// Whether any of the pins has a clone. Of one that has none it is made sure that none comes to be:
    /// a tombstone takes the number of its first superblock. Then the pin goes.
    fn settle(&self, state: &mut State, writer: &Writer) -> Option<bool> {
        let mut is_needed = false;
        for pin in writer.looked.as_ref()? {
            if self.broken == Broken::OrphanStays {
                is_needed = true;
                continue;
            }
            let volume = &mut state.store.volumes[pin.place];
            let living = volume.living();
            if living.is_some_and(|living| living.uuid == pin.uuid) {
                is_needed = true;
                continue;
            }
            if volume.makers.len() == pin.number && self.broken != Broken::OrphanUnfenced {
                let tombstone = Superblock::tombstone(pin.number, writer.id);
                volume.create(&Arc::new(tombstone));
            }
            state.send(writer.id, RequestBody::DeletePin(*pin));
        }
        Some(is_needed)
    }

    fn unpin_all(state: &mut State, id: Id, uuid: Id) {
        let pins: Vec<_> = state.pins_of(uuid).collect();
        for pin in pins {
            state.send(id, RequestBody::DeletePin(pin));
        }
    }

    /// The store's answer to a writer's superblock.
    pub(crate) fn writer_was_answered(
        &self,
        state: &mut State,
        writer: &Writer,
        superblock: &Arc<Superblock>,
        is_ours: bool,
    ) {
        if writer.outstanding.as_ref() != Some(superblock) {
            return;
        }
        state.writers.remove(writer);
        if !is_ours {
            return;
        }
        if superblock.is_tombstone {
            Self::unpin_all(state, writer.id, writer.own.uuid);
            return;
        }
        let is_marking = superblock
            .snapshot
            .as_ref()
            .is_some_and(|new| new.is_marked);
        let keeps_look = self.broken == Broken::LooksBeforeMark && is_marking;
        state.writers.insert(Writer {
            own: Arc::clone(superblock),
            outstanding: None,
            looked: writer.looked.clone().filter(|_| keeps_look),
            ..writer.clone()
        });
    }
}
