//! Running one command of a chore: shown before it runs, timed, and fatal when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A chore ends well or with the reason why not.
pub(crate) type Outcome = Result<(), String>;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// A cargo command in the workspace, by the cargo that runs us. What compiles says `--locked`: it is
/// to be the versions in `Cargo.lock` that are checked, and a lock file left behind is an error.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// Shows the command, runs it, and fails when it does.
pub(crate) fn run(title: &str, command: &mut Command) -> Outcome {
    timed(title, || {
        let status = command
            .status()
            .map_err(|error| format!("cannot run {command:?}: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{title}: {status}: {command:?}"))
        }
    })
}

/// Runs a step between a line that names it and a line that says how long it took.
pub(crate) fn timed(title: &str, step: impl FnOnce() -> Outcome) -> Outcome {
    eprintln!("\n== {title}");
    let started = Instant::now();
    step()?;
    eprintln!("== {title}: done in {:.0?}", started.elapsed());
    Ok(())
}

/// Runs a command that says nothing when all is well.
pub(crate) fn quietly(command: &mut Command) -> Outcome {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Runs a command that must end well, and gives its standard output.
pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
