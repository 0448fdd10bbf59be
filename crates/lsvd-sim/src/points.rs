//! The points at which a machine can end: between each two things that it does to its disk and to the
//! store. What it does between them only it knows, so an end anywhere else is one of these.

mod place;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use place::{Phase, Place};

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
    /// Whether the process that passes them serves its volume.
    serves: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Last>,
    passed: BTreeMap<(Place, bool), u64>,
    ended: BTreeMap<(Place, bool), u64>,
}

impl Points {
    /// The same points, as another process passes them, which begins by opening its volume.
    #[must_use]
    pub fn of_process(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            serves: Arc::default(),
        }
    }

    /// The process has opened its volume.
    pub fn serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// What the process is at.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.serves.load(Ordering::Relaxed) {
            true => Phase::Serving,
            false => Phase::Opening,
        }
    }

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
