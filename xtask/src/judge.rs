//! `lsvd torture` as the chores run it, and the sums of its reports.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::step::Outcome;

/// What a run is called, and what decides it besides the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    /// Of what it is, for people.
    pub(crate) about: &'a str,
    /// Options with their values where `given` has no others.
    pub(crate) defaults: &'a [(&'a str, &'a str)],
    /// More arguments of `lsvd torture`.
    pub(crate) given: &'a [String],
    /// Goes on behind a wrong state, and does not fail for one: it is counted.
    pub(crate) keep_going: bool,
}

/// Runs the judge and adds what it reports.
pub(crate) fn judge(mut torture: Command, run: &Run<'_>, total: &mut Total) -> Outcome {
    for (option, value) in run.defaults {
        if !run.given.iter().any(|given| given == option) {
            torture.args([option, value]);
        }
    }
    if run.keep_going {
        torture.arg("--keep-going");
    }
    torture
        .arg("--json")
        .args(run.given)
        .stderr(Stdio::inherit());
    let started = Instant::now();
    let output = torture
        .output()
        .map_err(|error| format!("cannot run {torture:?}: {error}"))?;
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    total.add(&report);
    if report["right"] != true && !run.keep_going {
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
    }
    eprintln!(
        "   {}: {} rounds in {:.1?}",
        run.about,
        report["rounds"],
        started.elapsed()
    );
    let counted = run.keep_going && report["ended_early"].is_null() && report.is_object();
    if output.status.success() || counted {
        Ok(())
    } else {
        Err(format!("{}: {}", run.about, output.status))
    }
}

/// Whether this is a server that says that its volume is damaged. One that is slow, or fails for
/// another reason, finds no planted fault.
fn is_refusal(text: &str) -> bool {
    text.contains("is damaged")
}

/// Sums of the judge's reports.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) rounds: u64,
    pub(crate) wrong: u64,
    /// Runs in which a state was wrong, or the volume was found to be damaged.
    found: u64,
    /// Rounds whose state was an exact prefix.
    pub(crate) prefixes: u64,
    sent: u64,
    pub(crate) flushed: u64,
    flushes: u64,
    pub(crate) flushed_lost: u64,
    pub(crate) unflushed_lost: u64,
    most_lost: u64,
    pub(crate) torn: u64,
    pub(crate) stale: u64,
    errors: u64,
}

impl Total {
    /// Nothing stands in our server's way, so it has no reason to refuse anything; and where nothing
    /// was flushed nothing can have been lost.
    pub(crate) fn refuse_idle(&self) -> Outcome {
        if self.errors > 0 || self.flushed == 0 {
            return Err(format!(
                "the run proves nothing: {} requests failed, {} writes were flushed",
                self.errors, self.flushed
            ));
        }
        Ok(())
    }

    /// A planted fault must be found: by a wrong state, or by a server that refuses its volume.
    pub(crate) fn has_found(&self, fault: &str, outcome: Outcome) -> Outcome {
        if self.found > 0 || outcome.as_ref().is_err_and(|how| is_refusal(how)) {
            let how = outcome.err().unwrap_or_default();
            eprintln!("the planted {fault} was found: {how}");
            return Ok(());
        }
        let rounds = self.rounds;
        outcome.and(Err(format!(
            "the planted {fault} was not found in {rounds} rounds"
        )))
    }

    fn add(&mut self, report: &Value) {
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.rounds += number("/rounds");
        self.wrong += number("/wrong_rounds");
        let refused = report["ended_early"].as_str();
        let found = number("/wrong_rounds") > 0 || refused.is_some_and(is_refusal);
        self.found += u64::from(found);
        self.prefixes += number("/prefix_rounds");
        self.sent += number("/writes/sent");
        self.flushed += number("/writes/flushed");
        self.flushes += number("/flushes");
        self.flushed_lost += number("/lost/flushed");
        self.unflushed_lost += number("/lost/answered_not_flushed");
        self.most_lost = self.most_lost.max(number("/lost/most_in_a_round"));
        self.torn += number("/faults/torn_sectors/count");
        self.stale += number("/faults/stale_sectors/count");
        self.errors += number("/errors");
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ends, {} wrong states; {} writes, {} flushed, {} flushes, {} errors; \
             lost: {} flushed, {} answered and not flushed, at most {} in a round",
            self.rounds,
            self.wrong,
            self.sent,
            self.flushed,
            self.flushes,
            self.errors,
            self.flushed_lost,
            self.unflushed_lost,
            self.most_lost,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Total;

    #[test]
    fn a_report_is_summed_up_under_the_names_that_the_judge_uses() {
        let report = json!({
            "rounds": 3, "wrong_rounds": 1, "prefix_rounds": 2, "ended_early": null,
            "writes": {"sent": 9, "flushed": 5}, "flushes": 4, "errors": 6,
            "lost": {"flushed": 7, "answered_not_flushed": 8, "most_in_a_round": 10},
            "faults": {"torn_sectors": {"count": 11}, "stale_sectors": {"count": 12}},
        });
        let mut total = Total::default();
        total.add(&report);
        total.add(&report);
        assert_eq!((total.rounds, total.wrong, total.prefixes), (6, 2, 4));
        assert_eq!((total.flushed_lost, total.unflushed_lost), (14, 16));
        assert_eq!((total.torn, total.stale), (22, 24));
        assert_eq!((total.found, total.most_lost), (2, 10));
        assert!(total.refuse_idle().is_err());
    }
}
