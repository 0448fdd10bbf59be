//! What an opener does: find the newest superblock, claim the next epoch, search the end of the stream,
//! and fix it.
//!
//! A crash ends an opener at any of its steps, and what it had sent arrives or not; an error that ends
//! it without a crash is no different. So there are no errors here but those that tell that another
//! one has the volume.

use std::sync::Arc;

use crate::history::{Damage, Served};
use crate::model::{Action, Log, Process, Protocol, State};
use crate::rules::Broken;
use crate::search::{End, FarLook, Search};
use crate::serving::Serving;
use crate::store::{Change, EpochEnd, Line, Object, OpeningId, Superblock};

/// An opener's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Opening {
    /// Which opening it is.
    pub id: OpeningId,
    /// The log that it found is that of the last writer.
    pub is_own: bool,
    /// That writer did not close, so the log has to be replayed.
    pub replays: bool,
    /// How far it is.
    pub step: Step,
}

/// How far an opener is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Its claim is on its way.
    Claiming {
        /// The claim.
        claim: Arc<Superblock>,
        /// The end that was searched too early; only where that rule is broken.
        early: Option<End>,
    },
    /// Its claim is there.
    Claimed(Arc<Superblock>),
    /// It searches the end of the stream.
    Searching(Arc<Superblock>, Search),
    /// The superblock that says where the epochs end is on its way.
    Fixing {
        /// That superblock.
        fixed: Arc<Superblock>,
        /// What it found.
        end: End,
    },
}

impl Opening {
    /// What it may do next.
    pub fn actions(&self, model: &Protocol, state: &State, host: usize, actions: &mut Vec<Action>) {
        match &self.step {
            Step::Claiming { .. } | Step::Fixing { .. } => {}
            Step::Claimed(_) => actions.push(Action::BeginSearch(host)),
            Step::Searching(claim, search) => {
                let streams = model.streams(state, claim, search);
                let count = streams.map_or(1, |streams| streams.len());
                actions.extend((0..count).map(|stream| Action::EndSearch { host, stream }));
            }
        }
    }
}

impl Protocol {
    /// Finds the newest superblock, looks at the log, and claims. The opener may be stalled between
    /// these, which is the same as a claim that is long on its way.
    pub(crate) fn open(&self, state: &mut State, host: usize, list_is_old: bool) -> Option<()> {
        let Ok(newest) = state.store.find_newest(list_is_old) else {
            state.damage = Some(Damage::Chain);
            return Some(());
        };
        let newest = Arc::clone(newest);
        if newest.change == Change::Tombstone {
            return None;
        }
        let id = state.next_id();
        let found = state.hosts[host].log.as_ref();
        let is_ours =
            |log: &Log| newest.log == Some(log.id) || self.broken == Broken::ForeignLogReplayed;
        let is_own = found.is_some_and(is_ours);
        if !is_own {
            // Another's is set aside under a name of its own, and never looked at again.
            state.hosts[host].log = Some(Log {
                id,
                batches: Vec::new(),
                last: None,
            });
        }
        let log = state.hosts[host].log.as_ref()?.id;
        let claim = Arc::new(self.claim_behind(&newest, (id, log)));
        let early = match self.broken == Broken::SearchBeforeClaim {
            true => self.search_at_once(state, host, &claim),
            false => None,
        };
        state.send(id, Object::Superblock(Arc::clone(&claim)));
        state.hosts[host].process = Process::Opening(Opening {
            id,
            is_own: is_own && newest.log == Some(log),
            replays: is_own && !newest.is_closed(),
            step: Step::Claiming { claim, early },
        });
        Some(())
    }

