//! The simulation: worlds by their seeds, for hours.

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

    /// Build with this fault planted, and fail unless a seed finds it
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,

    /// Arguments of the simulation
    #[arg(last = true)]
    rest: Vec<String>,
}

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
    if arguments.plant.is_some() {
        sim.arg("--first");
    }
    sim.args(&arguments.rest);
    let outcome = run("run the simulation", &mut sim);
    match (&arguments.plant, outcome) {
        (None, outcome) => outcome,
        (Some(_), Err(_)) => Ok(()),
        (Some(fault), Ok(())) => Err(format!("no seed found the planted fault {fault}")),
    }
}
