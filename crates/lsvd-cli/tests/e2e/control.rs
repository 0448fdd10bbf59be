//! The control socket: for its user alone, and no input makes it fall over.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

fn server() -> Server {
    let arguments = ["--create", "16M", "--log-size", "64M"];
    Server::start_lasting(ObjectDirectory::new(), &arguments)
}

fn connect(server: &Server) -> UnixStream {
    let path = server.directory().objects().join("cache/control.sock");
    let stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// Sends `input`, ends the sending side, and gives all that comes back.
fn converse(server: &Server, input: &[u8]) -> String {
    let mut stream = connect(server);
    // It may have been cut off already.
    drop(stream.write_all(input));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[test]
fn only_its_user_may_connect() {
    let server = server();
    let path = server.directory().objects().join("cache/control.sock");
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    server.close();
    assert!(!path.exists());
}

#[test]
fn several_requests_are_answered_on_one_connection() {
    let server = server();
    let mut stream = connect(&server);
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        stream
            .write_all(b"{\"version\":1,\"verb\":\"status\"}\n")
            .unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["version"], 1, "{line}");
        assert_eq!(answer["status"]["pid"], server.pid(), "{line}");
        assert_eq!(answer["status"]["size"], 16 << 20, "{line}");
    }
    server.close();
}

#[test]
fn bad_requests_get_the_reason_and_harm_nobody() {
    let server = server();
    for (input, kind) in [
        (&b"status\n"[..], "malformed"),
        (b"\n", "malformed"),
        (b"{\"version\":1}\n", "malformed"),
        (b"\xff\xfe\x00\n", "malformed"),
        (b"{\"version\":9,\"verb\":\"status\"}\n", "unknown-version"),
        (b"{\"version\":1,\"verb\":\"format\"}\n", "unknown-verb"),
        (&[b'x'; 100_000], "too-long"),
        (&[b'['; 4096], "too-long"),
    ] {
        let answer = converse(&server, input);
        let shown = String::from_utf8_lossy(&input[..input.len().min(40)]);
        let first: serde_json::Value =
            serde_json::from_str(answer.lines().next().unwrap_or_default())
                .unwrap_or_else(|error| panic!("{shown}: {error} in {answer:?}"));
        assert_eq!(first["error"]["kind"], kind, "{shown}: {answer}");
    }
    // Half a request is none.
    for input in [&b""[..], b"{\"version\":1,\"verb\":\"status\"}", b"{"] {
        assert_eq!(converse(&server, input), "");
    }
    // A bad one does not end the connection for the good one behind it.
    let answer = converse(&server, b"x\n{\"version\":1,\"verb\":\"status\"}\n");
    assert_eq!(answer.lines().count(), 2, "{answer}");
    assert!(answer.contains("\"status\""), "{answer}");
    server.close();
}

#[test]
fn silent_connections_are_cut_off_and_keep_nobody_out_for_long() {
    let server = server();
    // More than are answered at once; the rest waits to be accepted.
    let mut silent: Vec<UnixStream> = (0..24).map(|_| connect(&server)).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        // Some say half a word first.
        if number % 2 == 0 {
            stream.write_all(b"{\"ver").unwrap();
        }
    }
    // Clients of the disk notice nothing.
    let write = "h.pwrite(b'x' * 4096, 0); h.flush()";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    let started = Instant::now();
    let mut rest = Vec::new();
    silent[0].read_to_end(&mut rest).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(rest, b"");
    drop(silent);
    let asked = || {
        Ended::run(
            lsvd()
                .arg("info")
                .arg(server.directory().objects())
                .arg("--json"),
        )
    };
    let started = Instant::now();
    while asked().json()["served"]["pid"] != server.pid() {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", asked());
    }
    server.close();
}
