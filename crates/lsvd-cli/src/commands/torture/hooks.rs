//! The commands of the user that kill and restart the server.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// A command line for the shell, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Hook<'a> {
    pub(super) option: &'static str,
    pub(super) command: &'a str,
}

impl Hook<'_> {
    /// Runs the command to its end. What it prints goes to standard error; the round and the seed
    /// are in its environment.
    pub(super) async fn run(
        &self,
        (seed, round): (u64, u32),
        timeout: Duration,
    ) -> Result<(), Failure> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", self.command])
            .env("LSVD_TORTURE_SEED", seed.to_string())
            .env("LSVD_TORTURE_ROUND", round.to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        let failed = |why: String| {
            Failure::failed(format!(
                "the command of {} {why} in round {round}: {}",
                self.option, self.command
            ))
        };
        let mut child = shell
            .spawn()
            .map_err(|error| failed(format!("cannot be started ({error})")))?;
        match tokio::time::timeout(timeout, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(format!("failed ({status})"))),
            Ok(Err(error)) => Err(failed(format!("cannot be waited for ({error})"))),
            Err(_) => {
                end_group(&child);
                Err(failed(format!(
                    "did not end within {timeout:?} (a server that it starts has to go to the \
                     background)"
                )))
            }
        }
    }
}

/// Kills a command with all that it has started: nothing of it is to outlive the run.
fn end_group(shell: &Child) {
    let group = shell.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = group.and_then(Pid::from_raw)
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::warn!("cannot kill a command that hangs: {error}");
    }
}
