//! What a kill and a loss of power leave.

use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::names::Names;
use super::{MemoryDisk, Request, State};
use crate::random::Random;

/// Which of the writes that were not synced, and of the names that are not durable, a loss of power
/// leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// All of them, as if the disk had been quick.
    All,
    /// None of them.
    None,
    /// Each unit by itself, old or new, as this seed has it; few, half or most of them.
    Random(u64),
}

impl MemoryDisk {
    /// The disk as it may be after a loss of power now, as the seed has it.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.crash_with(Survivors::Random(seed))
    }

    /// The disk as it is after a loss of power now. It is a new one that nobody has open; it has no
    /// faults, and holds nothing.
    #[must_use]
    pub fn crash_with(&self, survivors: Survivors) -> Self {
        let mut chooser = Chooser::new(survivors);
        self.after(&mut chooser, |names, chooser| {
            names.after_power_loss(chooser)
        })
    }

    /// The disk as it is when whoever uses it is killed now, and the machine goes on: all that was
    /// written is there, and what was not synced is not, so that a crash of the new disk may lose it.
    /// The seed tells which of the changes of names that are held were made.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        let mut chooser = Chooser::new(Survivors::Random(seed));
        self.after(&mut chooser, |names, _| names)
    }

    /// A new disk with a copy of all that is there, when what is held did what it may have done, and
    /// then with what `loss` leaves of it.
    fn after(
        &self,
        chooser: &mut Chooser,
        loss: impl FnOnce(Names, &mut Chooser) -> Names,
    ) -> Self {
        let state = self.shared.state.lock();
        let mut names = state.names.copy();
        for request in state.gate.requests() {
            carry_out(request, self.shared.unit, &mut names, chooser);
        }
        let after = State {
            names: loss(names, chooser),
            capacity: state.capacity,
            ..State::default()
        };
        Self::with(self.shared.path.clone(), self.shared.unit, after)
    }
}

/// What a request may have done already that was not carried out to its end. What it wrote is among
/// the content's writes.
pub(super) fn carry_out(request: &Request, unit: usize, names: &mut Names, chooser: &mut Chooser) {
    match request {
        Request::Rename { from, to } => {
            if chooser.happens() && names.contains(from) {
                names.rename(from, to);
            }
        }
        Request::Remove { name } => {
            if chooser.happens() {
                names.remove(name);
            }
        }
        Request::Create { name, bytes } => {
            if chooser.happens() && !names.contains(name) {
                let len = chooser.units(bytes / unit as u64) * unit as u64;
                names.create(name, Arc::new(Mutex::new(Content::new(unit, len))));
            }
        }
        Request::Open { .. } | Request::List | Request::Write { .. } | Request::Read { .. } => {}
    }
}

/// Decides what survives.
#[derive(Debug)]
pub(crate) struct Chooser {
    survivors: Survivors,
    random: Random,
    /// How many of a hundred units survive. Were it always half of them, no record of many units
    /// would ever survive, or be lost, as a whole.
    percent: u64,
}

impl Chooser {
    pub(crate) fn new(survivors: Survivors) -> Self {
        let seed = match survivors {
            Survivors::Random(seed) => seed,
            Survivors::All | Survivors::None => 0,
        };
        let mut random = Random::new(seed);
        let percent = match random.below(3) {
            0 => 3,
            1 => 50,
            _ => 97,
        };
        Self {
            survivors,
            random,
            percent,
        }
    }

    /// Whether something that was under way has happened.
    pub(super) fn happens(&mut self) -> bool {
        match self.survivors {
            Survivors::All => true,
            Survivors::None => false,
            Survivors::Random(_) => self.random.chance(50),
        }
    }

    /// Whether a unit of a write that was under way was written.
    pub(super) fn writes(&mut self) -> bool {
        self.versions(1) == 1
    }

    /// How many of `versions` versions of a unit were stored, one over the other.
    pub(super) fn versions(&mut self, versions: usize) -> usize {
        match self.survivors {
            Survivors::All => versions,
            Survivors::None => 0,
            Survivors::Random(_) => {
                let mut kept = 0;
                while kept < versions && self.random.chance(self.percent) {
                    kept += 1;
                }
                kept
            }
        }
    }

    /// How many of `units` units a file has that was being created.
    fn units(&mut self, units: u64) -> u64 {
        match self.survivors {
            Survivors::All => units,
            Survivors::None => 0,
            Survivors::Random(_) => self.random.below(units + 1),
        }
    }
}
