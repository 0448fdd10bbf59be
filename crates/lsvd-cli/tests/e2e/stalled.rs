//! A server that is stopped somewhere in its life, and wakes up behind another one's work, in one
//! directory whose lock file was removed by hand: one line of history survives.
//!
//! The calls that make an object durable and give it its name are slowed down, so that stops at
//! even distances fall between them, at each step of creating an object: a superblock, a claim, data,
//! a checkpoint.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Ended, ObjectDirectory, Server, client};

/// Blocks that the first server's client writes, and flushes one by one.
const WRITES: u8 = 6;

/// What is slowed down, and by how many microseconds.
const SLOW: &str = "inject=fdatasync,fsync,linkat:delay_enter=20000";

const WRITE: &str = "
for n in range(6):
    h.pwrite(bytes([n + 1]) * 4096, n * 65536)
    h.flush()
    print(n + 1, flush=True)
";

const READ: &str = "print(*[h.pread(4096, n * 65536)[0] for n in range(6)])";

/// The first server, under a tracer that slows it down; its own process is the child.
fn first(directory: &ObjectDirectory) -> Child {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]);
    command.args(["trace=fdatasync,fsync,linkat", "-e", SLOW]);
    command
        .arg(env!("CARGO_BIN_EXE_lsvd"))
        .env_remove("LSVD_LOG");
    command.arg("serve").arg(directory.objects());
    command.args(["--create", "64M", "--log-size", "64M", "--flush", "store"]);
    command.arg("--socket").arg(directory.socket());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The life of the first server, from its start to an orderly end: how many writes it answered as
/// flushed to the store.
fn live(server: &mut Child) -> u8 {
    let mut uri = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut uri).unwrap();
    let mut flushed = 0;
    if uri.ends_with('\n') {
        let ended = Ended::run(client("nbdsh").args(["-u", uri.trim_end(), "-c", WRITE]));
        let last = ended.stdout.lines().last();
        flushed = last.map_or(0, |last| last.parse().unwrap());
        // A server that was fenced may be gone.
        let _ = kill_process(Pid::from_child(server), Signal::TERM);
    }
    server.wait().unwrap();
    flushed
}

fn blocks(server: &Server) -> Vec<u8> {
    let ended = Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", READ]));
    let words = ended.stdout.split_whitespace();
    words.map(|word| word.parse().unwrap()).collect()
}

fn nbdsh(server: &Server, script: &str) {
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]));
}

/// Ends a server that may have told what was lost when it took over.
fn end(server: Server) {
    server.signal(Signal::TERM);
    let (ended, _directory) = server.wait();
    ended.assert_code(0);
}

/// A server that may be stopped, and goes with the test if that fails.
struct Stopped(Option<Pid>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Whatever comes of it, the test has failed already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A server that takes the volume over from one that was stopped. A call that the first one was in
/// when it was stopped still comes to its end: where that is its claim, and it comes between the
/// second one's look and claim, the second one is refused, and told to try again.
fn take_over(objects: &Path) -> Server {
    let arguments = ["--take-over", "--create", "64M", "--log-size", "64M"];
    let refused = match Server::try_start_beside(objects, &arguments) {
        Ok(server) => return server,
        Err(refused) => refused,
    };
    let at_once = refused.stderr.contains("at this moment") && refused.stderr.contains("try again");
    assert!(at_once, "{refused}");
    Server::start_beside(objects, &arguments)
}

fn stop_after(delay: Duration) {
    let directory = ObjectDirectory::new();
    let mut server = first(&directory);
    let pid = Pid::from_child(&server);
    let mut guard = Stopped(Some(pid));
    let life = thread::spawn(move || live(&mut server));
    thread::sleep(delay);
    // It has ended where the machine was faster than when the life was measured.
    let stopped = !life.is_finished() && kill_process(pid, Signal::STOP).is_ok();
    let objects = directory.objects();
    // Absent where it was stopped before it made one.
    drop(fs::remove_file(objects.join("lsvd.lock")));
    if stopped && !objects.join("superblock.00000000").exists() {
        // There is nothing yet that could be taken over.
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(life.join().unwrap(), WRITES);
        guard.0 = None;
        return;
    }
    let second = take_over(&objects);
    let found = blocks(&second);
    nbdsh(&second, "h.pwrite(b'second' * 4096, 1 << 20); h.flush()");
    if stopped {
        kill_process(pid, Signal::CONT).unwrap();
    }
    let flushed = usize::from(life.join().unwrap());
    guard.0 = None;
    let there = found.iter().take_while(|byte| **byte != 0).count();
    let prefix: Vec<u8> = (1..=WRITES).take(there).collect();
    assert_eq!(found[..there], prefix, "after {delay:?}");
    assert!(
        found[there..].iter().all(|byte| *byte == 0),
        "after {delay:?}: {found:?}"
    );
    assert!(
        there >= flushed,
        "after {delay:?}: {flushed} were flushed of {found:?}"
    );
    let unchanged = |server: &Server| {
        assert_eq!(blocks(server), found, "after {delay:?}");
        nbdsh(server, "assert h.pread(24576, 1 << 20) == b'second' * 4096");
    };
    unchanged(&second);
    nbdsh(&second, "h.pwrite(b'later.' * 4096, 2 << 20); h.flush()");
    unchanged(&second);
    end(second);
    let third = Server::start_beside(&objects, &["--log-size", "64M"]);
    unchanged(&third);
    nbdsh(&third, "assert h.pread(24576, 2 << 20) == b'later.' * 4096");
    end(third);
}

#[test]
fn a_server_that_was_stopped_anywhere_in_its_life_harms_nothing() {
    let stops = std::env::var("LSVD_TEST_STOPS").map_or(8, |stops| stops.parse().unwrap());
    let directory = ObjectDirectory::new();
    let started = Instant::now();
    assert_eq!(live(&mut first(&directory)), WRITES);
    let life = started.elapsed();
    for stop in 0..stops {
        stop_after(life * (2 * stop + 1) / (2 * stops));
    }
}
