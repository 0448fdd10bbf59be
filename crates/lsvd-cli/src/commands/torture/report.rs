//! What a run says at its end: as text for people, or as one JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::end::End;
use super::history::{History, Outcome};
use super::load::Record;
use super::verdict::{Expect, Fault, Found, Verdict};
use crate::failure::Failure;

/// Rounds that are named in the report as wrong.
const WRONG_ROUNDS_MAX: usize = 20;

/// Sums over the rounds of a run.
#[derive(Debug)]
pub(super) struct Report {
    uri: String,
    pub(super) seed: u64,
    expect: Expect,
    end: End,
    rounds: u32,
    /// Rounds whose state was an exact prefix.
    prefixes: u32,
    /// Rounds in which --block took something away.
    blocked: u32,
    changes: Changes,
    flushes: u64,
    errors: u64,
    first_error: Option<String>,
    flushed_lost: u64,
    unflushed_lost: u64,
    /// Most changes that one round lost though they were answered.
    most_lost: u64,
    wrong_rounds: Vec<u32>,
    wrong: u32,
    faults: BTreeMap<Fault, Found>,
    /// Why the run ended before its time.
    ended_early: Option<String>,
    times: Times,
}

#[derive(Debug, Default)]
struct Changes {
    sent: u64,
    answered: u64,
    flushed: u64,
    unanswered: u64,
}

/// Where the time went.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) load: Duration,
    /// From the moment of the kill to the first answer of the next server.
    pub(super) restart: Duration,
    pub(super) read: Duration,
    pub(super) judge: Duration,
}

impl Report {
    pub(super) fn new(uri: String, seed: u64, (expect, end): (Expect, End)) -> Self {
        Self {
            uri,
            seed,
            expect,
            end,
            rounds: 0,
            prefixes: 0,
            blocked: 0,
            changes: Changes::default(),
            flushes: 0,
            errors: 0,
            first_error: None,
            flushed_lost: 0,
            unflushed_lost: 0,
            most_lost: 0,
            wrong_rounds: Vec::new(),
            wrong: 0,
            faults: BTreeMap::new(),
            ended_early: None,
            times: Times::default(),
        }
    }

    pub(super) fn times(&mut self) -> &mut Times {
        &mut self.times
    }

    /// Counts a round's requests; `history` has them as far as they are judged.
    pub(super) fn add_load(&mut self, record: &Record, history: &History) {
        self.flushes += record.flushes.len() as u64;
        self.errors += record.errors;
        self.first_error = self
            .first_error
            .take()
            .or_else(|| record.first_error.clone());
        for change in &record.changes {
            self.changes.sent += 1;
            match change.outcome {
                Outcome::Done(_) => self.changes.answered += 1,
                Outcome::Unanswered => self.changes.unanswered += 1,
                Outcome::Unsure(_) => {}
            }
            self.changes.flushed += u64::from(history.is_flushed(change));
        }
    }

    pub(super) fn count_blocked(&mut self) {
        self.blocked += 1;
    }

    pub(super) fn add_verdict(&mut self, round: u32, verdict: &Verdict) {
        self.rounds += 1;
        self.prefixes += u32::from(verdict.prefix);
        self.flushed_lost += verdict.flushed_lost;
        self.unflushed_lost += verdict.unflushed_lost;
        let lost = verdict.flushed_lost + verdict.unflushed_lost;
        self.most_lost = self.most_lost.max(lost);
        if verdict.is_right() {
            return;
        }
        self.wrong += 1;
        if self.wrong_rounds.len() < WRONG_ROUNDS_MAX {
            self.wrong_rounds.push(round);
        }
        for (fault, found) in &verdict.faults {
            self.faults.entry(*fault).or_default().merge(found);
        }
    }

    /// The run ends in this round, whose state was not seen.
    pub(super) fn end_early(&mut self, round: u32, failure: &Failure) {
        self.ended_early = Some(format!("round {round}: {failure}"));
    }

    fn is_right(&self) -> bool {
        self.wrong == 0 && self.ended_early.is_none() && self.lacks().is_none()
    }

