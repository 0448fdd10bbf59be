//! `lsvd bench` and `lsvd completions` do what they say.

use crate::harness::{Ended, lsvd};

/// Longer than any machine takes for what a run is to do: it ends by that, and not by the time.
const LONG: &str = "10m";

#[test]
fn a_run_counts_what_it_did_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for rw in ["randwrite", "randread", "write", "read"] {
        let mut bench = lsvd();
        bench.arg("bench").arg(directory.path());
        bench.args(["--ephemeral", "--create", "32M", "--rw", rw, "--bs", "4K"]);
        bench.args(["--threads", "3", "--total", "16M", "--runtime", LONG]);
        bench.arg("--json");
        let report = Ended::success(&mut bench).json();
        assert_eq!(report["requests"], 4096, "{report}");
        assert_eq!(report["bytes"], 16 << 20, "{report}");
        assert!(
            report["answered_mb_per_second"].as_f64().unwrap() > 0.0,
            "{report}"
        );
        let (p50, max) = (&report["latency_us"]["p50"], &report["latency_us"]["max"]);
        assert!(p50.as_f64().unwrap() <= max.as_f64().unwrap(), "{report}");
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "{rw} left objects behind");
    }
}

#[test]
fn a_volume_that_lasts_is_measured_and_gone_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = lsvd();
    bench.arg("bench").arg(directory.path());
    // Each write waits for a sync.
    bench.args(["--create", "32M", "--bs", "4K", "--total", "1M", "--json"]);
    bench.args(["--runtime", LONG]);
    bench.args(["--log-size", "64M", "--durability", "writethrough"]);
    let report = Ended::success(bench.args(["--fsync", "2", "--flush", "store"])).json();
    assert_eq!(report["requests"], 256, "{report}");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "the volume is still there");
}

#[test]
fn time_ends_a_run_and_objects_can_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = lsvd();
    bench.arg("bench").arg(directory.path());
    bench.args([
        "--ephemeral",
        "--create",
        "32M",
        "--runtime",
        "200ms",
        "--keep",
    ]);
    Ended::success(bench.args(["--store-latency", "1ms"])).assert_stdout_has("answered");
    assert!(std::fs::read_dir(directory.path()).unwrap().count() > 0);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        Ended::success(lsvd().args(["completions", shell])).assert_stdout_has("serve");
    }
}
