//! How `lsvd serve` ends: in order, at once, by force; and what is left then.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lsvd::bytes::data_object::DataHeader;
use lsvd::bytes::entry::EntryKind;
use lsvd::words::name::ObjectName;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

/// A client that runs a script of libnbd's shell beside the test.
struct Client {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it, and waits for the first line that it prints.
    fn start(server: &Server, script: &str) -> Self {
        let mut child = client("nbdsh")
            .args(["-u", server.uri(), "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, stdout };
        let mut line = String::new();
        this.stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("it did not get that far: {}", this.end());
        }
        this
    }

    /// Closes its standard input and waits for its end; tells what it printed since.
    fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let mut ended = Ended::from_output(output, "nbdsh".to_owned());
        ended.stdout = rest;
        ended
    }
}

/// Writes 4 KiB blocks over and over, each stamped with its number, several in flight, until the
/// connection dies. Prints a line when it is well under way, and at the end how many were answered
/// of those before the first that was not.
const STAMPING: &str = "
import struct
BLOCKS = 4096
flying = {}
answered = set()
def stamp(number):
    return nbd.Buffer.from_bytearray(bytearray(struct.pack('<Q', number) * 512))
number = 0
try:
    while True:
        while len(flying) < 16:
            data = stamp(number)
            flying[h.aio_pwrite(data, number % BLOCKS * 4096)] = (number, data)
            number += 1
        h.poll(-1)
        for cookie in list(flying):
            if h.aio_command_completed(cookie):
                answered.add(flying.pop(cookie)[0])
                if len(answered) == 2000:
                    print('under way', flush=True)
except nbd.Error:
    pass
count = 0
while count in answered:
    count += 1
print(count)
";

/// The newest stamp of each block, as the objects in `directory` tell it.
fn stamps(directory: &Path) -> BTreeMap<u64, u64> {
    let mut objects: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| ObjectName::parse(&name).unwrap_or_else(|| panic!("{name} is no object")))
        .collect();
    objects.sort_unstable_by_key(|name| name.id);
    let mut newest = BTreeMap::new();
    for name in objects {
        let bytes = fs::read(directory.join(name.to_string())).unwrap();
        let header = DataHeader::decode(&bytes).unwrap();
        let data = data_area(&header, &bytes);
        for entry in &header.entries {
            let EntryKind::Write(offset) = entry.kind else {
                panic!("nothing but writes was sent: {entry:?}");
            };
            let at = usize::try_from(offset.bytes()).unwrap();
            let stamp = u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
            newest.insert(entry.range.start.0 / 8, stamp);
        }
    }
    newest
}

/// The data of an object without the checksums between its blocks.
fn data_area(header: &DataHeader, object: &[u8]) -> Vec<u8> {
    use lsvd::bytes::block::{BLOCK_BYTES, STORED_BLOCK_BYTES};
    let start = header.layout().unwrap().header_len() as usize;
    object[start..]
        .chunks(STORED_BLOCK_BYTES)
        .flat_map(|stored| &stored[..BLOCK_BYTES])
        .copied()
        .collect()
}

#[test]
fn all_that_was_answered_is_stored_when_a_server_under_load_is_told_to_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(
            "16M",
            &["--object-size", "1M", "--store-latency", "5ms..10ms"],
        );
        let writer = Client::start(&server, STAMPING);
        server.signal(signal);
        let (ended, directory) = server.wait();
        ended.assert_code(0);
        let writer = writer.end();
        let answered: u64 = writer
            .stdout
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{writer}"));
        assert!(answered >= 1900, "far from what it had said: {writer}");
        let stored = stamps(&directory.objects());
        for number in answered.saturating_sub(4096)..answered {
            let newest = stored.get(&(number % 4096)).copied();
            assert!(
                newest >= Some(number),
                "write {number} of {answered}: {newest:?} is stored"
            );
        }
        assert!(!directory.socket().exists(), "the socket is still there");
    }
}

/// A server with data that it cannot store: the directory of the objects is gone.
fn stuck_server(arguments: &[&str]) -> Server {
    // That uploads fail is not what these tests want to read about.
    let quiet = ["--seal-timeout", "1ms", "--log", "error"];
    let server = Server::start("16M", &[&quiet[..], arguments].concat());
    fs::remove_dir(server.directory().objects()).unwrap();
    let write = "h.pwrite(b'x' * 65536, 0)";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    server
}

#[track_caller]
fn assert_failed_close(server: Server, message: &str) -> ObjectDirectory {
    let (ended, directory) = server.wait();
    let ended = ended.assert_code(1);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("lsvd: ") && last.contains(message),
        "{ended}"
    );
    assert!(!directory.socket().exists(), "the socket is still there");
    directory
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let server = stuck_server(&["--drain-timeout", "1h"]);
    server.signal(Signal::TERM);
    // Two that come at once count as one.
    let started = Instant::now();
    while server.directory().socket().exists() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it still listens"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal(Signal::TERM);
    assert_failed_close(server, "second signal");
}

