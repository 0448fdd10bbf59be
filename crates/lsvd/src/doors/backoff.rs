//! Pauses between the tries of something that fails for now.

use std::time::Duration;

use super::runtime::Runtime;
use crate::words::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};

/// Pauses that get longer, and differ by chance, so that what failed together does not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    runtime: &'a dyn Runtime,
    next: Duration,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime) -> Self {
        Self {
            runtime,
            next: RETRY_PAUSE_MIN,
        }
    }

    /// Whether there was no pause yet. A store that is gone for a day is one piece of news, not one
    /// at every try.
    pub(crate) fn is_first(&self) -> bool {
        self.next == RETRY_PAUSE_MIN
    }

    /// Waits between half of the pause that is due and all of it, and doubles the next.
    pub(crate) async fn pause(&mut self) {
        let half = self.next / 2;
        let extra = self.runtime.random() % half.as_nanos().max(1);
        let extra = Duration::from_nanos(u64::try_from(extra).unwrap_or_default());
        self.runtime.sleep(half + extra).await;
        self.next = (self.next * 2).min(RETRY_PAUSE_MAX);
    }
}
