//! What a loss of power leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::{MemoryDisk, NamedFile, Request, State};
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
        let state = self.shared.state.lock();
        let mut files = BTreeMap::new();
        for (name, file) in &state.files {
            if file.name_is_durable || chooser.happens() {
                let content = file.content.lock().crash(&mut chooser);
                files.insert(name.clone(), durable(content));
            }
        }
        for request in state.gate.requests() {
            carry_out(request, self.shared.unit, &mut files, &mut chooser);
        }
        let after = State {
            files,
            capacity: state.capacity,
            ..State::default()
        };
        Self::with(self.shared.path.clone(), self.shared.unit, after)
    }
}

fn durable(content: Content) -> NamedFile {
    NamedFile {
        content: Arc::new(Mutex::new(content)),
        name_is_durable: true,
    }
}

/// What a request that is held may have done already. What it wrote is among the content's writes.
fn carry_out(
    request: &Request,
    unit: usize,
    files: &mut BTreeMap<String, NamedFile>,
    chooser: &mut Chooser,
) {
    match request {
        Request::Rename { from, to } => {
            if chooser.happens()
                && let Some(file) = files.remove(from)
            {
                files.insert(to.clone(), file);
            }
        }
        Request::Remove { name } => {
            if chooser.happens() {
                files.remove(name);
            }
        }
        Request::Create { name, bytes } => {
            if chooser.happens() && !files.contains_key(name) {
                let len = chooser.units(bytes / unit as u64) * unit as u64;
                files.insert(name.clone(), durable(Content::new(unit, len)));
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
    fn happens(&mut self) -> bool {
        match self.survivors {
            Survivors::All => true,
            Survivors::None => false,
            Survivors::Random(_) => self.random.chance(50),
        }
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
