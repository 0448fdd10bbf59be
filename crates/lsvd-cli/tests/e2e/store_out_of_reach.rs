//! A store that is full or hangs, and is back: the real server with its objects on a small disk of
//! their own, and its write log on another.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ended, ObjectDirectory, Server, SmallDisk, client, lsvd, may_mount};

const MIB: u64 = 1 << 20;

/// Room of the write log.
const LOG: u64 = 24 * MIB;

/// How long a store fails before what waits for it fails, too.
const RETRY_TIMEOUT: &str = "2s";

/// How long draining may take, on a machine that does much else.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// A volume whose store is a small disk. The fields are dropped in this order.
struct Away {
    folder: ObjectDirectory,
    disk: SmallDisk,
    _image: tempfile::TempDir,
}

impl Away {
    /// With 64 MiB; nothing where this machine cannot mount.
    fn new() -> Option<Self> {
        if !may_mount() {
            return None;
        }
        let image = tempfile::tempdir().unwrap();
        let disk = SmallDisk::new(image.path(), 64);
        let away = Self {
            folder: ObjectDirectory::new(),
            disk,
            _image: image,
        };
        let mut create = lsvd();
        create.arg("create").arg(away.volume());
        create.args(["--size", "256M", "--object-size", "1M"]);
        Ended::success(&mut create);
        Some(away)
    }

    fn volume(&self) -> std::path::PathBuf {
        self.disk.path().join("vol")
    }

    /// The arguments with which it is served: the log is not where the objects are.
    fn arguments(&self) -> [String; 8] {
        let cache = self.folder.path().join("cache");
        [
            "--cache-dir",
            cache.to_str().unwrap(),
            "--log-size",
            &LOG.to_string(),
            "--retry-timeout",
            RETRY_TIMEOUT,
            "--seal-timeout",
            "100ms",
        ]
        .map(str::to_owned)
    }

    fn serve(&self) -> Server {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start_at(&self.volume(), ObjectDirectory::new(), &arguments)
    }

    /// What the server says of itself.
    fn served(&self) -> Value {
        let mut info = lsvd();
        let ended = Ended::success(info.arg("info").arg(self.volume()).arg("--json"));
        ended.json()["served"].clone()
    }

