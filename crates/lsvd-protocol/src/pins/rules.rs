//! The rules of pins that can be broken, one at a time, to see whether the checker notices.

/// A rule that is broken, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Nothing is broken: the protocol as it is.
    Nothing,
    /// A clone does not look at the base again when its pins are there.
    NotLookedAgain,
    /// A clone looks again before all its pins are there.
    LookedAgainTooEarly,
    /// A clone takes a snapshot that is being deleted for one that is there.
    MarkIgnored,
    /// A clone that looks again knows a snapshot by the name that its user gave it.
    KnownByName,
    /// A deletion looks for pins before it marks the snapshot.
    LooksBeforeMark,
    /// Who opens a volume with a mark goes on behind the look of who made it.
    OldLookTrusted,
    /// The store's list lacks pins that are there.
    ListIsLate,
    /// A clone gives up, and takes its pins away, while its first superblock may be on its way.
    GivesUpTooLate,
    /// A clone that is tried again uses its uuid again.
    UuidUsedAgain,
    /// A pin without a clone is taken away although the clone may still come to be.
    OrphanUnfenced,
    /// A pin without a clone stays.
    OrphanStays,
    /// Only the volume that a clone is made from is pinned, not what that has objects of.
    BaseAlonePinned,
    /// A clone takes its pins away when its newest checkpoint does not need them.
    UnpinsWithNewest,
    /// A clone takes its pins away although a snapshot of its own needs them.
    UnpinsUnderSnapshot,
    /// A volume's removal takes its pins away before its tombstone is there.
    UnpinsBeforeTombstone,
    /// A removal looks for pins, and its tombstone follows a superblock that names a snapshot.
    TombstoneOverSnapshot,
    /// A volume is not removed while a pin is in it, whoever's, although it has no snapshot any more.
    RemovalAwaitsPins,
}
