//! What a writer at work does: write, upload, look whether it is fenced, make checkpoints, remove what
//! nobody needs, close.
//!
//! What a writer sends may be on its way for any time, so it sends as soon as it may.

use std::sync::Arc;

use super::{CHECKPOINTS_KEPT, Making, Serving};
use crate::history::Damage;
use crate::model::{Process, Protocol, State};
use crate::rules::Broken;
use crate::store::{
    Batch, Change, CheckpointObject, DataObject, KeptCheckpoint, Object, Removable, Superblock,
};

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
