//! The simulation: worlds by their seeds, for hours.

use clap::Args;

use crate::step::{Outcome, cargo, run, timed};

/// How long, or which seeds; arguments behind `--` go to the simulation (try `-- --help`).
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Hours in which new seeds are run, on all cores
    #[arg(long, default_value_t = 0.1)]
    hours: f64,

    /// Run these seeds instead
    #[arg(long, value_name = "FIRST..END")]
    seeds: Option<String>,

    /// Build with this fault planted, and fail unless a seed finds it
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,

    /// Arguments of the simulation
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What the simulation ends with when it found something; a build that fails ends otherwise.
const FOUND: i32 = 1;

pub(crate) fn run_chosen(arguments: &Arguments) -> Outcome {
    let mut sim = cargo(&["run", "--locked", "--release", "-p", "lsvd-sim"]);
    if let Some(fault) = &arguments.plant {
        sim.args(["--features", "lsvd/planted"]);
        sim.env("LSVD_PLANT", fault);
    }
    sim.arg("--");
    match &arguments.seeds {
        Some(seeds) => sim.args(["--seeds", seeds]),
        None => sim.args(["--hours", &arguments.hours.to_string()]),
    };
    let Some(fault) = &arguments.plant else {
        return run("run the simulation", sim.args(&arguments.rest));
    };
    sim.arg("--first").args(&arguments.rest);
    timed("run the simulation", || {
        let status = sim.status();
        let status = status.map_err(|error| format!("cannot run {sim:?}: {error}"))?;
        match status.code() {
            Some(FOUND) => Ok(()),
            Some(0) => Err(format!("no seed found the planted fault {fault}")),
            _ => Err(format!("{sim:?}: {status}")),
        }
    })
}
