//! `cargo x`: the project's chores, each a list of steps.
//!
//! `cargo x test` installs what the tests need and runs them all; `cargo x ci` adds every other
//! check a change must pass. Everything runs on a plain machine with a Rust toolchain.

mod bench;
mod ci;
mod crash;
mod fuzz;
mod judge;
mod needs;
mod powercut;
mod servers;
mod sim;
mod step;
mod test;
mod tidy;
mod torture;
mod victim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo x",
    about = "Project chores: tests, benchmarks, fuzzing, checks"
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what the tests need, then run all of them: unit, model, end to end, documentation
    Test,
    /// All that a change must pass: format, tidiness, clippy, documentation, fuzzing, tests
    Ci {
        /// Seconds of fuzzing, divided among the targets; 0 leaves it out
        #[arg(long, default_value_t = 70, value_name = "SECONDS")]
        fuzz_seconds: u64,
    },
    /// The rules of the sources that no compiler checks
    Tidy,
    /// Benchmarks beside other systems
    Bench(bench::Arguments),
    /// Kill a server under load, again and again, and judge what it comes back with
    Crash(crash::Arguments),
    /// Cut the power of a guest that serves a volume, again and again, and judge what comes back
    Powercut(powercut::Arguments),
    /// Kill our server and others under load, or cut their power, and print the verdicts in a table
    Torture(torture::Arguments),
    /// Run the engine in simulated worlds, seed by seed, and judge each
    Sim(sim::Arguments),
    /// Fuzz the decoders
    Fuzz {
        /// Minutes for each target
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Only this target
        #[arg(long)]
        target: Option<String>,
    },
    /// The long read-after-write run: 100 million sectors checked under threads
    Stress,
    /// Logs that are torn or damaged in each of their places, and not in a choice of them
    TornLog,
    /// Batch, map and map M under a scheduler that tries out interleavings
    Shuttle,
    /// The filesystem tests with a large tree instead of the small one
    Fs {
        /// Mebibytes of files to take
        #[arg(long, default_value_t = 1200)]
        mebibytes: u64,
        /// Directories to take them from
        #[arg(default_values = ["/usr"])]
        trees: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test => test::all(),
        Chore::Ci { fuzz_seconds } => ci::all(fuzz_seconds),
        Chore::Tidy => tidy::check(),
        Chore::Bench(arguments) => bench::run_chosen(&arguments),
        Chore::Crash(arguments) => crash::run_all(&arguments),
        Chore::Powercut(arguments) => powercut::run_all(&arguments),
        Chore::Torture(arguments) => torture::run_all(&arguments),
        Chore::Sim(arguments) => sim::run_chosen(&arguments),
        Chore::Fuzz { minutes, target } => fuzz::all(minutes * 60, target.as_deref()),
        Chore::Stress => test::stress(),
        Chore::TornLog => test::torn_log(),
        Chore::Shuttle => test::shuttle(),
        Chore::Fs { mebibytes, trees } => test::filesystem(mebibytes, &trees),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cargo x: {message}");
            ExitCode::FAILURE
        }
    }
}
