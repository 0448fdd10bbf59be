//! Requests that are going to fail.

use lsvd::doors::disk::{DiskError, DiskErrorKind};

/// A failure, of the next request that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write fails, synced or not, when half of its units are written.
    Write,
    /// A write is carried out, and its sync fails. What was written before may be stored or not; it
    /// is read as if it were, no later sync stores it, and no later sync says so.
    Sync,
    /// A read fails.
    Read,
}

/// The failures to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// With how many requests are to pass before.
    pending: Vec<(Fault, u64)>,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault, passing: u64) {
        self.pending.push((fault, passing));
    }

    /// To be asked once for every request that `fault` may be about: whether it fails.
    pub(super) fn strike(&mut self, fault: Fault) -> bool {
        let mut strikes = false;
        self.pending.retain_mut(|(pending, passing)| {
            if *pending != fault {
                return true;
            }
            match passing.checked_sub(1) {
                Some(left) => {
                    *passing = left;
                    true
                }
                None if strikes => true,
                None => {
                    strikes = true;
                    false
                }
            }
        });
        strikes
    }
}

pub(super) fn failed(what: &str, name: &str) -> DiskError {
    let message = format!("cannot {what} {name} (a failure that the test asked for)");
    DiskError::new(DiskErrorKind::Failed, message)
}