    /// What all of the run lacks, so that any state would have been right: no write was flushed where
    /// flushed ones are asked for, or none answered where answered ones or a prefix of them are.
    fn lacks(&self) -> Option<&'static str> {
        let (count, done) = match self.expect {
            Expect::Flushed | Expect::Disk => (self.changes.flushed, "flushed"),
            Expect::Answered | Expect::Base => (self.changes.answered, "answered"),
        };
        (count == 0).then_some(done)
    }

    /// What is wrong, in one line.
    pub(super) fn complaint(&self) -> Option<String> {
        if self.wrong == 0 {
            let idle = self.lacks().map(|done| {
                format!(
                    "no write was {done}, so nothing is proved: give the load more time (--load), or \
                     see what keeps the server from it"
                )
            });
            return self.ended_early.clone().or(idle);
        }
        let counts = self.faults.iter();
        let counts = counts.map(|(fault, found)| format!("{} {}", found.count, fault.name()));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let uri = &self.uri;
        Some(format!(
            "the server at {uri} did not keep its word: {counts}"
        ))
    }

    fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).map_or(0, |found| found.count)
    }

    pub(super) fn text(&self) -> String {
        let expected = match self.expect {
            Expect::Answered => "every answered write is there",
            Expect::Flushed => "a prefix with every flushed write",
            Expect::Base => "a prefix",
            Expect::Disk => "every flushed write, and any others",
        };
        let verdict = if self.rounds == 0 {
            "no state was seen".to_owned()
        } else if let (0, Some(done)) = (self.wrong, self.lacks()) {
            format!("nothing is proved, as no write was {done}")
        } else if self.wrong == 0 {
            format!("every state found is right: {expected}")
        } else {
            format!(
                "{} of {} states are wrong, expected was {expected}",
                self.wrong, self.rounds
            )
        };
        let Changes {
            sent,
            answered,
            flushed,
            unanswered,
        } = self.changes;
        let mut text = format!(
            "{}, seed {}, {} rounds: {verdict}\n  \
             proves   {}\n  \
             writes   {sent} sent, {answered} answered, {flushed} of them flushed, {unanswered} \
             under way at the end; {} flushes, {} errors\n  \
             prefix   exactly, in {} of {} rounds\n  \
             lost     {} flushed, {} answered and not flushed; at most {} in a round\n  \
             sectors  {} torn, {} stale, {} misplaced, {} zeroed by nobody\n",
            self.uri,
            self.seed,
            self.rounds,
            self.end.proves(),
            self.flushes,
            self.errors,
            self.prefixes,
            self.rounds,
            self.flushed_lost,
            self.unflushed_lost,
            self.most_lost,
            self.count(Fault::TornSector),
            self.count(Fault::StaleSector),
            self.count(Fault::MisplacedSector),
            self.count(Fault::ZeroedSector),
        );
        if self.blocked > 0 {
            text += &format!("  blocked  in {} rounds\n", self.blocked);
        }
        if let Some(error) = &self.first_error {
            text += &format!("  the first error of a request: {error}\n");
        }
        let Times {
            load,
            restart,
            read,
            judge,
        } = self.times;
        text += &format!(
            "  time     load {load:.1?}, kill and restart {restart:.1?}, reading {read:.1?}, \
             judging {judge:.1?}\n"
        );
        if let Some(reason) = &self.ended_early {
            text += &format!("  ended    in {reason}\n");
        }
        if self.wrong > 0 {
            text += &format!("  wrong    in rounds {:?}\n", self.wrong_rounds);
        }
        for (fault, found) in &self.faults {
            text += &format!("  {} {}, for example\n", found.count, fault.name());
            for example in &found.examples {
                text += &format!("    {example}\n");
            }
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let faults: serde_json::Map<_, _> = Fault::ALL
            .into_iter()
            .map(|fault| {
                let found = self.faults.get(&fault).cloned().unwrap_or_default();
                let key = fault.name().replace(' ', "_");
                (
                    key,
                    json!({"count": found.count, "examples": found.examples}),
                )
            })
            .collect();
        let seconds = |time: Duration| time.as_secs_f64();
        let mut text = json!({
            "uri": self.uri,
            "seed": self.seed,
            "expect": match self.expect {
                Expect::Answered => "answered",
                Expect::Flushed => "flushed",
                Expect::Base => "prefix",
                Expect::Disk => "disk",
            },
            "ended_by": self.end.name(),
            "proves": self.end.proves(),
            "right": self.is_right(),
            "ended_early": self.ended_early,
            "rounds": self.rounds,
            "wrong_rounds": self.wrong,
            "first_wrong_rounds": self.wrong_rounds,
            "prefix_rounds": self.prefixes,
            "blocked_rounds": self.blocked,
            "writes": {
                "sent": self.changes.sent,
                "answered": self.changes.answered,
                "flushed": self.changes.flushed,
                "unanswered": self.changes.unanswered,
            },
            "flushes": self.flushes,
            "errors": self.errors,
            "first_error": self.first_error,
            "lost": {
                "flushed": self.flushed_lost,
                "answered_not_flushed": self.unflushed_lost,
                "most_in_a_round": self.most_lost,
            },
            "faults": faults,
            "seconds": {
                "load": seconds(self.times.load),
                "restart": seconds(self.times.restart),
                "read": seconds(self.times.read),
                "judge": seconds(self.times.judge),
            },
        })
        .to_string();
        text.push('\n');
        text
    }
}
