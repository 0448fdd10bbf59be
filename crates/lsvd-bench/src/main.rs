//! Benchmarks of LSVD beside other systems, one subcommand each.
//!
//! Machines are shared and noisy: every figure is a ratio against something measured in the same
//! run, in turns, several times, and the medians are compared.

mod figures;
mod inprocess;
mod map;
mod nbd;
mod process;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "lsvd-bench", about = "Benchmarks of LSVD beside other systems")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    Map(map::Arguments),
    Inprocess(inprocess::Arguments),
    Nbd(nbd::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().benchmark {
        Benchmark::Map(arguments) => map::run(&arguments),
        Benchmark::Inprocess(arguments) => inprocess::run(&arguments),
        Benchmark::Nbd(arguments) => nbd::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lsvd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