    #[track_caller]
    fn wait_until_drained(&self) {
        let started = Instant::now();
        loop {
            let served = self.served();
            if served["at_risk_bytes"] == 0 {
                assert_eq!(served["error"], Value::Null, "{served}");
                return;
            }
            assert!(started.elapsed() < DRAINED_WITHIN, "not drained: {served}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Runs a script of libnbd's shell against a server, and gives what it printed.
#[track_caller]
fn nbdsh(server: &Server, script: &str) -> String {
    let prelude = "
import errno, time
MIB = 1 << 20
def data(number, byte=0):
    return bytes([1 + (number + byte) % 255]) * MIB
";
    let script = format!("{prelude}{script}");
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", &script])).stdout
}

/// Reads `count` pieces of 1 MiB back, and expects what `data` gives.
fn expect(server: &Server, count: u64) {
    let script = format!(
        "
for number in range({count}):
    assert h.pread(MIB, number * MIB) == data(number), number
"
    );
    nbdsh(server, &script);
}

/// Writes and flushes pieces of 1 MiB from `first` on until one is refused; says how many were not.
fn write_until_refused(server: &Server, first: u64) -> u64 {
    let script = format!(
        "
number = {first}
while True:
    assert number < 256, 'a full store and a full log refuse nothing'
    begun = time.monotonic()
    try:
        h.pwrite(data(number), number * MIB)
    except nbd.Error as error:
        assert error.errno in ('ENOSPC', 'EIO'), error
        waited = time.monotonic() - begun
        break
    h.flush()
    number += 1
assert waited < 60, waited
# It was refused whole.
assert h.pread(MIB, number * MIB) == bytes(MIB)
# What was accepted is in the log, which is what a flush asks for.
h.flush()
print(number)
"
    );
    nbdsh(server, &script).trim().parse().unwrap()
}

/// Fills the disk of the store and then the log: gives how many pieces of 1 MiB were flushed.
fn fill(away: &Away, server: &Server) -> u64 {
    nbdsh(server, "h.pwrite(data(0), 0); h.flush()");
    away.wait_until_drained();
    away.disk.fill();
    let flushed = write_until_refused(server, 1);
    // The log holds segments, each a little longer than an object; the store took next to nothing.
    let (least, most) = (LOG / MIB / 2, LOG / MIB + 2);
    assert!((least..=most).contains(&flushed), "{flushed} MiB accepted");
    let served = away.served();
    let at_risk = served["at_risk_bytes"].as_u64().unwrap();
    assert!(at_risk >= (flushed - 2) * MIB, "{served}");
    assert!(at_risk <= (flushed + 2) * MIB, "{served}");
    assert_eq!(served["not_durable_bytes"], 0, "{served}");
    assert!(
        served["at_risk_seconds"].as_f64().unwrap() >= 2.0,
        "{served}"
    );
    let error = served["error"].as_str().unwrap();
    assert!(error.contains("no space left"), "{served}");
    expect(server, flushed);
    flushed
}

#[test]
fn a_full_store_lets_writes_wait_in_the_log_and_drains_when_there_is_room() {
    let Some(away) = Away::new() else { return };
    let server = away.serve();
    let flushed = fill(&away, &server);
    away.disk.empty();
    away.wait_until_drained();
    let script = format!("h.pwrite(data({flushed}), {flushed} * MIB); h.flush()");
    nbdsh(&server, &script);
    expect(&server, flushed + 1);
    server.signal(Signal::TERM);
    let (ended, _directory) = server.wait();
    ended.assert_code(0);
    let server = away.serve();
    expect(&server, flushed + 1);
    server.close();
}

#[test]
fn what_was_flushed_while_the_store_was_full_survives_a_kill() {
    let Some(away) = Away::new() else { return };
    let server = away.serve();
    let flushed = fill(&away, &server);
    drop(server.kill());
    // A claim needs room, too: it is refused, and changes nothing.
    let mut again = lsvd();
    again.arg("serve").arg(away.volume()).args(away.arguments());
    let ended = Ended::run(again.arg("--socket").arg(away.folder.path().join("s")));
    let ended = ended.assert_code(1);
    assert!(ended.stderr.contains("No space left"), "{ended}");
    away.disk.empty();
    let server = away.serve();
    expect(&server, flushed);
    away.wait_until_drained();
    expect(&server, flushed);
    server.close();
}

#[test]
fn a_store_that_hangs_holds_up_neither_flushes_nor_reads() {
    let Some(away) = Away::new() else { return };
    for kill in [false, true] {
        let server = away.serve();
        nbdsh(&server, "h.pwrite(data(0), 0); h.flush()");
        away.wait_until_drained();
        let hanging = away.disk.hang();
        // Far less than the store is away.
        let script = "
begun = time.monotonic()
for number in range(1, 9):
    h.pwrite(data(number), number * MIB)
    h.flush()
assert time.monotonic() - begun < 20
";
        nbdsh(&server, script);
        std::thread::sleep(Duration::from_secs(3));
        expect(&server, 9);
        let served = away.served();
        assert!(
            served["at_risk_bytes"].as_u64().unwrap() >= 8 * MIB,
            "{served}"
        );
        assert!(
            served["at_risk_seconds"].as_f64().unwrap() >= 3.0,
            "{served}"
        );
        if kill {
            // It ends when what it waits for goes on.
            server.signal(Signal::KILL);
            drop(hanging);
            drop(server.wait());
            let server = away.serve();
            expect(&server, 9);
            away.wait_until_drained();
            server.close();
        } else {
            drop(hanging);
            away.wait_until_drained();
            expect(&server, 9);
            nbdsh(&server, "h.zero(9 * MIB, 0); h.flush()");
            server.signal(Signal::TERM);
            server.wait().0.assert_code(0);
        }
    }
}