    /// A claim of the next epoch. That of a claim which nothing followed has no objects, and leaves.
    fn claim_behind(&self, newest: &Superblock, (id, log): (OpeningId, OpeningId)) -> Superblock {
        let mut epochs = newest.epochs.clone();
        if newest.change == Change::Claim || self.broken == Broken::EpochForgotten {
            epochs.pop();
        }
        epochs.push(EpochEnd {
            epoch: newest.next_epoch(),
            objects: None,
        });
        Superblock {
            epochs,
            log: Some(log),
            ..newest.next(id, Change::Claim)
        }
    }

    fn search_at_once(&self, state: &State, host: usize, claim: &Superblock) -> Option<End> {
        let search = Search::begin(&state.store, claim).ok()?;
        let stream = self.streams(state, claim, &search).ok()?.pop()?;
        let log = &state.hosts[host].log.as_ref()?.batches;
        let look = self.far_look();
        search.end(&state.store, claim, stream, (log, look)).ok()
    }

    fn far_look(&self) -> FarLook {
        FarLook {
            window: self.bounds.window,
            is_repeated: self.broken != Broken::GapNotLookedAtAgain,
        }
    }

    pub(crate) fn streams(
        &self,
        state: &State,
        claim: &Superblock,
        search: &Search,
    ) -> Result<Vec<Line>, Damage> {
        let (_own, before) = claim.epochs.split_last().ok_or(Damage::Chain)?;
        let skips_gaps = self.broken == Broken::GapSkipped;
        match self.broken == Broken::FixedEndIgnored {
            true => {
                let open = before.iter().map(|end| EpochEnd {
                    objects: None,
                    ..*end
                });
                search.streams(&state.store, &open.collect::<Vec<_>>(), skips_gaps)
            }
            false => search.streams(&state.store, before, skips_gaps),
        }
    }

    /// Loads the checkpoint, and sees what is there when the search begins.
    pub(crate) fn begin_search(&self, state: &mut State, host: usize) -> Option<()> {
        let opening = opening(state, host)?;
        let Step::Claimed(claim) = &opening.step else {
            return None;
        };
        let claim = Arc::clone(claim);
        match Search::begin(&state.store, &claim) {
            Err(damage) => refuse(state, host, &claim, damage),
            Ok(search) => opening_mut(state, host)?.step = Step::Searching(claim, search),
        }
        Some(())
    }

    /// Ends the search, goes on in the log, and says where the epochs end.
    pub(crate) fn end_search(&self, state: &mut State, host: usize, stream: usize) -> Option<()> {
        let Opening { replays, step, .. } = opening(state, host)?.clone();
        let Step::Searching(claim, search) = step else {
            return None;
        };
        let log = &state.hosts[host].log.as_ref()?.batches;
        let log = match replays {
            true => &log[..],
            false => &[],
        };
        let look = self.far_look();
        let end = self.streams(state, &claim, &search).and_then(|mut found| {
            let stream = found.swap_remove(stream);
            search.end(&state.store, &claim, stream, (log, look))
        });
        match end {
            Err(damage) => refuse(state, host, &claim, damage),
            Ok(end) if self.broken == Broken::EndsNotFixed => {
                self.serve(state, host, &claim, &end)?;
            }
            Ok(end) => fix(state, host, &claim, end)?,
        }
        Some(())
    }

    /// The store's answer to a superblock of an opener.
    pub(crate) fn opener_was_answered(
        &self,
        state: &mut State,
        host: usize,
        object: &Object,
        is_ours: bool,
    ) {
        let Some(Opening { id, step, .. }) = opening(state, host).cloned() else {
            return;
        };
        let Object::Superblock(sent) = object else {
            return;
        };
        match step {
            Step::Claiming { claim, early } if claim == *sent => match (is_ours, early) {
                (true, Some(end)) => drop(fix(state, host, &claim, end)),
                (true, None) => set_step(state, host, Step::Claimed(claim)),
                (false, _) => self.claim_again(state, host, (id, &claim)),
            },
            Step::Fixing { fixed, end } if fixed == *sent => match is_ours {
                true => drop(self.serve(state, host, &fixed, &end)),
                false => state.hosts[host].process = Process::None,
            },
            _ => {}
        }
    }

