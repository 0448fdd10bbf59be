//! How far the data stream is stored: the persisted point, and what holds it up.

use std::collections::{BTreeMap, BTreeSet};

use crate::sync::{Mutex, Signal};
use crate::words::error::{Error, Result};
use crate::words::name::ObjectId;

/// Uploads answered, in order and out of it.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Notified when the persisted point moves or an upload gets stuck.
    changed: Signal,
}

#[derive(Debug)]
struct State {
    /// The oldest data object not yet answered.
    next: ObjectId,
    persisted: Option<ObjectId>,
    /// Answered before an older one was.
    early: BTreeSet<ObjectId>,
    /// Uploads that failed for so long that nobody is made to wait for them.
    stuck: BTreeMap<ObjectId, Error>,
    /// Why nothing will be stored any more, if that is so.
    ended: Option<Error>,
}

impl State {
    fn error(&self) -> Option<Error> {
        let stuck = self.stuck.values().next();
        self.ended.as_ref().or(stuck).cloned()
    }
}

impl Progress {
    /// Nothing is stored yet; `first` is the number of the first object.
    #[must_use]
    pub fn new(first: ObjectId) -> Self {
        let state = State {
            next: first,
            persisted: None,
            early: BTreeSet::new(),
            stuck: BTreeMap::new(),
            ended: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Signal::default(),
        }
    }

    /// An upload was answered. Answers come in any order; the persisted point moves in order.
    pub fn answered(&self, id: ObjectId) {
        {
            let mut state = self.state.lock();
            state.stuck.remove(&id);
            state.early.insert(id);
            while let Some(first) = state.early.first().copied().filter(|id| *id == state.next) {
                state.early.remove(&first);
                state.persisted = Some(first);
                // The batcher refuses the entry that would need a number beyond the last.
                let Some(next) = first.next() else { break };
                state.next = next;
            }
        }
        self.changed.notify();
    }

    /// An upload keeps failing. It is still tried, but what waits for it fails with `error`.
    pub fn stuck(&self, id: ObjectId, error: Error) {
        self.state.lock().stuck.insert(id, error);
        self.changed.notify();
    }

    /// Nothing is stored any more: what waits fails with `error`, now and for ever.
    pub fn ended(&self, error: Error) {
        self.state.lock().ended = Some(error);
        self.changed.notify();
    }

    /// Why uploads are stuck, if they are: the error of the oldest.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.state.lock().error()
    }

    /// The oldest object not yet answered.
    #[must_use]
    pub fn oldest_unanswered(&self) -> ObjectId {
        self.state.lock().next
    }

    /// The newest object of which it and all before it are stored.
    #[must_use]
    pub fn persisted(&self) -> Option<ObjectId> {
        self.state.lock().persisted
    }

    /// Waits until this object and all before it are stored.
    ///
    /// # Errors
    /// When uploads are stuck.
    pub async fn reached(&self, id: ObjectId) -> Result<()> {
        self.changed
            .until(|| {
                let state = self.state.lock();
                if state.persisted.is_some_and(|persisted| persisted >= id) {
                    return Some(Ok(()));
                }
                state.error().map(Err)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::error::ErrorKind;

    fn id(sequence: u64) -> ObjectId {
        ObjectId::from_u64(sequence)
    }

    #[test]
    fn the_persisted_point_moves_in_order_however_answers_come() {
        let progress = Progress::new(id(0));
        progress.answered(id(2));
        progress.answered(id(1));
        assert_eq!(
            (progress.persisted(), progress.oldest_unanswered()),
            (None, id(0))
        );
        progress.answered(id(0));
        assert_eq!(
            (progress.persisted(), progress.oldest_unanswered()),
            (Some(id(2)), id(3))
        );
    }

    #[test]
    fn a_stuck_upload_fails_who_waits_until_it_is_answered() {
        let progress = Progress::new(id(0));
        progress.stuck(id(0), Error::new(ErrorKind::Unavailable, "no store"));
        let failed = pollster::block_on(progress.reached(id(0)));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
        progress.answered(id(0));
        assert!(progress.error().is_none());
        pollster::block_on(progress.reached(id(0))).unwrap();
    }
}
