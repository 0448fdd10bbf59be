//! What a writer at work knows, and what it may do next.

mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Action, Protocol, State};
use crate::rules::Broken;
use crate::search::End;
use crate::store::{
    Change, CheckpointName, DataName, KeptCheckpoint, Line, Object, OpeningId, Removable, Store,
    Superblock,
};

/// Checkpoints that are kept.
const CHECKPOINTS_KEPT: usize = 2;

/// A writer's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Serving {
    /// Which opening it is.
    pub id: OpeningId,
    /// Its epoch.
    pub epoch: u8,
    /// The newest superblock that it knows to be its own.
    pub own: Arc<Superblock>,
    /// Superblocks of its own of which it does not know what became of them: one at most.
    pub outstanding: Vec<Arc<Superblock>>,
    /// All that is in the volume.
    pub line: Line,
    /// Which batches of the line are stored, as it knows.
    pub answered: Vec<bool>,
    /// How many batches of the line were sent.
    pub sent: usize,
    /// How many batches of the line are persisted.
    pub persisted: usize,
    /// How many batches had been answered in order when a look began that found nothing.
    pub looked: Option<usize>,
    /// The checkpoint under way.
    pub making: Making,
    /// Number of the next checkpoint.
    pub next_checkpoint: u8,
    /// Checkpoints that may be there.
    pub present: BTreeSet<CheckpointName>,
    /// Data objects that are there and are of no stream.
    pub strays: BTreeSet<DataName>,
    /// Whether those of earlier epochs are among them.
    pub is_listed: bool,
}

/// How far a checkpoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Making {
    /// There is none under way.
    Nothing,
    /// Its object is on its way.
    Storing(KeptCheckpoint),
    /// The superblock that names it is on its way.
    Naming,
    /// It is named, and this is to be removed.
    Removing(Vec<Removable>),
}

impl Serving {
    /// A writer whose newest superblock is there.
    #[must_use]
    pub fn new(id: OpeningId, epoch: u8, own: Arc<Superblock>, end: &End) -> Self {
        Self {
            id,
            epoch,
            own,
            outstanding: Vec::new(),
            line: end.line.clone(),
            answered: (0..end.line.len())
                .map(|place| place < end.stored)
                .collect(),
            sent: end.stored,
            persisted: end.stored,
            looked: None,
            making: Making::Nothing,
            next_checkpoint: 0,
            present: BTreeSet::new(),
            strays: BTreeSet::new(),
            is_listed: false,
        }
    }

    /// How many batches are stored in order.
    fn answered_in_order(&self) -> usize {
        self.answered.iter().take_while(|is| **is).count()
    }

    /// How many batches are before the cut of the newest checkpoint.
    fn cut(&self) -> usize {
        let newest = self.own.checkpoints.last();
        let place = newest.and_then(|newest| self.line.iter().position(|b| *b == newest.cut));
        place.map_or(0, |place| place + 1)
    }

    fn is_closing(&self) -> bool {
        let mut outstanding = self.outstanding.iter();
        outstanding.any(|draft| draft.change == Change::Close)
    }

    /// What it may do next.
    pub fn actions(&self, model: &Protocol, state: &State, host: usize, actions: &mut Vec<Action>) {
        let (bounds, used) = (&model.bounds, &state.used);
        if used.batches < bounds.batches && !self.is_closing() {
            actions.push(Action::Write(host));
        }
        let next = self.own.number + 1;
        let is_due = self.answered_in_order() > self.persisted
            || state.store.superblocks.contains_key(&next);
        match self.looked {
            Some(_) => actions.push(Action::Conclude(host)),
            None if is_due => actions.push(Action::Look(host)),
            None => {}
        }
        match self.making {
            Making::Nothing if self.may_make_checkpoint(model, state) => {
                for incremental in [false, true] {
                    actions.push(Action::Checkpoint { host, incremental });
                }
            }
            Making::Removing(_) => actions.push(Action::RemoveUnneeded(host)),
            _ => {}
        }
        if self.may_close(model) {
            actions.push(Action::Close(host));
        }
    }

