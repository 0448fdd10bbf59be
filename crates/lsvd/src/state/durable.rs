//! How far the write log is durable, and who waits for it.

use crate::sync::{Mutex, Signal};
use crate::words::error::{Error, Result};
use crate::words::name::ObjectId;

/// A point of the stream: so many entries of a batch, and all batches before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamPoint {
    /// The batch.
    pub batch: ObjectId,
    /// Entries of it; [`u32::MAX`] for all, its end included.
    pub entries: u32,
}

/// The point up to which the log is durable.
#[derive(Debug, Default)]
pub struct Durable {
    state: Mutex<State>,
    /// Notified when the point moves or the log fails.
    moved: Signal,
    /// Notified when somebody waits for a point that is not durable.
    wanted: Signal,
}

#[derive(Debug, Default)]
struct State {
    durable: Option<StreamPoint>,
    wanted: Option<StreamPoint>,
    failed: Option<Error>,
}

impl Durable {
    /// Waits until the log is durable up to `point`, and asks for it.
    ///
    /// # Errors
    /// Why the log failed, now and for ever: what was not durable then may never be.
    pub async fn reached(&self, point: StreamPoint) -> Result<()> {
        let asked = {
            let mut state = self.state.lock();
            if state.durable >= Some(point) {
                return Ok(());
            }
            let higher = state.wanted < Some(point);
            state.wanted = state.wanted.max(Some(point));
            higher
        };
        if asked {
            self.wanted.notify();
        }
        self.moved
            .until(|| {
                let state = self.state.lock();
                if state.durable >= Some(point) {
                    return Some(Ok(()));
                }
                state.failed.clone().map(Err)
            })
            .await
    }

    /// Whether somebody waits for a point that is not durable yet.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        state.wanted > state.durable
    }

    /// Notified when somebody comes to wait.
    #[must_use]
    pub const fn wanted(&self) -> &Signal {
        &self.wanted
    }

    /// All up to `point` is durable.
    pub fn advance(&self, point: StreamPoint) {
        {
            let mut state = self.state.lock();
            state.durable = state.durable.max(Some(point));
        }
        self.moved.notify();
    }

    /// The log failed: nothing becomes durable any more.
    pub fn fail(&self, error: Error) {
        self.state.lock().failed.get_or_insert(error);
        self.moved.notify();
    }

    /// Why the log failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    /// The durable point.
    #[must_use]
    pub fn point(&self) -> Option<StreamPoint> {
        self.state.lock().durable
    }
}
