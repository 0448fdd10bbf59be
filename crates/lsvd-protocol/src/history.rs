//! What truly happened, which nobody in the model can see: who served, what was written and what was
//! promised. Properties compare the store with it.

use crate::store::{Batch, Line, OpeningId};

/// One opening that got as far as serving the volume.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Served {
    /// The opening.
    pub id: OpeningId,
    /// The volume.
    pub volume: u8,
    /// Its epoch.
    pub epoch: u8,
    /// All that it found, and all that was written to it behind that. A batch is here from when it is
    /// in the synced log, so all of it was flushed to the log.
    pub line: Line,
    /// How many batches of the line it found.
    pub found: usize,
    /// How many batches of the line it reported as persisted.
    pub persisted: usize,
    /// The opening that served with the log before that it found as the last writer's.
    pub own_log_of: Option<OpeningId>,
}

impl Served {
    /// What it found.
    #[must_use]
    pub fn start(&self) -> &[Batch] {
        &self.line[..self.found]
    }

    /// What it reported as persisted.
    #[must_use]
    pub fn promised(&self) -> &[Batch] {
        &self.line[..self.persisted]
    }
}

/// Something that an opener was told although no fault of the store or of a disk can be its cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Damage {
    /// A superblock does not follow the one before it.
    Chain,
    /// A checkpoint that the superblock names is not there.
    CheckpointMissing,
    /// An object does not follow the one before it, or the stream ends before a cut.
    Stream,
    /// An object is missing that was persisted, or that others are too far behind.
    Gap,
    /// The log does not go on from where the stream ends, or is of an epoch that is not listed.
    Log,
    /// A name that a writer wanted holds something else.
    ForeignObject,
}
