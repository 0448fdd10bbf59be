//! What a change must pass: cheap steps first, then the tests, whether they would find faults, and the
//! loss of power at the end.

use crate::step::{Outcome, cargo, run, timed};
use crate::{fuzz, needs, powercut, sim, test, tidy};

pub(crate) fn all(fuzz_seconds: u64) -> Outcome {
    run("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    needs::install()?;
    timed("tidy", tidy::check)?;
    let mut clippy = cargo(&["clippy", "--locked", "--workspace", "--all-targets"]);
    run("clippy", clippy.args(["--", "-D", "warnings"]))?;
    fuzz::check()?;
    let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    run("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    if fuzz_seconds > 0 {
        match fuzz::unavailable() {
            None => fuzz::share(fuzz_seconds)?,
            Some(reason) => eprintln!("\n== fuzzing is left out: {reason}"),
        }
    }
    test::all()?;
    sim::hunt()?;
    powercut::share()
}
