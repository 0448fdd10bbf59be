//! What was asked of the server, and in which order requests were sent and answered.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
use super::stamp::Content;
use super::stamp::Number;

/// Gives every sending and every answer its place in one order.
///
/// A request takes its moment before its first byte is sent, an answer when it has come. So "a was
/// answered before b was sent" is only ever said where it is true of the server's side as well.
#[derive(Debug)]
pub(super) struct Clock(AtomicU64);

/// A moment in the order of all sendings and answers; 0 is before them all.
pub(super) type Moment = u64;

/// The moment of an answer that never came.
pub(super) const NEVER: Moment = u64::MAX;

impl Clock {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    pub(super) fn tick(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// What a change leaves in the sectors that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its stamps.
    Write,
    /// Zeroes, by a trim.
    Trim,
    /// Zeroes.
    WriteZeroes,
}

/// What became of a change, as far as its sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No answer came.
    Unanswered,
    /// Answered as done.
    Done(Moment),
    /// It may have been done or not, but not after this moment: it was answered with an error, or
    /// the server that had it is dead.
    Unsure(Moment),
}

/// A write, trim or zeroing, or as much of one as is done wholly or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) number: Number,
    pub(super) kind: Kind,
    pub(super) fua: bool,
    /// Its first sector, and how many it covers.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) sent: Moment,
    pub(super) outcome: Outcome,
}

impl Change {
    /// The moment after which it did not take effect.
    pub(super) const fn ended(&self) -> Moment {
        match self.outcome {
            Outcome::Unanswered => NEVER,
            Outcome::Done(at) | Outcome::Unsure(at) => at,
        }
    }

    /// Whether it is known to have been done.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    /// Whether what it did ended before `later` began.
    #[cfg(test)]
    pub(super) const fn comes_before(&self, later: &Self) -> bool {
        self.ended() < later.sent
    }

    pub(super) const fn zeroes(&self) -> bool {
        !matches!(self.kind, Kind::Write)
    }

    pub(super) const fn covers(&self, sector: usize) -> bool {
        self.first <= sector && sector < self.first + self.count
    }

    /// What it leaves in each sector.
    #[cfg(test)]
    pub(super) const fn content(&self) -> Content {
        match self.kind {
            Kind::Write => Content::of(self.number),
            Kind::Trim | Kind::WriteZeroes => Content::ZEROES,
        }
    }
}

/// As the report names it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Write => "write",
            Kind::Trim => "trim",
            Kind::WriteZeroes => "zeroing",
        };
        let fua = if self.fua { " with FUA" } else { "" };
        write!(
            f,
            "{kind} {}{fua} of sectors {}..{} (sent at {}, {})",
            self.number,
            self.first,
            self.first + self.count,
            self.sent,
            match self.outcome {
                Outcome::Unanswered => "not answered".to_owned(),
                Outcome::Done(at) => format!("answered at {at}"),
                Outcome::Unsure(at) => format!("may have failed by {at}"),
            }
        )
    }
}

/// What a state tells of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In every explanation of the state.
    Kept,
    /// In some explanation of the state.
    Possible,
    /// In none.
    Lost,
}

/// All changes since a state that is known to be durable.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct History {
    /// In no order; the parts of one request stand side by side, in the order of their sectors.
    pub(super) changes: Vec<Change>,
    /// When the last flush was sent that was answered.
    pub(super) flushed: Moment,
}

impl History {
    /// Takes a change in; what the server does not promise to do whole is cut every `atomic`
    /// sectors.
    pub(super) fn add(&mut self, change: Change, atomic: usize) {
        let end = change.first + change.count;
        for first in (change.first..end).step_by(atomic) {
            let count = atomic.min(end - first);
            self.changes.push(Change {
                first,
                count,
                ..change
            });
        }
    }

    /// Takes an answered flush in.
    pub(super) fn add_flush(&mut self, sent: Moment) {
        self.flushed = self.flushed.max(sent);
    }

    /// Whether an answered flush, or its own FUA, promised that this change is durable.
    pub(super) const fn is_flushed(&self, change: &Change) -> bool {
        change.is_done() && (change.fua || change.ended() < self.flushed)
    }

    /// Goes on from a state that was found and is right: what is not in it never comes back, what
    /// was under way has ended, and of what may be in it nobody knows.
    pub(super) fn settle(&mut self, fates: &[Fate], now: Moment) {
        let mut fates = fates.iter();
        self.changes.retain_mut(|change| {
            // What was not answered was not promised to be durable either.
            change.fua &= change.is_done();
            let ended = change.ended().min(now);
            match fates.next() {
                Some(Fate::Kept) => change.outcome = Outcome::Done(ended),
                Some(Fate::Possible) => change.outcome = Outcome::Unsure(ended),
                Some(Fate::Lost) | None => return false,
            }
            true
        });
    }

    /// Forgets everything: the state that is there now is durable.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.flushed = 0;
    }
}
