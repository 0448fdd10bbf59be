//! The commands of the user that kill and restart the server.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// A command line for the shell, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Hook<'a> {
    pub(super) option: &'static str,
    pub(super) command: &'a str,
}

/// Runs commands, one after the other. One that is no longer waited for goes on: half of what it
/// does is nothing that the user has asked for.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// The option that has it, and its end.
    running: Option<(&'static str, JoinHandle<Result<(), Failure>>)>,
}

impl Commands {
    /// Runs a command to its end. What it prints goes to standard error; the round and the seed are
    /// in its environment.
    pub(super) async fn run(
        &mut self,
        hook: &Hook<'_>,
        (seed, round): (u64, u32),
        timeout: Duration,
    ) -> Result<(), Failure> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", hook.command])
            .env("LSVD_TORTURE_SEED", seed.to_string())
            .env("LSVD_TORTURE_ROUND", round.to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        let (option, command) = (hook.option, hook.command.to_owned());
        let failed = move |why: String| {
            Failure::failed(format!(
                "the command of {option} {why} in round {round}: {command}"
            ))
        };
        let running = async move {
            let child = shell
                .spawn()
                .map_err(|error| failed(format!("cannot be started ({error})")))?;
            wait(Group(child), timeout).await.map_err(failed)
        };
        let (_, running) = self.running.insert((hook.option, tokio::spawn(running)));
        let outcome = running.await;
        self.running = None;
        outcome
            .map_err(|error| Failure::failed(format!("a command was not waited for: {error}")))?
    }

    /// Waits for a command that is not waited for; the option that has it, if it did its work.
    pub(super) async fn finish(&mut self) -> Option<&'static str> {
        let (option, running) = self.running.as_mut()?;
        let done = match running.await {
            Ok(Ok(())) => Some(*option),
            Ok(Err(error)) => {
                tracing::warn!("{error}");
                None
            }
            Err(error) => {
                tracing::warn!("a command was not waited for: {error}");
                None
            }
        };
        self.running = None;
        done
    }
}

async fn wait(mut group: Group, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, group.0.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("failed ({status})")),
        Ok(Err(error)) => Err(format!("cannot be waited for ({error})")),
        Err(_) => Err(format!(
            "did not end within {timeout:?} (a server that it starts has to go to the background)"
        )),
    }
}

/// A command with all that it has started: while it is under way, nothing of it is to outlive the
/// run. What it leaves in the background when it has ended is meant to stay.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A child that has been waited for has no number any more.
        let group = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::warn!("cannot kill a command that hangs: {error}");
        }
    }
}
