//! The simulation: worlds by their seeds, for hours.

use std::process::Command;

use clap::Args;

use crate::step::{Outcome, cargo, run};

/// How long, or which seeds; arguments behind `--` go to the simulation (try `-- --help`).
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Hours in which new seeds are run, on all cores
    #[arg(long, default_value_t = 0.1)]
    hours: f64,

    /// Run these seeds instead
    #[arg(long, value_name = "FIRST..END")]
    seeds: Option<String>,

    /// Build with planted faults, and fail unless a seed finds this one, or each of them with `all`
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,

    /// Arguments of the simulation
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Seeds in which a planted fault must be found: many times what the rarest takes, as the worlds are drawn otherwise
/// with every change.
const HUNTED: &str = "0..4000";

pub(crate) fn run_chosen(arguments: &Arguments) -> Outcome {
    let mut sim = cargo(&["run", "--locked", "--release", "-p", "lsvd-sim"]);
    match (&arguments.plant, &arguments.seeds) {
        (Some(fault), seeds) => plant(&mut sim, fault, seeds.as_deref().unwrap_or(HUNTED)),
        (None, Some(seeds)) => drop(sim.args(["--", "--seeds", seeds])),
        (None, None) => drop(sim.args(["--", "--hours", &arguments.hours.to_string()])),
    }
    run("run the simulation", sim.args(&arguments.rest))
}

/// Finds every planted fault, with the build that the tests have most of already.
pub(crate) fn hunt() -> Outcome {
    let mut sim = cargo(&["run", "--locked", "-p", "lsvd-sim"]);
    plant(&mut sim, "all", HUNTED);
    run("planted faults", &mut sim)
}

fn plant(sim: &mut Command, fault: &str, seeds: &str) {
    sim.args(["--features", "planted", "--", "--plant", fault]);
    sim.args(["--seeds", seeds]);
}
