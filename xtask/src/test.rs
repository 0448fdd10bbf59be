//! The tests: all of them with a total at the end, and the long ones one by one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::needs;
use crate::step::{Outcome, cargo, root, run, timed};

/// Installs what is missing, then runs every test of the workspace and of its documentation.
pub(crate) fn all() -> Outcome {
    needs::install()?;
    let mut total = Total::default();
    let outcome = timed("all tests", || {
        let mut command = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
        let outcome = counted(&mut command, &mut total);
        // The engine once more, under the model checker; a failure above is not to hide one here.
        let checked = counted(&mut shuttle_command(), &mut total);
        outcome.and(checked)
    });
    let outcome = outcome.and(kills());
    eprintln!(
        "\ntests: {} passed, {} failed, {} ignored, in {} runs",
        total.passed, total.failed, total.ignored, total.runs
    );
    outcome?;
    if total.passed == 0 {
        return Err("no test ran at all: the summary lines were not understood".to_owned());
    }
    Ok(())
}

/// A small share of `cargo x crash`: kills of the program that the tests above were run with, its log
/// kept and its log lost. The seeds are new ones, and printed.
fn kills() -> Outcome {
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    // The tests have built it beside this one.
    let program = own.with_file_name("lsvd");
    for (title, how) in [
        ("20 kills", &["--rounds", "20"][..]),
        ("10 kills, the log lost", &["--rounds", "10", "--log-lost"]),
    ] {
        let mut command = Command::new(&own);
        command.arg("crash").args(how);
        run(title, command.arg("--program").arg(&program))?;
    }
    Ok(())
}

/// Sector checks of the long run.
const STRESS_CHECKS: &str = "100000000";

/// The long read-after-write run.
pub(crate) fn stress() -> Outcome {
    let mut command = cargo(&[
        "test",
        "--locked",
        "--release",
        "-p",
        "lsvd",
        "--test",
        "it",
    ]);
    command
        .args(["--", "stress::", "--nocapture"])
        .env("LSVD_STRESS_CHECKS", STRESS_CHECKS);
    run("read-after-write stress", &mut command)
}

/// The tests of damaged logs in each of the places, of which every run takes some.
pub(crate) fn torn_log() -> Outcome {
    let mut command = cargo(&["test", "--locked", "--release"]);
    command
        .args(["-p", "lsvd", "--test", "it", "--", "torn_log::"])
        .arg("--nocapture")
        .env("LSVD_TORN_LOG", "all");
    run("a log damaged in each place", &mut command)
}

/// The engine under a scheduler that tries out interleavings.
pub(crate) fn shuttle() -> Outcome {
    run("every schedule", &mut shuttle_command())
}

/// Its locks are others then, so it is another build, in a folder of its own: it would throw the
/// usual one away.
fn shuttle_command() -> Command {
    let mut command = cargo(&["test", "--locked", "-p", "lsvd", "--test", "shuttle"]);
    command
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("CARGO_TARGET_DIR", root().join("target/shuttle"));
    command
}

/// The filesystem tests with a large tree.
pub(crate) fn filesystem(mebibytes: u64, trees: &[String]) -> Outcome {
    needs::install()?;
    let mut command = cargo(&["test", "--locked", "-p", "lsvd-cli", "--test", "e2e"]);
    command
        .args(["--", "fs::", "--nocapture", "--test-threads=1"])
        .env("LSVD_TEST_TREES", trees.join(":"))
        .env("LSVD_TEST_TREE_BYTES", (mebibytes << 20).to_string());
    run("filesystems", &mut command)
}

/// The test that kills a server under a mounted filesystem, with so many kills.
pub(crate) fn killed_filesystem(rounds: u32) -> Outcome {
    needs::install()?;
    let mut command = cargo(&["test", "--locked", "-p", "lsvd-cli", "--test", "e2e"]);
    command
        .args(["--", "killed_fs::", "--nocapture"])
        .env("LSVD_TEST_KILLED_FS_ROUNDS", rounds.to_string());
    run("kill a server under a filesystem", &mut command)
}

/// Sums of the lines with which each test binary ends.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    runs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Total {
    /// Takes `test result: ok. 3 passed; 0 failed; 1 ignored; ...` in, and nothing else.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        self.runs += 1;
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Runs tests, passes their output through and counts.
fn counted(command: &mut Command, total: &mut Total) -> Outcome {
    let failed = |error: std::io::Error| format!("cannot run the tests: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        let mut stdout = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            total.add(&String::from_utf8_lossy(&line));
            stdout.write_all(&line).map_err(failed)?;
            stdout.write_all(b"\n").map_err(failed)?;
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("tests failed ({status})"))
    }
}

#[cfg(test)]
mod tests {
    use super::Total;

    #[test]
    fn only_summary_lines_are_counted() {
        let mut total = Total::default();
        total.add("test a_test ... ok");
        total.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out");
        total.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured");
        let expected = Total {
            runs: 2,
            passed: 4,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(total, expected);
    }
}
