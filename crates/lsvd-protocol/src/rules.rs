//! The rules of the protocol that can be broken, one at a time, to see that the checker notices.

/// A rule that is broken, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Nothing is broken: the protocol as it is.
    Nothing,
    /// The end of the stream is searched before the claim is there.
    SearchBeforeClaim,
    /// An opener serves without a superblock that fixes the ends of the epochs before.
    EndsNotFixed,
    /// An opener reads on behind an end that was fixed.
    FixedEndIgnored,
    /// An opener goes on behind an object that is missing.
    GapSkipped,
    /// An object that was missing is not looked at again before others far behind it are taken for a
    /// sign of damage.
    GapNotLookedAtAgain,
    /// A claim leaves out the epoch of the writer before, although that fixed the ends and served.
    EpochForgotten,
    /// A claim that lost its number takes the next one without a look at what the winner says.
    ClaimOneHigher,
    /// What was answered counts as persisted without a look at the next superblock.
    NoFenceCheck,
    /// A fence check covers what was answered before its end, not before its beginning.
    CheckCoversItsEnd,
    /// A writer makes a superblock while it is not known what became of the one before.
    TwoOutstanding,
    /// A checkpoint is made and named of batches that are not persisted.
    CheckpointTooEarly,
    /// Checkpoints are removed before the superblock that makes them needless is there.
    RemovesBeforeNamed,
    /// A writer whose number was taken by who took over removes what its own superblock would have
    /// made needless.
    FencedRemoves,
    /// Nothing but the fence check before a removal is left out.
    RemovesUnchecked,
    /// A checkpoint is removed although a kept one has pieces in it.
    RemovesReferenced,
    /// Strays are looked for in later epochs than the own one, too, and removed without a fence
    /// check. Each of the two alone keeps a fenced writer from its successor's objects.
    RemovesNewer,
    /// An epoch that the list does not name counts as one without objects: what is of the stream there
    /// is not looked up.
    StraysByListAlone,
    /// A log is replayed although others wrote to the volume since.
    ForeignLogReplayed,
    /// A log segment is used anew when its batch is answered, not when it is persisted.
    SegmentFreedWhenAnswered,
    /// A close calls the volume clean before all is persisted.
    CleanTooEarly,
    /// Uploads run further ahead of an answer than the window that the claim names.
    WindowExceeded,
    /// A removal removes its tombstone, too.
    TombstoneRemoved,
    /// A volume that is made where another one was begins with epoch 0 again.
    EpochsUsedAgain,
    /// The store takes the condition and ignores it.
    ConditionIgnored,
}
