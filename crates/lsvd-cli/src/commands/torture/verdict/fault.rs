//! What can be wrong with a state, and how a report names it.

use std::fmt;

/// What is wrong with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Fault {
    /// A change that a flush or FUA made durable is not, or not wholly, there.
    FlushedLost,
    /// An answered change is not there although the server was never killed.
    AnsweredLost,
    /// A change is there, and one that ended before it was sent is not.
    OutOfOrder,
    /// A change is there in part.
    TornWrite,
    /// A sector shows an older state than the base, or a change that was found lost before.
    StaleSector,
    /// A sector shows bytes that no write had.
    TornSector,
    /// A sector shows what was written to another address.
    MisplacedSector,
    /// A sector shows zeroes and nothing made it so.
    ZeroedSector,
}

impl Fault {
    pub(in super::super) const ALL: [Self; 8] = [
        Self::FlushedLost,
        Self::AnsweredLost,
        Self::OutOfOrder,
        Self::TornWrite,
        Self::StaleSector,
        Self::TornSector,
        Self::MisplacedSector,
        Self::ZeroedSector,
    ];

    /// Whether a state that has it is no prefix: one that lacks what was flushed can be one.
    pub(super) const fn breaks_prefix(self) -> bool {
        !matches!(self, Self::FlushedLost | Self::AnsweredLost)
    }

    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::FlushedLost => "flushed writes lost",
            Self::AnsweredLost => "answered writes lost",
            Self::OutOfOrder => "writes there although one before them is not",
            Self::TornWrite => "torn writes",
            Self::StaleSector => "stale sectors",
            Self::TornSector => "torn sectors",
            Self::MisplacedSector => "misplaced sectors",
            Self::ZeroedSector => "sectors zeroed by nobody",
        }
    }
}

/// How often a fault was found, and the first places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Found {
    pub(in super::super) count: u64,
    pub(in super::super) examples: Vec<String>,
}

/// Examples that are kept of each fault.
const EXAMPLES_MAX: usize = 4;

impl Found {
    pub(super) fn add(&mut self, example: impl fmt::Display) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example.to_string());
        }
    }

    /// Takes another state's in.
    pub(in super::super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples
            .extend(other.examples.iter().take(room).cloned());
    }
}
