//! Clients that mean ill: each bound of the server has a test, and no other client suffers.
//!
//! All of it is in memory, and time is paused: it goes on only when nothing else does. So a pause
//! here lasts until everybody waits, and the limits hold on any machine to the millisecond.

use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::client::{Client, ClientOptions};
use lsvd_nbd::wire::constants::{CMD_READ, CMD_WRITE};
use lsvd_nbd::wire::{ReplyMode, RequestHeader};
use lsvd_nbd::{Limits, MemoryDevice, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::device::TestDevice;
use crate::setup::{MIB, Raw, connect, dial, server, server_with, soon};

/// Least memory, and little patience.
fn tight() -> Limits {
    Limits {
        memory: 64 << 20,
        stall_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

async fn works(server: &Server) {
    let client = connect(server, ReplyMode::Structured).await;
    let data = vec![5; 4 << 20];
    soon(client.write(0, &data)).await.expect("a write");
    assert!(soon(client.read(0, 4 << 20)).await.expect("a read") == data);
    client.disconnect().await.expect("sent");
}

async fn has_connections(server: &Server, count: usize) {
    soon(async {
        while server.connections() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Without patience: nobody has to be ended for others to go on.
fn patient() -> Limits {
    Limits {
        stall_timeout: Duration::from_secs(3600),
        ..tight()
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_announced_and_never_sent_take_no_shared_memory() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), patient());
    let mut stalled = Vec::new();
    // 128 x 32 MiB are announced: 64 times the memory.
    for _ in 0..128 {
        let mut raw = Raw::transmission(&server).await;
        raw.request(CMD_WRITE, 1, 0, 32 << 20).await;
        raw.stream.write_all(&[0; 1000]).await.expect("sent");
        stalled.push(raw);
    }
    works(&server).await;
    has_connections(&server, 128).await;
}

#[tokio::test(start_paused = true)]
async fn memory_of_clients_that_vanish_is_given_back() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), patient());
    for round in 0..40 {
        let mut raw = Raw::transmission(&server).await;
        if round % 2 == 0 {
            raw.request(CMD_READ, 1, 0, 32 << 20).await;
            soon(raw.stream.read_exact(&mut [0; 1000]))
                .await
                .expect("a part");
        } else {
            raw.request(CMD_WRITE, 1, 0, 32 << 20).await;
            let part = vec![1; (round << 19) + 77];
            soon(raw.stream.write_all(&part)).await.expect("sent");
        }
    }
    has_connections(&server, 0).await;
    works(&server).await;
    let client = connect(&server, ReplyMode::Extended).await;
    let both = [client.clone(), client]
        .map(|client| tokio::spawn(async move { client.read(0, 32 << 20).await }));
    for read in both {
        soon(read)
            .await
            .expect("it runs")
            .expect("all memory is free");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_not_read_stop_their_own_client_only() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), tight());
    let mut deaf = Raw::transmission(&server).await;
    let mut header = Vec::new();
    RequestHeader {
        flags: 0,
        command: CMD_READ,
        cookie: 1,
        offset: 0,
        length: 64 << 10,
    }
    .encode(ReplyMode::Simple, &mut header)
    .expect("a short length");
    let requests = header.repeat(1000);
    let mut sent = 0;
    // 64 MiB of replies each round, and the server takes what fits in its buffers only.
    while let Ok(result) =
        timeout(Duration::from_millis(500), deaf.stream.write_all(&requests)).await
    {
        result.expect("the connection lives");
        sent += 1;
        assert!(sent < 1000, "the server takes requests without end");
    }
    works(&server).await;
}

#[tokio::test(start_paused = true)]
async fn who_holds_the_memory_without_reading_is_ended_when_others_want_it() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), tight());
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::transmission(&server).await;
        raw.request(CMD_READ, 1, 0, 32 << 20).await;
        let mut reply = [0; 16];
        soon(raw.stream.read_exact(&mut reply))
            .await
            .expect("a reply begins");
        holders.push(raw);
    }
    // Nobody wants it: they may stand still for long.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(server.connections(), 2);
    works(&server).await;
    // As many are ended as it takes; whom nobody waits for any more may stay.
    soon(async {
        while server.connections() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_memory_gets_it_when_it_is_given_back() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), patient());
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::transmission(&server).await;
        raw.request(CMD_READ, 1, 0, 32 << 20).await;
        let mut reply = [0; 16];
        soon(raw.stream.read_exact(&mut reply))
            .await
            .expect("a reply begins");
        holders.push(raw);
    }
    let client = connect(&server, ReplyMode::Structured).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.read(0, 2 << 20).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "all memory is held");
    let other = connect(&server, ReplyMode::Structured).await;
    soon(other.read(0, 4096))
        .await
        .expect("short requests need no shared memory");
    let mut rest = vec![0; 32 << 20];
    soon(holders[0].stream.read_exact(&mut rest))
        .await
        .expect("the rest");
    soon(waiting).await.expect("it runs").expect("a read");
}

