//! Where a writer stands that another one may have taken over from: from when on it must know.

use std::sync::Arc;
use std::time::Duration;

use lsvd::words::limits::{FENCE_CHECK_MAX, FENCE_CHECK_PAUSE};
use parking_lot::Mutex;

use crate::executor::Executor;
use crate::history::{History, Moment};

/// Time in which a writer that runs has looked, and has been answered by a store that works.
const NOTICED: Duration = FENCE_CHECK_MAX.saturating_add(FENCE_CHECK_PAUSE.saturating_mul(4));

/// A point in time, and in the order of requests and answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    pub(super) time: Duration,
    pub(super) moment: Moment,
}

impl Instant {
    pub(super) fn now(executor: &Executor, history: &Mutex<History>) -> Self {
        Self {
            time: executor.now(),
            moment: history.lock().tick(),
        }
    }
}

/// Where one writer stands. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when it is known that another one took over.
    taken_over: Option<Instant>,
    /// Since when it has run, behind that.
    running: Option<Instant>,
}

impl Standing {
    /// Another one has taken over.
    pub(super) fn take_over(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.taken_over.is_none() {
            state.taken_over = Some(now);
            state.running = Some(now);
        }
    }

    /// It runs again.
    pub(super) fn resume(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.taken_over.is_some() {
            state.running = Some(now);
        }
    }

    /// Whether a flush that is sent then must look, and see that another one took over.
    pub(super) fn must_look(&self, sent: Duration) -> bool {
        let taken_over = self.state.lock().taken_over;
        taken_over.is_some_and(|taken_over| sent >= taken_over.time + FENCE_CHECK_MAX)
    }

    /// If it must have noticed by then of itself, in case anything of it was at risk at that moment.
    pub(super) fn must_know(&self, sent: Duration) -> Option<Moment> {
        let running = self.state.lock().running?;
        (sent >= running.time + NOTICED).then_some(running.moment)
    }
}
