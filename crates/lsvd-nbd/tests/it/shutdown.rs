//! The end of a server: what is in work is finished, what comes later is refused.
//!
//! Tests whose time is paused run in memory alone: time goes on only when nothing else does, so
//! they hold on any machine to the millisecond.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::client::{Client, ClientError, ClientOptions};
use lsvd_nbd::wire::ReplyMode;
use lsvd_nbd::wire::constants::CMD_READ;
use lsvd_nbd::{Drained, Listener, MemoryDevice};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Barrier;
use tokio::time::Instant;

use crate::device::TestDevice;
use crate::setup::{MIB, Raw, connect, server, soon};

#[tokio::test(start_paused = true)]
async fn requests_in_work_are_finished() {
    let device = Arc::new(TestDevice::gated(MIB));
    let server = server(Arc::clone(&device));
    let client = connect(&server, ReplyMode::Structured).await;
    let idle = connect(&server, ReplyMode::Simple).await;
    let halfway = Raw::greet(&server, 3).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.write(0, &[1; 512]).await }
    });
    device.holds(1).await;
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(20)).await }
    });
    halfway.hangs_up().await;
    assert!(matches!(soon(idle.flush()).await, Err(ClientError::Closed)));
    assert!(!stopping.is_finished(), "a request is in work");
    device.open_gate();
    soon(held)
        .await
        .expect("it runs")
        .expect("the write is answered");
    assert_eq!(soon(stopping).await.expect("it runs"), Drained::All);
    assert_eq!(server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_cut_off() {
    let device = Arc::new(TestDevice::gated(MIB));
    let server = server(Arc::clone(&device));
    let client = connect(&server, ReplyMode::Structured).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.write(0, &[1; 512]).await }
    });
    device.holds(1).await;
    let began = Instant::now();
    let drained = soon(server.shutdown(Duration::from_millis(200))).await;
    assert_eq!(drained, Drained::Cut(1));
    assert!(
        began.elapsed() <= Duration::from_millis(201),
        "{:?}",
        began.elapsed()
    );
    let answer = soon(held).await.expect("it runs");
    assert!(matches!(answer, Err(ClientError::Closed)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_not_read_do_not_use_up_the_grace() {
    let server = server(Arc::new(MemoryDevice::new(32 * MIB)));
    let mut deaf = Raw::transmission(&server).await;
    deaf.request(CMD_READ, 1, 0, 4 << 20).await;
    soon(deaf.stream.read_exact(&mut [0; 16]))
        .await
        .expect("a reply begins");
    let began = Instant::now();
    let drained = soon(server.shutdown(Duration::from_secs(15))).await;
    assert_eq!(drained, Drained::All);
    // It took some bytes in the first second, and none in the next.
    assert!(
        began.elapsed() < Duration::from_millis(2100),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_read_slowly_are_sent_while_the_server_stops() {
    let server = server(Arc::new(MemoryDevice::new(32 * MIB)));
    let mut slow = Raw::transmission(&server).await;
    slow.request(CMD_READ, 1, 0, 1 << 20).await;
    soon(slow.stream.read_exact(&mut [0; 16]))
        .await
        .expect("a reply begins");
    let stopping = tokio::spawn(async move { server.shutdown(Duration::from_secs(15)).await });
    let mut part = vec![0; 256 << 10];
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        soon(slow.stream.read_exact(&mut part)).await.expect("data");
    }
    assert_eq!(soon(stopping).await.expect("it runs"), Drained::All);
}

/// A connection whose embedder does not poll it cannot end: that must not add to the time.
#[tokio::test(start_paused = true)]
async fn the_grace_is_not_waited_for_twice() {
    let server = server(Arc::new(MemoryDevice::new(MIB)));
    let (_ours, theirs) = tokio::io::duplex(4096);
    let mut connection = Box::pin(server.serve_stream(theirs));
    let polled = tokio::time::timeout(Duration::ZERO, &mut connection).await;
    polled.expect_err("it goes on");
    let began = Instant::now();
    let drained = soon(server.shutdown(Duration::from_secs(2))).await;
    assert_eq!(drained, Drained::Cut(1));
    assert!(
        began.elapsed() < Duration::from_millis(2100),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_lock_file_of_another_kind_is_refused_at_once() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("nbd.sock");
    let lock = place.path().join("nbd.sock.lock");
    let fifo = std::process::Command::new("mkfifo").arg(&lock).status();
    assert!(fifo.expect("mkfifo runs").success());
    // In a thread of its own: what hangs in a system call cannot be timed out.
    let (tell, told) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Handle::current();
    let target = path.clone();
    std::thread::spawn(move || {
        let bound = runtime.block_on(Listener::unix(target));
        let _ = tell.send(bound.map(|_| ()).map_err(|error| error.to_string()));
    });
    let told = told.recv_timeout(Duration::from_secs(60));
    let error = told.expect("it does not hang").expect_err("a FIFO");
    assert!(error.contains("not a regular file"), "{error}");

    std::fs::remove_file(&lock).expect("removed");
    let other = place.path().join("other");
    std::fs::write(&other, "mine").expect("written");
    std::os::unix::fs::symlink(&other, &lock).expect("linked");
    let error = Listener::unix(&path).await.expect_err("a link");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    assert!(other.exists() && lock.is_symlink(), "both are kept");
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_in_the_uri_byte_by_byte() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = tempfile::tempdir().expect("a directory");
    let name = std::ffi::OsStr::from_bytes(b"a\xff b");
    let listener = Listener::unix(place.path().join(name))
        .await
        .expect("bound");
    let uri = listener.uri("");
    assert!(uri.ends_with("/a%FF%20b"), "{uri}");
}

#[tokio::test]
async fn listeners_end_and_leave_no_socket_file() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("nbd.sock");
    let server = server(Arc::new(MemoryDevice::new(MIB)));
    let unix = Listener::unix(&path).await.expect("bound");
    assert!(unix.uri("").starts_with("nbd+unix:///?socket=/"));
    let tcp = Listener::tcp("127.0.0.1:0").await.expect("bound");
    let address = tcp.tcp_address().expect("TCP");
    assert_eq!(tcp.uri("a b"), format!("nbd://{address}/a%20b"));
    let serving = [unix, tcp].map(|listener| {
        let server = server.clone();
        tokio::spawn(async move { server.serve(listener).await })
    });

    let options = ClientOptions::default();
    let one = soon(Client::unix(&path, &options))
        .await
        .expect("connected");
    let other = soon(Client::tcp(address, &options))
        .await
        .expect("connected");
    one.write(0, &[3; 512]).await.expect("a write");
    assert_eq!(other.read(0, 512).await.expect("a read"), [3; 512]);

    let taken = Listener::unix(&path).await.expect_err("it is in use");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let drained = soon(server.shutdown(Duration::from_secs(20))).await;
    assert_eq!(drained, Drained::All);
    for serving in serving {
        soon(serving).await.expect("it ends");
    }
    assert!(!path.exists());
    Client::tcp(address, &options)
        .await
        .expect_err("nobody listens");
}

/// Leaves the socket file of a server that is gone.
fn leave_dead_socket(path: &Path) {
    drop(UnixListener::bind(path).expect("bound"));
    assert!(path.exists(), "a killed server leaves its file");
    // A process that another test has just started has the socket, too, until its program runs.
    let began = std::time::Instant::now();
    while UnixStream::connect(path).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "it lives on");
    }
}

#[tokio::test]
async fn a_socket_file_that_nobody_listens_on_is_replaced_and_other_files_are_kept() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("nbd.sock");
    leave_dead_socket(&path);
    let listener = Listener::unix(&path).await.expect("bound");
    drop(listener);
    std::fs::write(&path, "mine").expect("written");
    let refused = Listener::unix(&path)
        .await
        .expect_err("a file of another kind");
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).expect("read"), b"mine");
}

/// Without a lock, a starter could find the socket dead, wait, and remove the one that another
/// starter has put there meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_many_that_start_on_a_dead_socket_one_gets_it() {
    const STARTERS: usize = 8;
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("nbd.sock");
    let names = || {
        let entries = std::fs::read_dir(place.path()).expect("readable");
        let names = entries.map(|entry| entry.expect("readable").file_name());
        names.collect::<Vec<_>>()
    };
    // What a process that was killed while it held the lock leaves.
    std::fs::write(place.path().join("nbd.sock.lock"), "").expect("written");
    for round in 0..100 {
        leave_dead_socket(&path);
        let start = Arc::new(Barrier::new(STARTERS));
        let starters: Vec<_> = (0..STARTERS)
            .map(|_| {
                let (start, path) = (Arc::clone(&start), path.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    Listener::unix(&path).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for starter in starters {
            match soon(starter).await.expect("it runs") {
                Ok(listener) => winners.push(listener),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        tokio::net::UnixStream::connect(&path)
            .await
            .expect("the one that won listens there");
        assert_eq!(names(), ["nbd.sock"], "round {round}");
        drop(winners);
        assert_eq!(names(), [""; 0], "round {round}");
    }
}