    /// The number of the claim is taken: by the writer that is taken over, who does not know of it, or
    /// by another that takes over, to whom this one gives way.
    fn claim_again(
        &self,
        state: &mut State,
        host: usize,
        (id, lost): (OpeningId, &Arc<Superblock>),
    ) {
        let winner = Arc::clone(&state.store.superblocks[&lost.number]);
        let claim = if self.broken == Broken::ClaimOneHigher {
            Some(Superblock {
                number: lost.number + 1,
                predecessor: Some(winner.by),
                ..(**lost).clone()
            })
        } else {
            let own_epoch = lost.epochs.last().map(|own| own.epoch);
            let is_same_writer = |found: &Superblock| Some(found.next_epoch()) == own_epoch;
            let newest = state.store.find_newest(false).ok();
            let newest = newest.filter(|newest| is_same_writer(&winner) && is_same_writer(newest));
            let log = lost.log.unwrap_or(id);
            newest.map(|newest| self.claim_behind(newest, (id, log)))
        };
        let Some(claim) = claim.map(Arc::new) else {
            state.hosts[host].process = Process::None;
            return;
        };
        state.send(id, Object::Superblock(Arc::clone(&claim)));
        let early = None;
        set_step(state, host, Step::Claiming { claim, early });
    }

    /// The ends are fixed: what was found of the stream is persisted, and clients may come.
    fn serve(
        &self,
        state: &mut State,
        host: usize,
        own: &Arc<Superblock>,
        end: &End,
    ) -> Option<()> {
        let Opening { id, is_own, .. } = *opening(state, host)?;
        let epoch = own.epochs.last()?.epoch;
        let log = state.hosts[host].log.as_mut()?;
        let stored = &end.line[..end.stored];
        log.batches.retain(|logged| !stored.contains(&logged.batch));
        let own_log_of = log.last.filter(|_| is_own);
        log.last = Some(id);
        state.served.push(Served {
            id,
            volume: own.volume,
            epoch,
            found: end.line.len(),
            persisted: end.stored,
            line: end.line.clone(),
            own_log_of,
        });
        let serving = Serving::new(id, epoch, Arc::clone(own), end);
        state.hosts[host].process = Process::Serving(Box::new(serving));
        self.upload(state, host)
    }
}

/// Sends the superblock that says where the epochs before end.
fn fix(state: &mut State, host: usize, claim: &Superblock, end: End) -> Option<()> {
    let id = opening(state, host)?.id;
    let mut epochs = end.epochs.clone();
    epochs.retain(|end| end.objects != Some(0));
    epochs.push(*claim.epochs.last()?);
    let fixed = Arc::new(Superblock {
        epochs,
        persisted: end.line[..end.stored].last().copied(),
        ..claim.next(id, Change::FixEnds)
    });
    state.send(id, Object::Superblock(Arc::clone(&fixed)));
    set_step(state, host, Step::Fixing { fixed, end });
    Some(())
}

/// The opening fails. An opener that was overtaken meanwhile may miss what its successor removed.
fn refuse(state: &mut State, host: usize, claim: &Arc<Superblock>, damage: Damage) {
    if state.newest() == claim {
        state.damage = Some(damage);
    }
    state.hosts[host].process = Process::None;
}

fn opening(state: &State, host: usize) -> Option<&Opening> {
    match &state.hosts[host].process {
        Process::Opening(opening) => Some(opening),
        _ => None,
    }
}

fn opening_mut(state: &mut State, host: usize) -> Option<&mut Opening> {
    match &mut state.hosts[host].process {
        Process::Opening(opening) => Some(opening),
        _ => None,
    }
}

fn set_step(state: &mut State, host: usize, step: Step) {
    if let Some(opening) = opening_mut(state, host) {
        opening.step = step;
    }
}
