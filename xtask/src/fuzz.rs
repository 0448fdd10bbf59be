//! Fuzzing of everything that decodes bytes from outside: of clients, of the store and of the disk.
//! It needs a nightly compiler and cargo-fuzz, while the targets can be checked without.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::step::{Outcome, cargo, root, run};

/// The folders whose golden files a target begins with: no fuzzer guesses a magic and the lengths
/// behind it in the time that it has here.
const GOLDEN: [(&str, &str); 4] = [
    ("checkpoint", "crates/lsvd/src/bytes/checkpoint"),
    ("data_object", "crates/lsvd/src/state/batch"),
    ("superblock", "crates/lsvd/src/bytes/superblock"),
    ("write_log", "crates/lsvd/src/bytes/log"),
];

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

/// Fuzzes each target, for so many seconds in all.
pub(crate) fn share(seconds: u64) -> Outcome {
    let targets = targets()?.len().max(1) as u64;
    all((seconds / targets).max(1), None)
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
        sow(target)?;
        let mut command = Command::new("cargo");
        command
            .args(["+nightly", "fuzz", "run", target, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .current_dir(root());
        run(&format!("fuzz {target} for {seconds} s"), &mut command)?;
    }
    Ok(())
}

/// Puts the golden files of a target to what it found in earlier runs.
fn sow(target: &str) -> Outcome {
    let Some((_, folder)) = GOLDEN.iter().find(|(name, _)| *name == target) else {
        return Ok(());
    };
    let corpus = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    for file in golden(folder)? {
        if let Some(name) = file.file_name() {
            fs::copy(&file, corpus.join(name))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// The golden files in a folder.
fn golden(folder: &str) -> Result<Vec<PathBuf>, String> {
    let begins = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("golden-"))
    };
    let mut files = files(&root().join(folder))?;
    files.retain(|path| begins(path));
    if files.is_empty() {
        return Err(format!("{folder} has no golden files"));
    }
    Ok(files)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(failed)
}

/// The targets are the files in the folder.
fn targets() -> Result<Vec<String>, String> {
    let mut targets = Vec::new();
    for path in files(&root().join("fuzz/fuzz_targets"))? {
        if path.extension().is_some_and(|ending| ending == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            targets.push(name.to_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::{GOLDEN, golden, targets};

    /// The fuzzer is not everywhere, and without it nobody would see that a folder has another name.
    #[test]
    fn each_target_of_bytes_at_rest_begins_with_golden_files() {
        let targets = targets().unwrap();
        for (target, folder) in GOLDEN {
            assert!(targets.iter().any(|name| name == target), "{target}");
            assert!(!golden(folder).unwrap().is_empty());
        }
    }
}
