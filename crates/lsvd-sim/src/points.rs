//! The points at which a machine can end: between each two things that it does to its disk and to the
//! store. What it does between them only it knows, so an end anywhere else is one of these.

mod place;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::executor::Stop;

pub use place::{Phase, Place};

/// The point at which a process is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// What it is about to do then, or has just done.
    pub place: Place,
    /// How often it does it before.
    pub passes: u64,
    /// Whether it is done.
    pub is_done: bool,
    /// How it stops there.
    pub stop: Stop,
}

/// Counts how often each point was passed, and knows the last of the process that passes them. Clones
/// are the same.
#[derive(Clone, Debug, Default)]
pub struct Points {
    counts: Arc<Mutex<Counts>>,
    process: Arc<Process>,
}

/// What is of one process alone.
#[derive(Debug, Default)]
struct Process {
    last: Mutex<Option<Last>>,
    /// Whether it serves its volume.
    serves: AtomicBool,
    /// Whether it ever tried to claim it.
    claims: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    passed: BTreeMap<(Place, bool), u64>,
    ended: BTreeMap<(Place, bool), u64>,
}

impl Points {
    /// The same points, as another process passes them, which begins by opening its volume.
    #[must_use]
    pub fn of_process(&self) -> Self {
        Self {
            counts: Arc::clone(&self.counts),
            process: Arc::default(),
        }
    }

    /// The process has opened its volume.
    pub fn serve(&self) {
        self.process.serves.store(true, Ordering::Relaxed);
    }

    /// Whether the process has sent a claim, which may arrive later if it has not yet.
    #[must_use]
    pub fn has_claimed(&self) -> bool {
        self.process.claims.load(Ordering::Relaxed)
    }

    /// What the process is at.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.process.serves.load(Ordering::Relaxed) {
            true => Phase::Serving,
            false => Phase::Opening,
        }
    }

    /// Stops the process at `last`, once.
    pub fn stop_at(&self, last: Last) {
        *self.process.last.lock() = Some(last);
    }

    /// To be told of every request to the store that is sent.
    pub(crate) fn send(&self, place: Place) {
        if place == Place::Claim {
            self.process.claims.store(true, Ordering::Relaxed);
        }
    }

    /// To be told of every point: how the machine stops there, if it is the last.
    pub(crate) fn pass(&self, place: Place, is_done: bool) -> Option<Stop> {
        let mut counts = self.counts.lock();
        *counts.passed.entry((place, is_done)).or_default() += 1;
        let mut awaited = self.process.last.lock();
        let last = awaited.as_mut()?;
        if (last.place, last.is_done) != (place, is_done) {
            return None;
        }
        if let Some(left) = last.passes.checked_sub(1) {
            last.passes = left;
            return None;
        }
        let stop = last.stop;
        *awaited = None;
        if stop == Stop::End {
            *counts.ended.entry((place, is_done)).or_default() += 1;
        }
        Some(stop)
    }

    /// How often each was passed.
    #[must_use]
    pub fn passed(&self) -> BTreeMap<(Place, bool), u64> {
        self.counts.lock().passed.clone()
    }

    /// How often each was the last.
    #[must_use]
    pub fn ended(&self) -> BTreeMap<(Place, bool), u64> {
        self.counts.lock().ended.clone()
    }
}
