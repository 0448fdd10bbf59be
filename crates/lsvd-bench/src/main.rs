//! Benchmarks of LSVD beside other systems, one subcommand each.
//!
//! Machines are shared and noisy: every figure is a ratio against something measured in the same
//! run, in turns, several times, and the medians are compared.

mod checkpoint;
mod disk;
mod figures;
mod inprocess;
mod map;
mod memory;
mod nbd;
mod open;
mod process;
mod random;
mod served;
mod sync;

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
    Checkpoint(checkpoint::Arguments),
    Map(map::Arguments),
    Inprocess(inprocess::Arguments),
    Nbd(nbd::Arguments),
    Sync(sync::Arguments),
    Open(open::Arguments),
    #[command(hide = true)]
    FillLog(open::fill::Arguments),
    Memory(memory::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().benchmark {
        Benchmark::Checkpoint(arguments) => checkpoint::run(&arguments),
        Benchmark::Map(arguments) => map::run(&arguments),
        Benchmark::Inprocess(arguments) => inprocess::run(&arguments),
        Benchmark::Nbd(arguments) => nbd::run(&arguments),
        Benchmark::Sync(arguments) => sync::run(&arguments),
        Benchmark::Open(arguments) => open::run(&arguments),
        Benchmark::FillLog(arguments) => open::fill::run(&arguments),
        Benchmark::Memory(arguments) => memory::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lsvd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
