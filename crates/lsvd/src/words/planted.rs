//! Planted faults: what tests that should find a fault are tried on. Without the feature `planted`
//! there are none, and asking costs nothing.

/// A fault that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The log lists the writes between two flushes in another order than the batch.
    BatchOrder,
    /// The segment of a batch is free when the batch before it is persisted.
    SegmentEarly,
    /// The segment of a batch is free when the store has answered, before the fence check.
    SegmentAnswered,
    /// A checkpoint waits for the uploads of what it names to begin, not to be persisted.
    CheckpointEarly,
    /// A checkpoint keeps the objects that it needs itself, and not those of the one before it.
    CheckpointOlder,
    /// The log of another writer than the last one is replayed.
    ForeignLog,
    /// The replay of the log begins with what is persisted, over what came after it.
    StaleReplay,
    /// The replay of the log forgets discards and zeroes.
    ReplayDiscard,
    /// The end of the stream is searched before the claim.
    EndBeforeClaim,
    /// A writer that was taken over goes on to remove what it needs no longer.
    FencedRemoves,
    /// An opening removes all data objects behind the end that it found.
    OpenerRemoves,
    /// A flush is answered before the log has what it is about.
    FlushEarly,
    /// A flush is answered without a look whether another writer took over.
    FlushUnchecked,
    /// The log is written and never synced, which only the loss of power shows.
    LogSync,
    /// The name of a log that is found is not made durable again, which only the loss of power shows.
    LogName,
    /// The directory of a store is not synced behind a new name, which only the loss of power shows.
    DirectorySync,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::BatchOrder,
        Self::SegmentEarly,
        Self::SegmentAnswered,
        Self::CheckpointEarly,
        Self::CheckpointOlder,
        Self::ForeignLog,
        Self::StaleReplay,
        Self::ReplayDiscard,
        Self::EndBeforeClaim,
        Self::FencedRemoves,
        Self::OpenerRemoves,
        Self::FlushEarly,
        Self::FlushUnchecked,
        Self::LogSync,
        Self::LogName,
        Self::DirectorySync,
    ];

    /// What `LSVD_PLANT` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BatchOrder => "batch-order",
            Self::SegmentEarly => "segment-early",
            Self::SegmentAnswered => "segment-answered",
            Self::CheckpointEarly => "checkpoint-early",
            Self::CheckpointOlder => "checkpoint-older",
            Self::ForeignLog => "foreign-log",
            Self::StaleReplay => "stale-replay",
            Self::ReplayDiscard => "replay-discard",
            Self::EndBeforeClaim => "end-before-claim",
            Self::FencedRemoves => "fenced-removes",
            Self::OpenerRemoves => "opener-removes",
            Self::FlushEarly => "flush-early",
            Self::FlushUnchecked => "flush-unchecked",
            Self::LogSync => "log-sync",
            Self::LogName => "log-name",
            Self::DirectorySync => "directory-sync",
        }
    }
}

/// Whether the fault is planted in this process: never.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn is(_fault: Fault) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use process::{is, plant};

#[cfg(feature = "planted")]
mod process {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Fault;

    /// One bit for each; at first what the variable `LSVD_PLANT` names, a list with commas between.
    static PLANTED: LazyLock<AtomicU32> = LazyLock::new(|| {
        let names = std::env::var("LSVD_PLANT").unwrap_or_default();
        let named = |fault: &Fault| names.split(',').any(|name| name == fault.name());
        let faults = Fault::ALL.into_iter().filter(named);
        AtomicU32::new(faults.fold(0, |bits, fault| bits | bit(fault)))
    });

    const fn bit(fault: Fault) -> u32 {
        1 << fault as u32
    }

    /// Whether the fault is planted in this process.
    #[must_use]
    pub fn is(fault: Fault) -> bool {
        PLANTED.load(Ordering::Relaxed) & bit(fault) != 0
    }

    /// Plants this fault in this process, and no other one.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.store(fault.map_or(0, bit), Ordering::Relaxed);
    }
}
