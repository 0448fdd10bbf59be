//! Benchmarks: built with optimisation, beside other systems in the same run.

use clap::{Args, ValueEnum};

use crate::needs;
use crate::step::{Outcome, cargo, run};

/// What to measure; arguments behind `--` go to the benchmark (try `-- --help`).
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which one
    #[arg(value_enum, default_value_t = Which::All)]
    which: Which,

    /// Arguments of the benchmark
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The extent map beside the standard library's tree
    Map,
    /// Writes inside the process beside the disk's own bandwidth
    Inprocess,
    /// Checkpoints of large maps, and opening from them
    Checkpoint,
    /// NBD beside qemu-nbd and nbdkit
    Nbd,
    /// Writes that are flushed one by one, over NBD, beside qemu-nbd
    Sync,
    /// The opening of a volume with many extents and a full write log
    Open,
    /// The memory of a server whose store is far slower than its clients
    Memory,
    /// All of them
    All,
}

pub(crate) fn run_chosen(arguments: &Arguments) -> Outcome {
    let chosen: &[&str] = match arguments.which {
        Which::Map => &["map"],
        Which::Inprocess => &["inprocess"],
        Which::Checkpoint => &["checkpoint"],
        Which::Nbd => &["nbd"],
        Which::Sync => &["sync"],
        Which::Open => &["open"],
        Which::Memory => &["memory"],
        Which::All => &[
            "map",
            "inprocess",
            "checkpoint",
            "nbd",
            "sync",
            "open",
            "memory",
        ],
    };
    if !matches!(arguments.which, Which::Map | Which::Checkpoint) {
        needs::install()?;
        // They measure the program and the null device that stand beside them.
        let mut build = cargo(&["build", "--locked", "--release", "-p", "lsvd-cli"]);
        run("build lsvd", &mut build)?;
    }
    if matches!(arguments.which, Which::Nbd | Which::All) {
        let mut build = cargo(&[
            "build",
            "--locked",
            "--release",
            "-p",
            "lsvd-nbd",
            "--example",
            "null",
        ]);
        run("build the null device", &mut build)?;
    }
    for name in chosen {
        let mut bench = cargo(&[
            "run",
            "--locked",
            "--release",
            "--quiet",
            "-p",
            "lsvd-bench",
            "--",
            name,
        ]);
        run(&format!("bench {name}"), bench.args(&arguments.rest))?;
    }
    Ok(())
}
