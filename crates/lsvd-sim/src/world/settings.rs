//! What a run is made of: its seed, and what is drawn from it.

use std::fmt;
use std::time::Duration;

use lsvd::{CheckpointOptions, Durability, FlushTarget, OpenOptions};

use crate::cloud::{Breach, Contract};
use crate::random::Random;

/// Of one run. Small, so that everything wraps, fills up and overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Decides all that is not said here.
    pub seed: u64,
    /// Lives of writers.
    pub lives: u32,
    /// Bytes of a data object.
    pub object_bytes: u64,
    /// Sectors of the volume.
    pub sectors: u64,
    /// What the store is like.
    pub contract: Contract,
    /// Whether a store is used that does not keep a second writer out.
    pub unsafe_no_fencing: bool,
}

impl Settings {
    /// Those of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let object_bytes = [16, 32, 64, 256][index(random.below(4))] << 10;
        let breach = match random.below(36) {
            0 => Some(Breach::Overwrites),
            1 => Some(Breach::Forgets),
            2 => Some(Breach::Hides),
            _ => None,
        };
        let list_lag = match random.below(4) {
            0 => Duration::from_millis(1 + random.below(3000)),
            _ => Duration::ZERO,
        };
        Self {
            seed,
            lives: 12,
            object_bytes,
            sectors: 2048,
            contract: Contract { breach, list_lag },
            unsafe_no_fencing: breach.is_some() && random.chance(70),
        }
    }

    /// How a volume is opened, the next time, with so many segments in its log.
    pub(super) fn open(
        &self,
        random: &mut Random,
        machine: usize,
        take_over: bool,
        segments: u64,
    ) -> OpenOptions {
        let segment = self.object_bytes * 9 / 8 + (68 << 10);
        OpenOptions {
            take_over,
            unsafe_no_fencing: self.unsafe_no_fencing,
            window: [1, 2, 3, 4][index(random.below(4))],
            log_bytes: segment * segments,
            seal_timeout: Duration::from_millis(1 + random.below(20)),
            retry_timeout: Duration::from_millis(20 + random.below(2000)),
            flush: match random.below(4) {
                0 => FlushTarget::Store,
                _ => FlushTarget::Local,
            },
            durability: match random.below(5) {
                0 => Durability::WriteThrough,
                _ => Durability::WriteBack,
            },
            checkpoint: CheckpointOptions {
                objects: [1, 2, 4, 8][index(random.below(4))],
                copied_bytes: 1 << random.below(22),
                part_bytes: 4096 << random.below(6),
            },
            ..OpenOptions::new(format!("machine {machine}"))
        }
    }
}

/// How long the log is to be that a writer asks for, beside what the one before asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogSize {
    Drawn,
    Same,
    Other,
}

impl LogSize {
    /// Segments, where there were so many before.
    pub(super) fn segments(self, random: &mut Random, before: u64) -> u64 {
        let fewest = 5;
        let beyond = before.saturating_sub(fewest);
        fewest
            + match self {
                Self::Drawn => random.below(12),
                Self::Same => beyond,
                Self::Other => (beyond + 1 + random.below(11)) % 12,
            }
    }
}

/// A small number as a place in a list.
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--seeds {}..{} -- --lives {}",
            self.seed,
            self.seed.saturating_add(1),
            self.lives
        )?;
        if let Some(breach) = self.contract.breach {
            write!(f, " ({breach:?})")?;
        }
        Ok(())
    }
}
