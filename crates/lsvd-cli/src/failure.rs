//! How a command fails: an exit code and one line that says what, where, and what to do.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use lsvd::doors::store::StoreError;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    message: String,
}

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

impl Failure {
    /// The arguments were fine, the work failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: FAILED,
            message: message.into(),
        }
    }

    /// The arguments ask for something that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: WRONG_USAGE,
            message: message.into(),
        }
    }

    /// What the parser of the arguments has to say, in one line.
    pub(crate) fn from_arguments(error: &clap::Error) -> Self {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage("a command is needed: try --help");
        }
        let rendered = error.render().to_string();
        let mut message = String::new();
        for line in rendered.lines().map(str::trim) {
            let line = line.strip_prefix("error: ").unwrap_or(line);
            if line.is_empty() || line.starts_with("Usage: ") {
                continue;
            }
            if !message.is_empty() {
                message.push_str(if message.ends_with(':') { " " } else { "; " });
            }
            message.push_str(line);
        }
        Self::usage(message.replace("; For more information, try '--help'.", "; try --help"))
    }

    /// Standard output does not take what is to be printed.
    pub(crate) fn from_output(error: std::io::Error) -> Self {
        Self::failed(format!("cannot write to standard output: {error}"))
    }

    /// Prints the line and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // One line, whatever a cause from outside put into it.
        let lines: Vec<&str> = self.message.lines().map(str::trim).collect();
        let message = lines.join(" ");
        // Where even standard error is gone, the exit code still tells.
        drop(writeln!(std::io::stderr(), "lsvd: {message}"));
        ExitCode::from(self.exit)
    }
}

impl From<lsvd::Error> for Failure {
    fn from(error: lsvd::Error) -> Self {
        match error.kind() {
            lsvd::ErrorKind::InvalidArgument => Self::usage(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        Self::failed(message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
