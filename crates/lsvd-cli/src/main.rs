//! The `lsvd` program: reads the arguments, runs one command, turns its outcome into an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Whatever fails says so in one line on standard
//! error: what, where, and what to do. Standard output carries results only.

mod cli;
mod commands;
mod control;
mod device;
mod failure;
mod log;
mod machine;
mod signals;
mod values;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) if error.use_stderr() => Err(Failure::from_arguments(&error)),
        // `--help` and `--version` come as errors too, but they are what was asked for.
        Err(answer) => answer.print().map_err(Failure::from_output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    log::start(cli.log);
    match cli.command {
        Command::Create(arguments) => commands::create::run(&arguments),
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Info(arguments) => commands::info::run(&arguments),
        Command::List(arguments) => commands::list::run(&arguments),
        Command::Rm(arguments) => commands::rm::run(&arguments),
        Command::Dump(arguments) => commands::dump::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Torture(arguments) => commands::torture::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments),
    }
}
