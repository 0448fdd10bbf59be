//! Commands with a time limit, and what they said.

use std::fs::File;
use std::process::{Command, Output, Stdio};

/// Seconds after which a command that hangs is killed: far above what the slowest needs.
const LIMIT_SECONDS: u32 = 600;

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    command: String,
}

/// A client of Debian's. The system's folders come first in its path: another Python than the
/// system's lacks the module of libnbd.
pub(crate) fn client(program: &str) -> Command {
    within(LIMIT_SECONDS, program)
}

fn within(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", &seconds.to_string(), program])
        .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// The program under test.
pub(crate) fn lsvd() -> Command {
    lsvd_within(LIMIT_SECONDS)
}

/// The same, killed after so many seconds: for what must fail at once and would otherwise serve.
pub(crate) fn lsvd_within(seconds: u32) -> Command {
    let mut command = within(seconds, env!("CARGO_BIN_EXE_lsvd"));
    command.env_remove("LSVD_LOG");
    command
}

impl Ended {
    /// Runs a command to its end.
    pub(crate) fn run(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        Self::from_output(output, shown)
    }

    /// The same with standard output going to a file.
    pub(crate) fn run_into(command: &mut Command, stdout: File) -> Self {
        let shown = format!("{command:?}");
        command.stdout(stdout).stderr(Stdio::piped());
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        Self::from_output(child.wait_with_output().unwrap(), shown)
    }

    /// Runs a command that must end well.
    #[track_caller]
    pub(crate) fn success(command: &mut Command) -> Self {
        Self::run(command).assert_code(0)
    }

    pub(crate) fn from_output(output: Output, command: String) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command,
        }
    }

    #[track_caller]
    pub(crate) fn assert_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in {self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nended with {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
