//! How the judge tells that a server has ended, and how a run of the judge ends itself.

use std::time::{Duration, Instant};

use super::Victim;
use crate::harness::{Ended, lsvd};

/// The old process never closes its connections, as a machine without power does not.
#[test]
fn nobody_waits_for_a_machine_without_power() {
    let victim = Victim::start(|socket, disk| format!("nbdkit -f -U {socket} file {disk}"));
    let path = |name: &str| victim.path(name).display().to_string();
    let cut = format!("kill -STOP $(cat {})", path("pid"));
    let boot = format!("sh {} && sh {}", path("kill"), path("start"));
    let hooks = ["--power-cut", &cut, "--restart", &boot];
    let more = ["--rounds", "3", "--expect", "disk", "--no-trim"];
    let started = Instant::now();
    let ended = victim.load(&[&hooks, &more[..]].concat()).assert_code(0);
    assert!(started.elapsed() < Duration::from_secs(50), "{ended}");
    let report = ended.json();
    assert_eq!(report["ended_by"], "power cut", "{ended}");
    assert!(
        report["writes"]["unanswered"].as_u64().unwrap() > 0,
        "{ended}"
    );
}

/// A run that ends nothing, or is answered nothing, proves nothing.
#[test]
fn a_run_that_proves_nothing_is_not_right() {
    let victim = Victim::start(|socket, disk| format!("nbdkit -f -U {socket} file {disk}"));
    for end in ["--kill", "--power-cut"] {
        let ended = victim.load(&[
            end,
            "true",
            "--expect",
            "disk",
            "--no-trim",
            "--timeout",
            "2s",
        ]);
        let ended = ended.assert_code(1);
        assert!(ended.stderr.contains("did not end the server"), "{ended}");
    }
    let refusing = |socket: &str, disk: &str| {
        format!(
            "nbdkit -f -U {socket} --filter=error file {disk} error-pwrite-rate=100% \
             error-zero-rate=100% error-trim-rate=100%"
        )
    };
    let victim = Victim::start(refusing);
    let more = ["--rounds", "2", "--no-trim"];
    for ended in [
        victim.torture(&[&more[..], &["--expect", "disk"]].concat()),
        victim.torture(&[&more[..], &["--expect", "prefix"]].concat()),
        victim.load(&more),
    ] {
        let ended = ended.assert_code(1);
        assert!(ended.stderr.contains("nothing is proved"), "{ended}");
        assert_eq!(ended.json()["right"], false, "{ended}");
        assert_eq!(ended.json()["writes"]["answered"], 0, "{ended}");
    }
    let mut torture = lsvd();
    torture.args(["torture", &victim.uri(), "--load", "50ms"]);
    let ended = Ended::run(&mut torture).assert_code(1);
    assert!(!ended.stdout.contains("right"), "{ended}");
}
