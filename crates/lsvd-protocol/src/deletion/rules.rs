//! The rules of deletion that can be broken, one at a time, to see whether the checker notices.

/// A rule that is broken, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// Nothing is broken: the protocol as it is.
    Nothing,
    /// A stamp is the place in the stream where the next cut will be at least, not the count of cuts.
    /// Two cuts can be at one place, with garbage collected in between.
    StampIsPlace,
    /// What dies while a checkpoint is made is stamped with the cut of that one.
    StampOfRunningCut,
    /// What is dead when the volume is opened is not stamped, and goes at once.
    UnstampedAtOpen,
    /// What a snapshot held is not stamped when that is deleted, and goes at once.
    UnstampedBehindSnapshot,
    /// What garbage collection moved is not stamped, and goes at once.
    UnstampedVictim,
    /// The newest checkpoint alone has to be behind the stamp.
    NewestAlone,
    /// A checkpoint counts when it is stored, before a superblock names it.
    CountsUnnamed,
    /// Data goes although it is behind the cut of the older kept checkpoint.
    BehindOlderCut,
    /// What a snapshot needs goes.
    SnapshotDoesNotHold,
    /// What a pending snapshot needs goes.
    PendingDoesNotHold,
    /// What the checkpoint under way needs goes.
    RunningDoesNotHold,
    /// What is being read goes.
    ReaderDoesNotHold,
    /// A checkpoint is made and named while a snapshot before its cut is pending.
    SnapshotOvertaken,
    /// A snapshot's entry counts as pending whenever no superblock names the snapshot.
    PendingByAbsence,
    /// Moved data replaces what was written meanwhile.
    RemapsNewer,
    /// Garbage is collected in objects that no checkpoint has yet, too.
    CollectsNewest,
    /// A checkpoint lists what is live alone.
    DeadUnlisted,
    /// An object leaves the object table when its removal is sent, not when that is answered.
    ForgottenWhenSent,
    /// An opener removes strays before its own first checkpoint.
    CleansAtOnce,
    /// The same, and also after a fall back.
    CleansAtOnceAfterFallback,
    /// Strays are what the own map does not need, whatever kept checkpoints and snapshots need.
    CleansByMapAlone,
    /// Strays are looked for in later epochs, too, without a fence check.
    CleansNewer,
    /// A writer that fell back to the older checkpoint removes as any other.
    RemovesAfterFallback,
    /// A checkpoint that was found damaged stays one of the two.
    DamagedCounts,
    /// Nothing but the fence check before a removal is left out.
    RemovesUnchecked,
}