/// Reads whatever comes, so many bytes at a time, and so often.
fn trickle(mut raw: Raw, len: usize, pause: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut part = vec![0; len];
        while raw.stream.read_exact(&mut part).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    })
}

/// Two clients that hold all memory and take so much of their replies at a time.
async fn slow_readers(server: &Server, len: usize, pause: Duration) {
    for _ in 0..2 {
        let mut raw = Raw::transmission(server).await;
        raw.request(CMD_READ, 1, 0, 32 << 20).await;
        let mut reply = [0; 16];
        soon(raw.stream.read_exact(&mut reply))
            .await
            .expect("a reply begins");
        drop(trickle(raw, len, pause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_does_not_hold_memory_that_others_want() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), tight());
    // Less than the least rate by far, and never still for as long as the limit.
    slow_readers(&server, 4096, Duration::from_millis(50)).await;
    let client = connect(&server, ReplyMode::Structured).await;
    let read = timeout(Duration::from_secs(5), client.read(0, 2 << 20)).await;
    read.expect("they are ended").expect("a read");
}

#[tokio::test(start_paused = true)]
async fn slow_readers_give_memory_back_as_they_read() {
    let limits = Limits {
        stall_timeout: Duration::from_secs(2),
        ..tight()
    };
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), limits);
    // Twice the least rate: both go on for 32 s.
    slow_readers(&server, 256 << 10, Duration::from_millis(250)).await;
    let client = connect(&server, ReplyMode::Structured).await;
    let read = timeout(Duration::from_secs(8), client.read(0, 2 << 20)).await;
    read.expect("they give back").expect("a read");
    assert_eq!(server.connections(), 3, "nobody had to be ended");
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_out_in_the_order_of_asking() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), patient());
    let mut holders = Vec::new();
    for len in [32 << 20, 16 << 20] {
        let mut raw = Raw::transmission(&server).await;
        raw.request(CMD_READ, 1, 0, len).await;
        let mut reply = [0; 16];
        soon(raw.stream.read_exact(&mut reply))
            .await
            .expect("a reply begins");
        holders.push(raw);
    }
    // 16 MiB are free: too little for the first, enough for the second.
    let mut reads = Vec::new();
    for len in [32 << 20, 2 << 20] {
        let client = connect(&server, ReplyMode::Structured).await;
        reads.push(tokio::spawn(async move { client.read(0, len).await }));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(!reads[1].is_finished(), "the later one has overtaken");
    drop(holders);
    for read in reads {
        soon(read).await.expect("it runs").expect("a read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_that_does_not_read_loses_its_place() {
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), tight());
    let mut raw = Raw::transmission(&server).await;
    raw.request(CMD_READ, 1, 0, 32 << 20).await;
    raw.request(CMD_READ, 2, 0, 32 << 20).await;
    raw.stream.shutdown().await.expect("half closed");
    // One that reads gets all that it asked for, with room in the send buffer or without.
    let mut reader = Raw::transmission(&server).await;
    reader.request(CMD_READ, 1, 0, 4 << 20).await;
    reader.request(CMD_READ, 2, 0, 4 << 20).await;
    reader.stream.shutdown().await.expect("half closed");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(reader.hangs_up().await.len(), 2 * (16 + (4 << 20)));
    has_connections(&server, 0).await;
    drop(raw);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_bound_wait_in_the_socket() {
    let limits = Limits {
        requests_in_flight: 4,
        ..Limits::default()
    };
    let device = Arc::new(TestDevice::gated(MIB));
    let server = server_with(Arc::clone(&device), limits);
    let client = connect(&server, ReplyMode::Extended).await;
    let mut tasks = Vec::new();
    for at in 0..300 {
        let client = client.clone();
        tasks.push(tokio::spawn(
            async move { client.read(at * 512, 512).await },
        ));
    }
    device.holds(4).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    device.holds(4).await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
    device.open_gate();
    for task in tasks {
        soon(task).await.expect("it runs").expect("a read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_out_of_step_is_ended() {
    let server = server(Arc::new(MemoryDevice::new(MIB)));
    let mut raw = Raw::transmission(&server).await;
    raw.request(CMD_READ, 3, 0, 512).await;
    raw.stream.write_all(&[0xee; 64]).await.expect("sent");
    // What came in step is answered or not, and then it ends.
    let rest = raw.hangs_up().await;
    assert!(rest.is_empty() || rest.len() == 16 + 512, "{}", rest.len());
    has_connections(&server, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_beyond_measure_ends_the_connection() {
    let server = server(Arc::new(MemoryDevice::new(MIB)));
    let mut raw = Raw::transmission(&server).await;
    raw.request(CMD_WRITE, 1, 0, u64::from(u32::MAX)).await;
    assert_eq!(raw.hangs_up().await, b"");
    has_connections(&server, 0).await;
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_bound_are_closed_and_places_become_free() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let server = server_with(Arc::new(MemoryDevice::new(64 * MIB)), limits);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(connect(&server, ReplyMode::Simple).await);
    }
    let refused = Client::connect(dial(&server), &ClientOptions::default()).await;
    refused.expect_err("there is no place");
    clients
        .pop()
        .expect("a client")
        .disconnect()
        .await
        .expect("sent");
    has_connections(&server, 2).await;
    works(&server).await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_vanish_at_any_byte_leave_nothing_behind() {
    let server = server(Arc::new(TestDevice::waiting(MIB)));
    let mut stream = Vec::new();
    for (command, length) in [
        (CMD_WRITE, 512_u64),
        (CMD_READ, 4096),
        (3, 0),
        (CMD_WRITE, 512),
    ] {
        RequestHeader {
            flags: 0,
            command,
            cookie: 1,
            offset: 0,
            length,
        }
        .encode(ReplyMode::Simple, &mut stream)
        .expect("a short length");
        if command == CMD_WRITE {
            stream.resize(stream.len() + 512, 1);
        }
    }
    for cut in (0..stream.len()).step_by(7) {
        let mut raw = Raw::transmission(&server).await;
        raw.stream.write_all(&stream[..cut]).await.expect("sent");
        drop(raw);
    }
    has_connections(&server, 0).await;
    works_small(&server).await;
}

async fn works_small(server: &Server) {
    let client = connect(server, ReplyMode::Extended).await;
    soon(client.write(0, &[5; 512])).await.expect("a write");
    assert_eq!(soon(client.read(0, 512)).await.expect("a read"), [5; 512]);
}

/// A client that half-closes after its requests still gets all its answers.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_gets_its_answers() {
    let server = server(Arc::new(TestDevice::waiting(MIB)));
    let mut raw = Raw::transmission(&server).await;
    for cookie in 0..50 {
        raw.request(CMD_READ, cookie, 0, 512).await;
    }
    raw.stream.shutdown().await.expect("half closed");
    assert_eq!(raw.hangs_up().await.len(), 50 * (16 + 512));
}

#[tokio::test(start_paused = true)]
async fn disconnect_waits_for_what_is_in_work() {
    let device = Arc::new(TestDevice::gated(MIB));
    let server = server(Arc::clone(&device));
    let mut raw = Raw::transmission(&server).await;
    raw.request(CMD_READ, 9, 0, 512).await;
    raw.request(2, 0, 0, 0).await;
    raw.request(CMD_READ, 10, 0, 512).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    device.open_gate();
    assert_eq!(
        raw.hangs_up().await.len(),
        16 + 512,
        "what follows DISC is not looked at"
    );
}
