//! Requests that wait for the test.

use std::collections::VecDeque;
use std::fmt;

use super::{MemoryDisk, Request, State};

/// Decides which requests are held.
type Condition = Box<dyn FnMut(&Request) -> bool + Send>;

/// Does what a request asks for, and answers it.
pub(super) type Finish = Box<dyn FnOnce(&mut State) + Send>;

/// The requests that are held.
#[derive(Default)]
pub(super) struct Gate {
    condition: Option<Condition>,
    held: VecDeque<(Request, Finish)>,
}

impl Gate {
    pub(super) fn holds(&mut self, request: &Request) -> bool {
        self.condition.as_mut().is_some_and(|holds| holds(request))
    }

    pub(super) fn hold(&mut self, request: Request, finish: Finish) {
        self.held.push_back((request, finish));
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.held.iter().map(|(request, _)| request)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.requests()).finish()
    }
}

impl MemoryDisk {
    /// From now on requests for which `holds` is true are held: what they write is there, to be
    /// read, and to be lost by a crash; but they are not synced, and not answered. `holds` sees each
    /// request once, in order; it must not use the disk.
    pub fn hold_when(&self, holds: impl FnMut(&Request) -> bool + Send + 'static) {
        self.shared.state.lock().gate.condition = Some(Box::new(holds));
    }

    /// From now on all requests are held.
    pub fn hold_all(&self) {
        self.hold_when(|_| true);
    }

    /// The requests that are held, the oldest first.
    #[must_use]
    pub fn held(&self) -> Vec<Request> {
        self.shared.state.lock().gate.requests().cloned().collect()
    }

    /// How many requests are held.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.shared.state.lock().gate.held.len()
    }

    /// Waits until at least `count` requests are held.
    pub async fn until_held(&self, count: usize) {
        let enough = || (self.shared.state.lock().gate.held.len() >= count).then_some(());
        self.shared.held.until(enough).await;
    }

    /// Carries out and answers the oldest request that is held, and gives what it was.
    pub fn release_next(&self) -> Option<Request> {
        self.release(0)
    }

    /// The same with any of those that are held, by its place in [`held`](Self::held). A disk that
    /// has [stopped](Self::stop) releases nothing.
    pub fn release(&self, place: usize) -> Option<Request> {
        let mut state = self.shared.state.lock();
        if state.stop.is_stopped {
            return None;
        }
        let (request, finish) = state.gate.held.remove(place)?;
        finish(&mut state);
        Some(request)
    }

    /// Carries out and answers all that is held, in order, and holds nothing more.
    pub fn release_all(&self) {
        self.shared.state.lock().gate.condition = None;
        while self.release_next().is_some() {}
    }
}
