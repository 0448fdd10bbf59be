//! The search for the end of the stream, as an opener makes it behind its claim.

use std::collections::BTreeSet;

use crate::history::Damage;
use crate::store::{Batch, DataName, DataObject, EpochEnd, Line, Store, Superblock};

/// What an opener knows of a volume's stream before it searches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Search {
    /// The line of the newest checkpoint, and how much of it is before the cut of the older one.
    pub loaded: Line,
    /// From where the objects are looked at, as a length of the line.
    pub from: usize,
    /// The data objects that were there when the search began.
    pub seen: BTreeSet<DataName>,
}

/// The look at what is behind the end.
#[derive(Clone, Copy, Debug)]
pub struct FarLook {
    /// How far objects may lie behind a missing one, because they were under way at once.
    pub window: usize,
    /// Whether the missing one is looked at again before anything is called damage.
    pub is_repeated: bool,
}

/// An end that was found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct End {
    /// The stream, log included.
    pub line: Line,
    /// How much of it the store has.
    pub stored: usize,
    /// The epochs before that of the claim.
    pub epochs: Vec<EpochEnd>,
}

impl Search {
    /// Loads the newest checkpoint that `claim` names.
    ///
    /// # Errors
    /// It, or what it has pieces in, is not there.
    pub fn begin(store: &Store, claim: &Superblock) -> Result<Self, Damage> {
        let mut loaded = Line::new();
        let mut from = 0;
        if let Some(newest) = claim.checkpoints.last() {
            let object = store.checkpoints.get(&newest.name);
            let object = object.ok_or(Damage::CheckpointMissing)?;
            if object
                .base
                .is_some_and(|base| !store.checkpoints.contains_key(&base))
            {
                return Err(Damage::CheckpointMissing);
            }
            loaded.clone_from(&object.line);
        }
        if let [older, _newest] = claim.checkpoints[..] {
            let cut = loaded.iter().position(|batch| *batch == older.cut);
            from = cut.ok_or(Damage::Stream)? + 1;
        }
        Ok(Self {
            loaded,
            from,
            seen: store.data.keys().copied().collect(),
        })
    }

    /// The streams that it can find if it ends now. Headers are asked for several at once, so an
    /// object that came while it was going on may count as missing and the one before it not.
    ///
    /// # Errors
    /// Where the longest of them is not one stream.
    pub fn streams(
        &self,
        store: &Store,
        epochs: &[EpochEnd],
        skips_gaps: bool,
    ) -> Result<Vec<Line>, Damage> {
        let mut line = self.loaded[..self.from].to_vec();
        let mut found = Vec::new();
        let from = line.last().map_or(0, |last| last.epoch);
        for end in epochs.iter().filter(|end| end.epoch >= from) {
            let last = line.last().filter(|last| last.epoch == end.epoch);
            let mut sequence = last.map_or(0, |last| last.sequence + 1);
            let bound = end.objects.unwrap_or(u8::MAX);
            if sequence > bound {
                return Err(Damage::Stream);
            }
            while sequence < bound {
                let name = (end.epoch, sequence);
                let object = store.data.get(&name);
                let epoch = (end.epoch, sequence)..(end.epoch, bound);
                if skips_gaps && object.is_none() && store.data.range(epoch).next().is_some() {
                    sequence += 1;
                    continue;
                }
                if object.is_none() || !self.seen.contains(&name) {
                    found.push(line.clone());
                }
                let Some(object) = object else {
                    return Ok(found);
                };
                if object.predecessor.as_ref() != line.last() && !skips_gaps {
                    return Err(Damage::Stream);
                }
                line.push(object.batch);
                sequence += 1;
            }
        }
        found.push(line);
        Ok(found)
    }

    /// The end where the store's stream is `stream`, and what of `log` goes on from there.
    ///
    /// # Errors
    /// What the code refuses as damaged.
    pub fn end(
        &self,
        store: &Store,
        claim: &Superblock,
        stream: Line,
        (log, look): (&[DataObject], FarLook),
    ) -> Result<End, Damage> {
        let (_own, claimed) = claim.epochs.split_last().ok_or(Damage::Chain)?;
        if stream.len() < self.loaded.len() {
            return Err(Damage::Stream);
        }
        let from = self.loaded[..self.from].last().map_or(0, |last| last.epoch);
        let ends = claimed.iter().map(|end| EpochEnd {
            epoch: end.epoch,
            objects: match end.epoch < from {
                true => end.objects,
                false => Some(count(&stream, end.epoch)),
            },
        });
        let mut end = End {
            stored: stream.len(),
            epochs: ends.collect(),
            line: stream,
        };
        end.extend(log)?;
        if claim.persisted.map(Batch::name) > end.line.last().copied().map(Batch::name) {
            return Err(Damage::Gap);
        }
        end.refuse_far_objects(store, claimed, look)?;
        Ok(end)
    }
}

impl End {
    fn extend(&mut self, log: &[DataObject]) -> Result<(), Damage> {
        let stored = self.line.last().map(|last| last.name());
        let mut behind: Vec<_> = log.iter().collect();
        behind.retain(|logged| Some(logged.batch.name()) > stored);
        behind.sort_unstable();
        for logged in behind {
            // All of the log was synced: what does not follow was damaged.
            if logged.predecessor.as_ref() != self.line.last() {
                return Err(Damage::Log);
            }
            let mut epochs = self.epochs.iter_mut();
            let epoch = epochs.find(|end| end.epoch == logged.batch.epoch);
            epoch.ok_or(Damage::Log)?.objects = Some(logged.batch.sequence + 1);
            self.line.push(logged.batch);
        }
        Ok(())
    }

    /// Refuses an object so far behind the end that it cannot have been under way at once with the
    /// one that is missing.
    fn refuse_far_objects(
        &self,
        store: &Store,
        claimed: &[EpochEnd],
        FarLook {
            window,
            is_repeated,
        }: FarLook,
    ) -> Result<(), Damage> {
        let mut missing = None;
        let last = self.line.last().map_or(0, |last| last.epoch);
        let mut distance = 0;
        for (found, claimed) in self.epochs.iter().zip(claimed) {
            if found.epoch < last {
                continue;
            }
            let from = usize::from(found.objects.unwrap_or_default());
            let bound = claimed.objects.map_or(usize::MAX, usize::from);
            for sequence in from..bound.min(from + 2 * window - distance) {
                let sequence = u8::try_from(sequence).expect("the bounds are small");
                let is_there = store.data.contains_key(&(found.epoch, sequence));
                let first_is_there = *missing.get_or_insert(is_there);
                if is_there && distance >= window {
                    // The writer that is taken over does not know of it yet, and stored what was
                    // missing, and more.
                    return match is_repeated && first_is_there {
                        true => Ok(()),
                        false => Err(Damage::Gap),
                    };
                }
                distance += 1;
            }
        }
        Ok(())
    }
}

fn count(line: &[Batch], epoch: u8) -> u8 {
    let last = line.iter().rev().find(|batch| batch.epoch == epoch);
    last.map_or(0, |last| last.sequence + 1)
}
