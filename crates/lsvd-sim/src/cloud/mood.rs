//! How a client's requests fare: how long they take, and how many fail, and how.

use std::time::Duration;

use lsvd::doors::store::StoreErrorKind;

use super::request::Verb;
use crate::random::Random;

/// How a client's requests fare: percentages, and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mood {
    /// Longest time that a request takes, mostly.
    pub slowest: Duration,
    /// How many of a hundred fail before they are carried out.
    pub refused: u64,
    /// How many are carried out and fail all the same.
    pub unanswered: u64,
    /// How many creations are given up as too slow, and carried out much later, or never.
    pub late: u64,
    /// How many reads end too early.
    pub truncated: u64,
    /// Nothing but reads gets through.
    pub is_full: bool,
}

/// Longest time for which a request is under way that was given up.
pub const LATEST: Duration = Duration::from_secs(60);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    Refused(StoreErrorKind),
    Unanswered,
    /// Given up now; carried out after this, if ever.
    Late(Option<Duration>),
    Truncated,
}

impl Mood {
    /// A store that works.
    pub const GOOD: Self = Self {
        slowest: Duration::from_millis(5),
        refused: 0,
        unanswered: 0,
        late: 0,
        truncated: 0,
        is_full: false,
    };

    /// Whether everything that is read is answered, and soon.
    #[must_use]
    pub const fn answers_reads(&self) -> bool {
        self.refused == 0 && self.unanswered == 0 && self.truncated == 0
    }

    /// Whether nothing is answered by an error, or too late.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.answers_reads() && self.late == 0 && !self.is_full
    }

    /// One of many, as the seed has it.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        if random.chance(30) {
            return Self::GOOD;
        }
        let some = |random: &mut Random| match random.below(3) {
            0 => random.below(12),
            _ => 0,
        };
        let slowest = match random.below(4) {
            0 => 1,
            1 => 10,
            2 => 60,
            _ => 400,
        };
        Self {
            slowest: Duration::from_millis(slowest),
            refused: some(random),
            unanswered: some(random),
            late: some(random) / 2,
            truncated: some(random) / 2,
            is_full: random.chance(6),
        }
    }

    /// What becomes of a request, and how long it takes before and after that.
    pub(super) fn fate(&self, verb: Verb, random: &mut Random) -> (Duration, Fate, Duration) {
        let span = u64::try_from(self.slowest.as_micros()).unwrap_or(u64::MAX);
        let mut times = || Duration::from_micros(random.below(span + 1));
        let (before, after) = (times(), times());
        let fate = if verb.is_change() && self.is_full {
            Fate::Refused(StoreErrorKind::NoSpace)
        } else if random.chance(self.refused) {
            Fate::Refused(StoreErrorKind::Unavailable)
        } else if random.chance(self.unanswered) {
            Fate::Unanswered
        } else if verb == Verb::Create && random.chance(self.late) {
            let latest = u64::try_from(LATEST.as_millis()).unwrap_or(u64::MAX);
            let then = Duration::from_millis(random.below(latest));
            Fate::Late(random.chance(70).then_some(then))
        } else if verb == Verb::Read && random.chance(self.truncated) {
            Fate::Truncated
        } else {
            Fate::Answered
        };
        (before, fate, after)
    }
}
