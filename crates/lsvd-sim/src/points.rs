//! The points at which a machine can end: between each two things that it does to its disk and to the
//! store. What it does between them only it knows, so an end anywhere else is one of these.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::Request;

/// What a machine is about to do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Looks for the newest superblock.
    List,
    /// Reads a superblock: at an opening, or for the fence check.
    ReadSuperblock,
    /// Makes one: a claim, the fix of the ends, one that names a checkpoint, that of a close.
    CreateSuperblock,
    /// Reads of a data object.
    ReadData,
    /// An upload.
    CreateData,
    /// Removes an object of no stream.
    DeleteData,
    /// Reads of a checkpoint.
    ReadCheckpoint,
    /// A part of a checkpoint, or its root.
    CreateCheckpoint,
    /// Removes a checkpoint that nothing needs.
    DeleteCheckpoint,
    /// Any other request to the store.
    OtherObject,
    /// Reads of the log.
    ReadLog,
    /// Records of the log and marks in it, also over what a segment held before.
    WriteLog,
    /// Makes a file for a log.
    CreateFile,
    /// Gives a log its name, or sets one aside.
    RenameFile,
    /// Removes a log.
    RemoveFile,
    /// Looks at what the disk has.
    LookAtDisk,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::List,
        Self::ReadSuperblock,
        Self::CreateSuperblock,
        Self::ReadData,
        Self::CreateData,
        Self::DeleteData,
        Self::ReadCheckpoint,
        Self::CreateCheckpoint,
        Self::DeleteCheckpoint,
        Self::OtherObject,
        Self::ReadLog,
        Self::WriteLog,
        Self::CreateFile,
        Self::RenameFile,
        Self::RemoveFile,
        Self::LookAtDisk,
    ];

    pub(crate) fn of_store(verb: &str, object: &str) -> Self {
        let kind = object.split('.').next().unwrap_or_default();
        match (verb, kind) {
            ("list", _) => Self::List,
            ("read", "superblock") => Self::ReadSuperblock,
            ("create", "superblock") => Self::CreateSuperblock,
            ("read", "data") => Self::ReadData,
            ("create", "data") => Self::CreateData,
            ("delete", "data") => Self::DeleteData,
            ("read", "ckpt") => Self::ReadCheckpoint,
            ("create", "ckpt") => Self::CreateCheckpoint,
            ("delete", "ckpt") => Self::DeleteCheckpoint,
            _ => Self::OtherObject,
        }
    }

    pub(crate) const fn of_disk(request: &Request) -> Self {
        match request {
            Request::Open { .. } | Request::List => Self::LookAtDisk,
            Request::Read { .. } => Self::ReadLog,
            Request::Write { .. } => Self::WriteLog,
            Request::Create { .. } => Self::CreateFile,
            Request::Rename { .. } => Self::RenameFile,
            Request::Remove { .. } => Self::RemoveFile,
        }
    }
}

/// The point at which a machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// What it is about to do then, or has just done.
    pub place: Place,
    /// How often it does it before.
    pub passes: u64,
    /// Whether it is done.
    pub is_done: bool,
}

/// Counts how often each point was passed, and knows the last. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Points {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Last>,
    passed: BTreeMap<(Place, bool), u64>,
    ended: BTreeMap<(Place, bool), u64>,
}

impl Points {
    /// Ends the machine at `last`, once.
    pub fn end_at(&self, last: Last) {
        self.state.lock().last = Some(last);
    }

    /// Ends the machine at no point.
    pub fn end_nowhere(&self) {
        self.state.lock().last = None;
    }

    /// To be asked at every point: whether it is the last.
    pub(crate) fn is_last(&self, place: Place, is_done: bool) -> bool {
        let mut state = self.state.lock();
        *state.passed.entry((place, is_done)).or_default() += 1;
        let Some(last) = &mut state.last else {
            return false;
        };
        if (last.place, last.is_done) != (place, is_done) {
            return false;
        }
        let left = last.passes.checked_sub(1);
        last.passes = left.unwrap_or(0);
        if left.is_none() {
            state.last = None;
            *state.ended.entry((place, is_done)).or_default() += 1;
        }
        left.is_none()
    }

    /// How often each was passed.
    #[must_use]
    pub fn passed(&self) -> BTreeMap<(Place, bool), u64> {
        self.state.lock().passed.clone()
    }

    /// How often each was the last.
    #[must_use]
    pub fn ended(&self) -> BTreeMap<(Place, bool), u64> {
        self.state.lock().ended.clone()
    }
}
