//! How the judge tells that a server has ended, and how a run of the judge ends itself.

use std::fs;
use std::time::{Duration, Instant};

use super::{DISK, Victim, qemu_nbd};
use crate::harness::{Ended, client, lsvd};

/// A server that answers, and not before its delay is over.
fn slow(socket: &str, _: &str) -> String {
    format!("nbdkit -f -U {socket} --filter=delay memory {DISK} rdelay=1500ms")
}

fn memory(socket: &str, _: &str) -> String {
    format!("nbdkit -f -U {socket} memory {DISK}")
}

/// A server that answers each read with an error as long as a file `errors` is there.
fn failing(socket: &str, disk: &str) -> String {
    format!(
        "nbdkit -f -U {socket} --filter=error memory {DISK} error-pread-rate=100% \
         error-file={disk}.errors"
    )
}

/// Commands after which the server lives on: it is slow, or silent for a time, or has errors.
fn end_nothing(option: &'static str) -> [(Victim, [String; 4]); 3] {
    let commands =
        |kill: String, restart: String| [option.to_owned(), kill, "--restart".to_owned(), restart];
    let answers_late = Victim::start(slow);
    let is_silent = Victim::start(memory);
    let has_errors = Victim::start(failing);
    let pid = is_silent.path("pid").display().to_string();
    let errors = has_errors.path("disk.errors").display().to_string();
    [
        (answers_late, commands("true".to_owned(), "true".to_owned())),
        (
            is_silent,
            commands(
                format!("kill -STOP $(cat {pid})"),
                format!("kill -CONT $(cat {pid})"),
            ),
        ),
        (
            has_errors,
            commands(format!("touch {errors}"), format!("rm {errors}")),
        ),
    ]
}

fn assert_no_end_is_taken_for_one(option: &'static str) {
    for (victim, hooks) in end_nothing(option) {
        let hooks = hooks.each_ref().map(String::as_str);
        // The slow one must answer in this time.
        let more = ["--timeout", "8s", "--no-trim", "--rounds", "2"];
        let ended = victim.load(&[&hooks, &more[..]].concat()).assert_code(1);
        assert!(ended.stderr.contains("did not end the server"), "{ended}");
        assert_eq!(ended.json()["rounds"], 0, "{ended}");
    }
}

#[test]
fn only_a_broken_connection_is_the_end_of_a_killed_server() {
    assert_no_end_is_taken_for_one("--kill");
}

/// A machine without power is silent; one that answers on a connection from before never lost it.
#[test]
fn a_connection_that_outlives_a_power_cut_is_found() {
    assert_no_end_is_taken_for_one("--power-cut");
}

/// The command of the kill asks for an orderly end and does not wait for it.
#[test]
fn a_server_may_answer_for_a_while_before_it_ends() {
    let victim = Victim::start(qemu_nbd);
    let path = |name: &str| victim.path(name).display().to_string();
    let kill = format!(
        "( sleep 2; sh {} ) > {} 2>&1 &",
        path("kill"),
        path("log.kill")
    );
    let restart = format!(
        "while [ -e {} ]; do sleep 0.01; done; sh {}",
        path("pid"),
        path("start")
    );
    for option in ["--kill", "--power-cut"] {
        let hooks = [option, &kill, "--restart", &restart, "--atomic", "512"];
        // One short load may end before anything is flushed.
        let more = ["--expect", "prefix", "--rounds", "2"];
        let ended = victim.load(&[&hooks[..], &more].concat()).assert_code(0);
        assert_eq!(ended.json()["rounds"], 2, "{ended}");
    }
}

/// The old process never closes its connections, as a machine without power does not.
#[test]
fn nobody_waits_for_a_machine_without_power() {
    let victim = Victim::start(|socket, disk| format!("nbdkit -f -U {socket} file {disk}"));
    let path = |name: &str| victim.path(name).display().to_string();
    let cut = format!("kill -STOP $(cat {})", path("pid"));
    let boot = format!("sh {} && sh {}", path("kill"), path("start"));
    let hooks = ["--power-cut", &cut, "--restart", &boot];
    // On a busy disk so few rounds may end before anything is flushed.
    let more = ["--rounds", "3", "--expect", "prefix", "--atomic", "512"];
    let more = [&hooks, &more[..], &["--no-trim"]].concat();
    let started = Instant::now();
    let ended = victim.load(&more).assert_code(0);
    // A machine that boots is waited for ten minutes.
    assert!(started.elapsed() < Duration::from_secs(300), "{ended}");
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
            // Longer than the flushes of the load stand in the way of a read.
            "--timeout",
            "8s",
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
    torture.args(["torture", &victim.uri(), "--load", "400ms"]);
    let ended = Ended::run(&mut torture).assert_code(1);
    assert!(!ended.stdout.contains("right"), "{ended}");
}

/// A signal ends a run as a failure does: what was taken away is given back, what was seen is told.
#[test]
fn a_run_that_is_interrupted_gives_back_what_it_blocked() {
    let victim = Victim::start(qemu_nbd);
    let flag = victim.path("blocked").display().to_string();
    let unblock = format!("rm {flag}");
    let in_the_third = "[ $LSVD_TORTURE_ROUND -lt 3 ] ||";
    for block in [
        format!("touch {flag}; {in_the_third} kill -INT $PPID"),
        format!("touch {flag}; {in_the_third} kill -TERM $PPID"),
        // What it is in the middle of it may end.
        format!("{in_the_third} kill -INT $PPID; sleep 0.5; touch {flag}"),
    ] {
        let hooks = ["--block", &block, "--unblock", &unblock, "--rounds", "100"];
        let ended = victim.load(&hooks).assert_code(1);
        assert!(!fs::exists(&flag).unwrap(), "{ended}");
        assert!(ended.stderr.contains("a signal ended the run"), "{ended}");
        let report = ended.json();
        assert_eq!(report["rounds"], 2, "{ended}");
        assert_eq!(report["right"], false, "{ended}");
    }
}

/// Who does not want to wait for a command says so a second time.
#[test]
fn a_second_signal_ends_the_command_under_way() {
    let victim = Victim::start(qemu_nbd);
    let sleeper = victim.path("sleeper").display().to_string();
    // Two that come to a process before it runs again are one, so it is said until it is heard.
    let kill = format!(
        "echo $$ > {sleeper}\n\
         for n in $(seq 1000); do kill -INT $PPID; sleep 0.5; done"
    );
    let started = Instant::now();
    let hooks = ["--kill", &kill, "--timeout", "10m"];
    let ended = victim.load(&hooks).assert_code(1);
    assert!(started.elapsed() < Duration::from_secs(120), "{ended}");
    let report = ended.json();
    assert_eq!(report["rounds"], 0, "{ended}");
    let sleeper = fs::read_to_string(&sleeper).unwrap();
    let alive = format!("kill -0 {} 2> /dev/null", sleeper.trim());
    let gone = || {
        !client("sh")
            .args(["-c", &alive])
            .status()
            .unwrap()
            .success()
    };
    while !gone() && started.elapsed() < Duration::from_secs(180) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gone(), "{ended}");
}
