//! What is asked of the writer of checkpoints, and what it answers.

use crate::sync::{Mutex, Signal};
use crate::words::error::{Error, Result};

/// The requests for a checkpoint, counted; one checkpoint answers all that came before its cut.
#[derive(Debug, Default)]
pub struct CheckpointRequests {
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    answered: u64,
    /// Why checkpoints fail at the moment.
    failing: Option<Error>,
    /// Why there will be no more, if that is so.
    ended: Option<Error>,
    /// Whether nobody will ask any more.
    closed: bool,
}

impl CheckpointRequests {
    /// Asks for a checkpoint of all up to now, and waits for it.
    ///
    /// # Errors
    /// Why it fails. It is tried again all the same.
    pub async fn ask(&self) -> Result<()> {
        let number = {
            let mut state = self.state.lock();
            state.asked += 1;
            state.asked
        };
        self.changed.notify();
        let answer = || {
            let state = self.state.lock();
            if state.answered >= number {
                return Some(Ok(()));
            }
            let error = state.ended.as_ref().or(state.failing.as_ref());
            error.cloned().map(Err)
        };
        self.changed.until(answer).await
    }

    /// Waits for a request; nothing when there will be none.
    pub async fn asked(&self) -> Option<()> {
        let asked = || {
            let state = self.state.lock();
            let asked = (state.asked > state.answered).then_some(Some(()));
            asked.or_else(|| state.closed.then_some(None))
        };
        self.changed.until(asked).await
    }

    /// Whether nobody will ask any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many requests there were so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.state.lock().asked
    }

    /// The first `count` requests are fulfilled.
    pub fn answer(&self, count: u64) {
        self.change(|state| {
            state.answered = state.answered.max(count);
            state.failing = None;
        });
    }

    /// Checkpoints fail: who waits for one, and who asks for one, learns why until one succeeds.
    pub fn fail(&self, error: Error) {
        self.change(|state| state.failing = Some(error));
    }

    /// There are no more checkpoints. The first reason is the one that is told.
    pub fn end(&self, error: Error) {
        self.change(|state| {
            state.ended.get_or_insert(error);
        });
    }

    /// Nobody will ask any more.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify();
    }
}