#[test]
fn closing_is_bounded_and_says_so_in_one_line() {
    let server = stuck_server(&["--drain-timeout", "1500ms"]);
    let started = Instant::now();
    server.signal(Signal::TERM);
    let (ended, _) = server.wait();
    let ended = ended.assert_code(1);
    assert!(ended.stderr.contains("--drain-timeout"), "{ended}");
    assert_eq!(
        ended.stderr.lines().count(),
        1,
        "progress is for terminals: {ended}"
    );
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1500), "{took:?}");
}

#[test]
fn an_idle_client_does_not_keep_a_server_from_ending() {
    let server = Server::start("16M", &[]);
    let idle = Client::start(
        &server,
        "import sys; print('connected', flush=True); sys.stdin.read()",
    );
    // Were it waited for and cut off, the server would say so.
    server.close();
    idle.end();
}

/// A connection that asked for 32 MiB and takes the beginning of it and no more, as a paused guest
/// would.
fn deaf_client(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    let mut request = Vec::new();
    // Fixed newstyle without zeroes; the default export by EXPORT_NAME; READ of 32 MiB.
    request.extend_from_slice(&3_u32.to_be_bytes());
    request.extend_from_slice(b"IHAVEOPT");
    request.extend_from_slice(&1_u32.to_be_bytes());
    request.extend_from_slice(&0_u32.to_be_bytes());
    request.extend_from_slice(&0x2560_9513_u32.to_be_bytes());
    request.extend_from_slice(&[0; 4 + 8 + 8]);
    request.extend_from_slice(&(32_u32 << 20).to_be_bytes());
    stream.write_all(&request).unwrap();
    // What EXPORT_NAME is answered with, and the header of the reply.
    stream.read_exact(&mut [0; 10 + 16]).unwrap();
    stream
}

#[test]
fn a_client_that_takes_no_answer_does_not_cost_what_is_in_memory() {
    let server = Server::start("64M", &["--drain-timeout", "40s", "--seal-timeout", "1h"]);
    let write = "h.pwrite(b'x' * 65536, 0)";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    let deaf = deaf_client(&server.directory().socket());
    server.signal(Signal::TERM);
    let (ended, directory) = server.wait();
    ended.assert_code(0);
    assert_eq!(directory.names(), ["data.00000000"]);
    drop(deaf);
}

#[test]
fn the_socket_of_a_killed_server_is_taken_over() {
    let server = Server::start("16M", &[]);
    server.signal(Signal::KILL);
    let (_, directory) = server.wait();
    assert!(
        directory.socket().exists(),
        "a killed server cannot remove its socket"
    );
    fs::remove_dir_all(directory.objects()).unwrap();
    let server = Server::start_in(directory, "16M", &[]);
    Ended::success(client("nbdinfo").arg(server.uri()));
    let directory = server.close();
    assert!(!directory.socket().exists(), "the socket is still there");
}

/// An opening takes many requests to the store, and each of them takes this long.
const STORE_LATENCY: Duration = Duration::from_secs(20);

/// Starts a server whose store is slow, sends it `signal` as soon as its socket is there, and waits
/// for its end.
fn signalled_while_it_opens(directory: &ObjectDirectory, create: bool, signal: Signal) -> Ended {
    let latency = format!("{}s", STORE_LATENCY.as_secs());
    let mut serve = Command::new(env!("CARGO_BIN_EXE_lsvd"));
    serve.env_remove("LSVD_LOG");
    serve.arg("serve").arg(directory.objects());
    serve.arg("--socket").arg(directory.socket());
    serve.args(["--log-size", "64M", "--store-latency", &latency]);
    if create {
        serve.args(["--create", "64M"]);
    }
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = serve.spawn().unwrap();
    let started = Instant::now();
    while !directory.socket().exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no socket");
        std::thread::sleep(Duration::from_millis(5));
    }
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let too_long = || signalled.elapsed() > STORE_LATENCY / 2;
    while child.try_wait().unwrap().is_none() && !too_long() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Nothing happens to one that has ended.
    child.kill().unwrap();
    Ended::from_output(child.wait_with_output().unwrap(), format!("{serve:?}"))
}

#[test]
fn a_signal_ends_an_opening_at_once_and_the_next_one_goes_on() {
    for (create, signal) in [(true, Signal::TERM), (false, Signal::INT)] {
        let directory = ObjectDirectory::new();
        if !create {
            let mut create = lsvd();
            create.arg("create").arg(directory.objects());
            Ended::success(create.args(["--size", "64M"]));
        }
        let ended = signalled_while_it_opens(&directory, create, signal).assert_code(1);
        assert_eq!(ended.stdout, "", "{ended}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
        let said = "was being opened: nothing in it is lost";
        assert!(ended.stderr.contains(said), "{ended}");
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "the socket or its lock stays: {left:?}");

        let arguments = ["--create", "64M", "--log-size", "64M"];
        let server = Server::start_lasting(directory, &arguments);
        let write = "h.pwrite(b'x' * 4096, 0); h.flush()";
        Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
        server.close();
    }
}
