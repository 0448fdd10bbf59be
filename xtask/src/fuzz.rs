//! Fuzzing of everything that decodes bytes from outside; needs a nightly compiler and cargo-fuzz,
//! while the targets can be checked without.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::step::{Outcome, cargo, root, run};

/// Why fuzzing cannot be done here, if it cannot.
pub(crate) fn unavailable() -> Option<String> {
    let works = |arguments: &[&str]| {
        Command::new("cargo")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !root().join("fuzz/Cargo.toml").is_file() {
        return Some("there is no folder `fuzz`".to_owned());
    }
    if !works(&["+nightly", "--version"]) {
        return Some("no nightly compiler (rustup toolchain install nightly)".to_owned());
    }
    if !works(&["+nightly", "fuzz", "--version"]) {
        return Some("no cargo-fuzz (cargo install cargo-fuzz)".to_owned());
    }
    None
}

/// Formats, compiles and lints the targets, for which any compiler does and no fuzzer is needed: a
/// change that breaks them must not wait for someone who has both. Their `Cargo.lock` is checked
/// on the way, which cargo-fuzz could not be told to do.
pub(crate) fn check() -> Outcome {
    let manifest = root().join("fuzz/Cargo.toml");
    let of_fuzz = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        command.arg("--manifest-path").arg(&manifest);
        command
    };
    run(
        "format of the fuzz targets",
        of_fuzz(&["fmt"]).arg("--check"),
    )?;
    let mut clippy = of_fuzz(&["clippy", "--locked", "--no-default-features"]);
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        clippy.arg("--target-dir").arg(root().join("target"));
    }
    run(
        "clippy of the fuzz targets",
        clippy.args(["--", "-D", "warnings"]),
    )
}

/// Fuzzes each target, or the one named, for so many seconds.
pub(crate) fn all(seconds: u64, only: Option<&str>) -> Outcome {
    let targets = targets()?;
    let chosen: Vec<_> = targets
        .iter()
        .filter(|target| only.is_none_or(|only| only == *target))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no such target: there are {}", targets.join(", ")));
    }
    for target in chosen {
        let mut command = Command::new("cargo");
        command
            .args(["+nightly", "fuzz", "run", target, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .current_dir(root());
        run(&format!("fuzz {target} for {seconds} s"), &mut command)?;
    }
    Ok(())
}

/// The targets are the files in the folder.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_some_and(|ending| ending == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}
