//! What a writer at work does: write, upload, look whether it is fenced, make checkpoints, remove what
//! nobody needs, close.
//!
//! What a writer sends may be on its way for any time, so it sends as soon as it may.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::history::Damage;
use crate::model::{Action, Process, Protocol, State};
use crate::rules::Broken;
use crate::search::End;
use crate::store::{
    Batch, Change, CheckpointName, CheckpointObject, DataName, DataObject, KeptCheckpoint, Line,
    Object, OpeningId, Removable, Store, Superblock,
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

impl Protocol {
    /// Sends all that the window allows.
    pub(crate) fn upload(&self, state: &mut State, host: usize) -> Option<()> {
        let serving = serving(state, host)?;
        let window = match self.broken {
            Broken::WindowExceeded => usize::MAX / 2,
            _ => self.bounds.window,
        };
        let until = serving.line.len().min(serving.answered_in_order() + window);
        let id = serving.id;
        let places = serving.sent..until;
        serving.sent = serving.sent.max(until);
        let objects: Vec<_> = places.map(|place| object(&serving.line, place)).collect();
        for object in objects {
            state.send(id, Object::Data(object));
        }
        Some(())
    }

    /// A batch of clients' writes is full or flushed, and in the log.
    pub(crate) fn write(&self, state: &mut State, host: usize) -> Option<()> {
        state.used.batches += 1;
        let serving = serving(state, host)?;
        let own = serving
            .line
            .iter()
            .filter(|batch| batch.epoch == serving.epoch);
        let batch = Batch {
            epoch: serving.epoch,
            sequence: u8::try_from(own.count()).ok()?,
            by: serving.id,
        };
        serving.line.push(batch);
        serving.answered.push(false);
        let logged = object(&serving.line, serving.line.len() - 1);
        let id = serving.id;
        state.hosts[host].log.as_mut()?.batches.push(logged);
        state.record(id).line.push(batch);
        self.upload(state, host)
    }

    /// The store's answer to something that a writer sent.
    pub(crate) fn writer_was_answered(
        &self,
        state: &mut State,
        host: usize,
        object: &Object,
        is_ours: bool,
    ) {
        let Some(serving) = serving(state, host) else {
            return;
        };
        match object {
            Object::Data(data) if is_ours => drop(self.batch_is_stored(state, host, data.batch)),
            Object::Checkpoint(stored) if is_ours => {
                if let Making::Storing(new) = serving.making
                    && new.name == stored.name
                {
                    self.name(state, host, new);
                }
            }
            Object::Superblock(sent) if serving.outstanding.contains(sent) => match is_ours {
                true => self.adopt(state, host, &Arc::clone(sent)),
                false => {
                    let serving = serving.clone();
                    if self.broken == Broken::FencedRemoves {
                        self.remove_unless_kept(state, &serving, &sent.checkpoints);
                    }
                    state.hosts[host].process = Process::None;
                }
            },
            Object::Superblock(_) => {}
            Object::Data(_) | Object::Checkpoint(_) => state.damage = Some(Damage::ForeignObject),
        }
    }

    fn batch_is_stored(&self, state: &mut State, host: usize, batch: Batch) -> Option<()> {
        let serving = serving(state, host)?;
        let place = serving.line.iter().position(|known| *known == batch)?;
        serving.answered[place] = true;
        let stored = serving.answered_in_order();
        match self.broken {
            Broken::NoFenceCheck => self.persist(state, host, stored)?,
            Broken::SegmentFreedWhenAnswered => {
                let log = state.hosts[host].log.as_mut()?;
                log.batches.retain(|logged| logged.batch != batch);
            }
            _ => {}
        }
        self.upload(state, host)
    }

    /// The first half of a fence check: the look. Gives nothing where this writer is no more.
    pub(crate) fn look(&self, state: &mut State, host: usize) -> Option<()> {
        if self.passes(state, host) {
            let serving = serving(state, host)?;
            serving.looked = Some(serving.answered_in_order());
        }
        Some(())
    }

    /// Looks at the next number, and at the one behind it where the first is its own. The process ends
    /// where it is another's.
    fn passes(&self, state: &mut State, host: usize) -> bool {
        loop {
            let Some(serving) = serving(state, host) else {
                return false;
            };
            let (number, ours) = (serving.own.number + 1, serving.outstanding.clone());
            match state.store.superblocks.get(&number).cloned() {
                None => return true,
                Some(next) if ours.contains(&next) => self.adopt(state, host, &next),
                Some(_) => {
                    state.hosts[host].process = Process::None;
                    return false;
                }
            }
        }
    }

    /// The second half: what was answered before the look began is persisted.
    pub(crate) fn conclude(&self, state: &mut State, host: usize) -> Option<()> {
        let serving = serving(state, host)?;
        let covered = serving.looked.take()?;
        let covered = match self.broken {
            Broken::CheckCoversItsEnd => serving.answered_in_order(),
            _ => covered,
        };
        self.persist(state, host, covered)
    }

    /// Flushes to the store are answered, and log segments used anew.
    fn persist(&self, state: &mut State, host: usize, count: usize) -> Option<()> {
        let serving = serving(state, host)?;
        serving.persisted = serving.persisted.max(count);
        let (id, persisted) = (serving.id, serving.persisted);
        let gone = serving.line[..persisted].to_vec();
        let log = state.hosts[host].log.as_mut()?;
        log.batches.retain(|logged| !gone.contains(&logged.batch));
        state.record(id).persisted = persisted;
        Some(())
    }

    /// Makes a checkpoint of all that is persisted.
    pub(crate) fn checkpoint(
        &self,
        state: &mut State,
        host: usize,
        incremental: bool,
    ) -> Option<()> {
        let serving = serving(state, host)?;
        let newest = serving.own.checkpoints.last().map(|newest| newest.name);
        if incremental && newest.is_none() {
            return None;
        }
        let line = serving.line[..serving.cut_of_next(self)].to_vec();
        let name = (serving.epoch, serving.next_checkpoint);
        serving.next_checkpoint += 1;
        serving.present.insert(name);
        let cut = *line.last()?;
        serving.making = Making::Storing(KeptCheckpoint { name, cut });
        let base = newest.filter(|_| incremental);
        let object = CheckpointObject { name, line, base };
        let id = serving.id;
        state.used.checkpoints += 1;
        state.send(id, Object::Checkpoint(Arc::new(object)));
        Some(())
    }

    /// The checkpoint is stored: a superblock names it beside the one before.
    fn name(&self, state: &mut State, host: usize, new: KeptCheckpoint) {
        let Some(serving) = serving(state, host) else {
            return;
        };
        let mut kept = serving.own.checkpoints.clone();
        kept.push(new);
        kept.drain(..kept.len().saturating_sub(CHECKPOINTS_KEPT));
        let named = kept.clone();
        let epochs_kept = self.bounds.epochs_kept;
        let draft = serving.advance(Change::Checkpoint, |next| {
            // The stream is walked from the older one on.
            if let [older, _newest] = named[..]
                && next.epochs.len() > epochs_kept
            {
                next.epochs.retain(|end| end.epoch >= older.cut.epoch);
            }
            next.checkpoints = named;
        });
        serving.making = Making::Naming;
        let serving = serving.clone();
        if self.broken == Broken::RemovesBeforeNamed {
            self.remove_unless_kept(state, &serving, &kept);
        }
        state.send(serving.id, draft);
    }

    /// Removes at once; only where a rule is broken.
    fn remove_unless_kept(&self, state: &mut State, serving: &Serving, kept: &[KeptCheckpoint]) {
        for name in serving.unneeded(state, kept, self) {
            state.send_delete(serving.id, name);
        }
    }

    /// A superblock of this writer is known to be there.
    fn adopt(&self, state: &mut State, host: usize, found: &Arc<Superblock>) {
        let Some(serving) = serving(state, host) else {
            return;
        };
        serving
            .outstanding
            .retain(|draft| draft.number > found.number);
        if found.number > serving.own.number {
            serving.own = Arc::clone(found);
        }
        match found.change {
            Change::Close => state.hosts[host].process = Process::None,
            Change::Checkpoint => self.find_unneeded(state, host),
            _ => {}
        }
    }

    /// Finds what is to be removed, with a list of the store at the first time.
    fn find_unneeded(&self, state: &mut State, host: usize) {
        let State { hosts, store, .. } = state;
        let Process::Serving(serving) = &mut hosts[host].process else {
            return;
        };
        if !serving.is_listed {
            serving.note_listed(store, self.broken);
        }
        let known = serving.clone();
        let unneeded = known.unneeded(state, &known.own.checkpoints, self);
        let making = match unneeded.is_empty() {
            true => Making::Nothing,
            false => Making::Removing(unneeded),
        };
        if let Process::Serving(serving) = &mut state.hosts[host].process {
            serving.making = making;
        }
    }

    /// Removes what nobody needs, behind a fence check. This is the one place where a writer removes
    /// objects: what of the stream goes here when it is dead is in [`crate::deletion`].
    pub(crate) fn remove_unneeded(&self, state: &mut State, host: usize) -> Option<()> {
        let is_unchecked = [Broken::RemovesNewer, Broken::RemovesUnchecked].contains(&self.broken);
        if !is_unchecked && !self.passes(state, host) {
            return Some(());
        }
        let serving = serving(state, host)?;
        let Making::Removing(unneeded) = std::mem::replace(&mut serving.making, Making::Nothing)
        else {
            return None;
        };
        let id = serving.id;
        for name in unneeded {
            let serving = self::serving(state, host)?;
            match name {
                Removable::Checkpoint(name) => drop(serving.present.remove(&name)),
                Removable::Data(name) => drop(serving.strays.remove(&name)),
                Removable::Superblock(_) => {}
            }
            state.send_delete(id, name);
        }
        Some(())
    }

    /// Says that nobody needs the log.
    pub(crate) fn close(&self, state: &mut State, host: usize) -> Option<()> {
        let serving = serving(state, host)?;
        let draft = serving.advance(Change::Close, |_| {});
        let id = serving.id;
        state.send(id, draft);
        Some(())
    }
}

fn object(line: &[Batch], place: usize) -> DataObject {
    DataObject {
        batch: line[place],
        predecessor: place.checked_sub(1).map(|before| line[before]),
    }
}

fn serving(state: &mut State, host: usize) -> Option<&mut Serving> {
    match &mut state.hosts[host].process {
        Process::Serving(serving) => Some(serving),
        _ => None,
    }
}
