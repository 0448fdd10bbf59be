//! The command line as a whole: the commands there are, and what `lsvd --help` teaches.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::log::LogLevel;

/// A log-structured virtual disk: block writes become large immutable objects in a store
#[derive(Debug, Parser)]
#[command(name = "lsvd", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How much to log on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        env = "LSVD_LOG",
        default_value_t = LogLevel::Warn,
        value_name = "LEVEL",
        help_heading = "Logging"
    )]
    pub(crate) log: LogLevel,
}

/// One file a command, in the folder `commands`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(commands::create::Arguments),
    Serve(commands::serve::Arguments),
    Info(commands::info::Arguments),
    List(commands::list::Arguments),
    Rm(commands::rm::Arguments),
    Dump(commands::dump::Arguments),
    Bench(commands::bench::Arguments),
    Torture(commands::torture::Arguments),
    Completions(commands::completions::Arguments),
}

const AFTER_HELP: &str = "\
A volume is named by a URL:
  /dir/vol or file:///dir/vol   a directory on this machine
  memory://                     this process's memory, for tests

Sizes take K, M, G and T, which are powers of 1024: 512, 64K, 10G.
Durations take units: 500us, 5ms, 2s, 1m.

Try it:
  lsvd serve /tmp/lsvd --create 10G
  nbdinfo 'nbd+unix:///?socket=/tmp/lsvd.sock'

Exit codes: 0 done, 1 failed (one line on standard error says what, where and what to do),
2 wrong usage.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Someone who meets a command for the first time learns by example.
    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains(&format!("  lsvd {name} "))),
                "`lsvd {name} --help` ends without an example"
            );
        }
    }
}
