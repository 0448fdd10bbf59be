//! `lsvd completions`: a completion script for a shell.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const AFTER_HELP: &str = "\
Examples:
  lsvd completions bash > /etc/bash_completion.d/lsvd
  lsvd completions zsh > ~/.zfunc/_lsvd
  lsvd completions fish > ~/.config/fish/completions/lsvd.fish";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Into memory first: the generator panics where its output cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "lsvd", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(Failure::from_output)
}
