//! A disk that stops: some request is the last to get in, and nobody gets an answer any more.

use std::fmt;

use super::crash::Chooser;
use super::{MemoryDisk, Request, Survivors};

/// How far the request gets at which a disk stops. None is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It does nothing.
    Nothing,
    /// A write writes each of its units or not, a change of names is made or not, as this seed has
    /// it; neither is synced.
    Part(u64),
    /// It is carried out, and not synced.
    Unsynced,
    /// It is carried out to its end.
    Whole,
}

impl Reach {
    /// What of the request happens, where that is not all or nothing.
    pub(super) fn chooser(self) -> Option<Chooser> {
        match self {
            Self::Nothing | Self::Whole => None,
            Self::Part(seed) => Some(Chooser::new(Survivors::Random(seed))),
            Self::Unsynced => Some(Chooser::new(Survivors::All)),
        }
    }
}

/// Decides at which request a disk stops.
type Condition = Box<dyn FnMut(&Request) -> Option<Reach> + Send>;

/// Whether the disk has stopped, and when it is going to.
#[derive(Default)]
pub(super) struct Stop {
    condition: Option<Condition>,
    pub(super) is_stopped: bool,
}

impl Stop {
    /// To be asked once for every request: how far it gets, if the disk stops at it or has stopped.
    pub(super) fn at(&mut self, request: &Request) -> Option<Reach> {
        if self.is_stopped {
            return Some(Reach::Nothing);
        }
        let reach = self.condition.as_mut()?(request)?;
        self.is_stopped = true;
        Some(reach)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_stopped)
    }
}

impl MemoryDisk {
    /// Stops the disk at the first request for which `reach` gives something. That request, those
    /// that are held and all that come later wait for ever, and the disk changes no more: it is as
    /// whoever used it left it when he was killed, or the power failed. [`kill`](Self::kill) and
    /// [`crash`](Self::crash) give what there is then. `reach` sees each request once, in order; it
    /// must not use the disk.
    pub fn stop_when(&self, reach: impl FnMut(&Request) -> Option<Reach> + Send + 'static) {
        self.shared.state.lock().stop.condition = Some(Box::new(reach));
    }

    /// Stops the disk now.
    pub fn stop(&self) {
        self.shared.state.lock().stop.is_stopped = true;
        self.shared.stopped.notify();
    }

    /// Whether the disk has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.state.lock().stop.is_stopped
    }

    /// Waits until the disk has stopped.
    pub async fn until_stopped(&self) {
        let stopped = || self.is_stopped().then_some(());
        self.shared.stopped.until(stopped).await;
    }
}