    fn may_make_checkpoint(&self, model: &Protocol, state: &State) -> bool {
        let is_new = self.cut_of_next(model) > self.cut();
        is_new && self.outstanding.is_empty() && state.used.checkpoints < model.bounds.checkpoints
    }

    /// Where the next checkpoint cuts. It is stored when all before its cut is persisted, so the
    /// longest such cut stands for all.
    fn cut_of_next(&self, model: &Protocol) -> usize {
        match model.broken {
            Broken::CheckpointTooEarly => self.line.len(),
            _ => self.persisted,
        }
    }

    /// All is persisted, and a checkpoint with it.
    fn may_close(&self, model: &Protocol) -> bool {
        if self.is_closing() {
            return false;
        }
        if model.broken == Broken::CleanTooEarly {
            return self.outstanding.is_empty();
        }
        let newest = match model.broken {
            Broken::TwoOutstanding => self.outstanding.last().unwrap_or(&self.own),
            _ => &self.own,
        };
        let is_settled = self.outstanding.is_empty() || model.broken == Broken::TwoOutstanding;
        let cut = newest.checkpoints.last().map(|newest| newest.cut);
        let is_idle = !matches!(self.making, Making::Storing(_) | Making::Removing(_));
        is_settled
            && is_idle
            && self.persisted == self.line.len()
            && cut.as_ref() == self.line.last()
    }

    /// The next superblock. It waits in `outstanding` until it is known what became of it.
    fn advance(&mut self, change: Change, alter: impl FnOnce(&mut Superblock)) -> Object {
        let newest = self.outstanding.last().unwrap_or(&self.own);
        let mut next = newest.next(self.id, change);
        let persisted = self.line[..self.persisted].last().copied();
        next.persisted = persisted.max(newest.persisted);
        alter(&mut next);
        let next = Arc::new(next);
        self.outstanding.push(Arc::clone(&next));
        Object::Superblock(next)
    }

    /// What is there and no kept checkpoint needs, and data objects of no stream.
    fn unneeded(&self, state: &State, kept: &[KeptCheckpoint], model: &Protocol) -> Vec<Removable> {
        let mut needed = BTreeSet::new();
        for kept in kept {
            needed.insert(kept.name);
            let object = state.store.checkpoints.get(&kept.name);
            let base = object.and_then(|object| object.base);
            needed.extend(base.filter(|_| model.broken != Broken::RemovesReferenced));
        }
        let checkpoints = self.present.difference(&needed).copied();
        let mut unneeded: Vec<_> = checkpoints.map(Removable::Checkpoint).collect();
        unneeded.extend(self.strays.iter().copied().map(Removable::Data));
        unneeded
    }

    /// Notes what earlier openings of the volume left in the store.
    fn note_listed(&mut self, store: &Store, broken: Broken) {
        let epochs = self.own.first_epoch..self.epoch;
        let checkpoints = store.checkpoints.keys().copied();
        let checkpoints = checkpoints.filter(|name| epochs.contains(&name.0));
        self.present.extend(checkpoints);
        let is_newer = |epoch: u8| epoch >= self.epoch && broken == Broken::RemovesNewer;
        let data = store.data.keys().copied();
        let data = data.filter(|name| epochs.contains(&name.0) || is_newer(name.0));
        let strays = data.filter(|name| self.is_stray(*name, broken));
        self.strays = strays.collect();
        self.is_listed = true;
    }

    /// Whether a data object is certainly of no stream. The line has all of the stream, also of epochs
    /// that have left the list; where the list knows the end of an epoch both must say so.
    fn is_stray(&self, name: DataName, broken: Broken) -> bool {
        let (epoch, sequence) = name;
        let end = self.own.epochs.iter().find(|end| end.epoch == epoch);
        let is_behind = end.is_none_or(|end| end.objects.is_some_and(|end| sequence >= end));
        let mut line = self.line.iter();
        let is_in_line = line.any(|batch| batch.name() == name);
        is_behind && (!is_in_line || broken == Broken::StraysByListAlone)
    }
}
