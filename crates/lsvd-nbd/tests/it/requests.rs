//! Requests by our client: what they do, and the error that the protocol names for wrong ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lsvd_nbd::client::{Client, ClientError};
use lsvd_nbd::wire::ReplyMode;
use lsvd_nbd::wire::constants::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_NO_HOLE,
    CMD_FLAG_PAYLOAD_LEN, CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE,
    CMD_WRITE_ZEROES,
};
use lsvd_nbd::{Errno, Extent, MemoryDevice, Zeroing};

use crate::device::TestDevice;
use crate::setup::{MIB, MODES, connect, server, soon};

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(at % 251).expect("below 251") ^ seed)
        .collect()
}

async fn all_commands(client: &Client) {
    let data = pattern(300 << 10, 1);
    client.write(4096, &data).await.expect("a long write");
    assert_eq!(
        client.read(4096, 300 << 10).await.expect("a long read"),
        data
    );
    let short = pattern(512, 2);
    client.write_fua(8192, &short).await.expect("a short write");
    assert_eq!(client.read(8192, 512).await.expect("a read"), short);
    assert_eq!(client.read(4096, 4096).await.expect("a read"), data[..4096]);
    client.flush().await.expect("a flush");
    client.cache(0, MIB).await.expect("a cache");
    client.trim(0, MIB / 2).await.expect("a trim");
    let zeroes = client.read(0, 512 << 10).await.expect("a read");
    assert!(zeroes.iter().all(|byte| *byte == 0));
    client.write(MIB, &short).await.expect("a write");
    let zeroing = Zeroing {
        no_hole: true,
        fast: false,
    };
    client
        .write_zeroes(MIB, 512, zeroing)
        .await
        .expect("zeroes");
    assert_eq!(client.read(MIB, 512).await.expect("a read"), [0; 512]);
    assert_eq!(client.read(0, 0).await.expect("an empty read"), b"");
    client.write(0, &[]).await.expect("an empty write");
    client.trim(512, 0).await.expect("an empty trim");
}

#[tokio::test]
async fn all_commands_work_in_all_modes_at_once_and_waiting() {
    for mode in MODES {
        for device in [TestDevice::new(8 * MIB), TestDevice::waiting(8 * MIB)] {
            let server = server(Arc::new(device));
            let client = connect(&server, mode).await;
            soon(all_commands(&client)).await;
            client.disconnect().await.expect("sent");
        }
    }
}

#[tokio::test]
async fn block_status_tells_holes_and_data() {
    let extent = |len, hole| Extent {
        len,
        hole,
        zero: hole,
    };
    for mode in [ReplyMode::Structured, ReplyMode::Extended] {
        let server = server(Arc::new(TestDevice::waiting(4 * MIB)));
        let client = connect(&server, mode).await;
        client
            .write(MIB, &pattern(1 << 20, 3))
            .await
            .expect("a write");
        let all = client.block_status(0, 4 * MIB).await.expect("a status");
        let expected = [extent(MIB, true), extent(MIB, false), extent(2 * MIB, true)];
        assert_eq!(all, expected);
        let part = client.block_status(MIB + 512, MIB).await.expect("a status");
        assert_eq!(part, [extent(MIB - 512, false), extent(512, true)]);
        let range = (0, 4 * MIB);
        let one = client
            .request(CMD_BLOCK_STATUS, CMD_FLAG_REQ_ONE, range, &[])
            .await;
        assert_eq!(one.expect("a status").extents, [extent(MIB, true)]);
    }
}

#[tokio::test]
async fn a_reply_of_block_status_is_bounded() {
    let server = server(Arc::new(TestDevice::new(1 << 30)));
    let client = connect(&server, ReplyMode::Extended).await;
    for at in 0..8000 {
        client
            .write(at * 128 * 1024, &[1; 512])
            .await
            .expect("a write");
    }
    let extents = client.block_status(0, 1 << 30).await.expect("a status");
    assert_eq!(extents.len(), 4096);
    assert_eq!(
        extents.iter().map(|extent| extent.len).sum::<u64>(),
        4096 * 64 * 1024
    );
}

/// What a wrong request gets: command, flags, offset, length, and the error.
type Wrong = (u16, u16, u64, u64, Errno);

async fn wrong_requests(client: &Client, wrong: &[Wrong]) {
    for &(command, flags, offset, length, errno) in wrong {
        let payload = if command == CMD_WRITE {
            vec![7; usize::try_from(length).expect("a payload")]
        } else {
            Vec::new()
        };
        let range = (offset, length);
        let answer = soon(client.request(command, flags, range, &payload)).await;
        let error = answer.expect_err("it is wrong");
        assert_eq!(
            error.errno(),
            Some(errno),
            "{command} {flags} {offset} {length}: {error}"
        );
        let intact = client.read(0, 512).await.expect("the connection goes on");
        assert_eq!(intact, [0; 512]);
    }
}

#[tokio::test]
async fn wrong_requests_get_the_error_that_the_protocol_names() {
    const END: u64 = 4 * MIB;
    let wrong = [
        (CMD_READ, 0, END, 512, Errno::Inval),
        (CMD_READ, 0, END - 512, 1024, Errno::Inval),
        (CMD_READ, 0, u64::MAX - 511, 512, Errno::Inval),
        (CMD_READ, 0, u64::MAX - 511, 1024, Errno::Inval),
        (CMD_WRITE, 0, END, 512, Errno::NoSpc),
        (CMD_WRITE, 0, END - 512, 1024, Errno::NoSpc),
        (CMD_WRITE, 0, u64::MAX - 511, 1024, Errno::NoSpc),
        (CMD_WRITE_ZEROES, 0, END, 512, Errno::NoSpc),
        (CMD_WRITE_ZEROES, 0, 512, END, Errno::NoSpc),
        (CMD_TRIM, 0, 512, END, Errno::Inval),
        (CMD_CACHE, 0, 512, END, Errno::Inval),
        (CMD_READ, 0, 1, 512, Errno::Inval),
        (CMD_READ, 0, 0, 511, Errno::Inval),
        (CMD_WRITE, 0, 0, 100, Errno::Inval),
        (CMD_WRITE, 0, 256, 512, Errno::Inval),
        (CMD_TRIM, 0, 1, 512, Errno::Inval),
        (CMD_WRITE_ZEROES, 0, 0, 1, Errno::Inval),
        (CMD_READ, 0, 0, (32 << 20) + 512, Errno::Inval),
        (CMD_WRITE, 0, 0, (32 << 20) + 512, Errno::Inval),
        (CMD_FLUSH, 0, 512, 0, Errno::Inval),
        (CMD_FLUSH, 0, 0, 512, Errno::Inval),
        (CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 512, Errno::Inval),
        (CMD_READ, CMD_FLAG_NO_HOLE, 0, 512, Errno::Inval),
        (CMD_WRITE, CMD_FLAG_REQ_ONE, 0, 512, Errno::Inval),
        (CMD_TRIM, CMD_FLAG_NO_HOLE, 0, 512, Errno::Inval),
        (CMD_READ, 1 << 15, 0, 512, Errno::Inval),
        (8, 0, 0, 512, Errno::Inval),
        (u16::MAX, 0, 0, 512, Errno::Inval),
    ];
    for mode in MODES {
        for device in [TestDevice::new(END), TestDevice::waiting(END)] {
            let server = server(Arc::new(device));
            let client = connect(&server, mode).await;
            wrong_requests(&client, &wrong).await;
            let more: &[Wrong] = match mode {
                ReplyMode::Simple => &[
                    (CMD_READ, CMD_FLAG_DF, 0, 512, Errno::Inval),
                    (CMD_BLOCK_STATUS, 0, 0, 512, Errno::Inval),
                ],
                ReplyMode::Structured | ReplyMode::Extended => &[
                    (CMD_BLOCK_STATUS, 0, END, 512, Errno::Inval),
                    (CMD_BLOCK_STATUS, 0, 0, 0, Errno::Inval),
                    (CMD_BLOCK_STATUS, CMD_FLAG_DF, 0, 512, Errno::Inval),
                ],
            };
            wrong_requests(&client, more).await;
        }
    }
}

#[tokio::test]
async fn a_payload_on_a_command_without_one_is_skipped() {
    let server = server(Arc::new(TestDevice::new(MIB)));
    let client = connect(&server, ReplyMode::Extended).await;
    for command in [CMD_READ, CMD_TRIM, CMD_FLUSH, CMD_BLOCK_STATUS, 77] {
        let payload = vec![0x25; 100_000];
        let range = (0, payload.len() as u64);
        let answer = client
            .request(command, CMD_FLAG_PAYLOAD_LEN, range, &payload)
            .await;
        let errno = answer.expect_err("it has no payload").errno();
        assert_eq!(errno, Some(Errno::Inval));
    }
    client
        .write(0, &[9; 512])
        .await
        .expect("the stream is in step");
    // A write without the flag has its payload all the same.
    let range = (512, 512);
    client
        .request(CMD_WRITE, 0, range, &[8; 512])
        .await
        .expect("a write");
    assert_eq!(client.read(512, 512).await.expect("a read"), [8; 512]);
}

#[tokio::test]
async fn a_read_only_export_refuses_changes_and_stays_in_step() {
    for mode in MODES {
        let device = TestDevice {
            read_only: true,
            ..TestDevice::new(MIB)
        };
        let server = server(Arc::new(device));
        let client = connect(&server, mode).await;
        let wrong = [
            (CMD_WRITE, 0, 0, 512, Errno::Perm),
            (CMD_WRITE, 0, 0, 1 << 20, Errno::Perm),
            (CMD_TRIM, 0, 0, 512, Errno::Perm),
            (CMD_WRITE_ZEROES, 0, 0, 512, Errno::Perm),
        ];
        wrong_requests(&client, &wrong).await;
        client.flush().await.expect("a flush changes nothing");
    }
}

#[tokio::test]
async fn fast_zero_is_for_devices_that_have_it() {
    let device = TestDevice {
        fast_zero: true,
        ..TestDevice::new(MIB)
    };
    let server = server(Arc::new(device));
    let client = connect(&server, ReplyMode::Structured).await;
    assert_ne!(client.info().flags & (1 << 11), 0);
    let fast = Zeroing {
        fast: true,
        no_hole: false,
    };
    client.write_zeroes(0, 4096, fast).await.expect("fast");
    let slow = Zeroing {
        fast: true,
        no_hole: true,
    };
    let error = client.write_zeroes(0, 4096, slow).await.expect_err("slow");
    assert_eq!(error.errno(), Some(Errno::NotSup));
}

#[tokio::test]
async fn a_failing_device_is_an_error_reply_and_nothing_more() {
    for mode in MODES {
        for mut device in [TestDevice::new(8 * MIB), TestDevice::waiting(8 * MIB)] {
            device.bad = 3 * MIB..3 * MIB + 512;
            let device = Arc::new(device);
            let server = server(Arc::clone(&device));
            let client = connect(&server, mode).await;
            for len in [512, 4096, 1 << 20, 4 << 20] {
                let read = client.read(3 * MIB, len).await.expect_err("a bad sector");
                assert_eq!(read.errno(), Some(Errno::Io));
                if let ClientError::Server { message, .. } = read {
                    let told = mode != ReplyMode::Simple;
                    assert_eq!(message.contains("a planted fault"), told);
                }
                let data = vec![1; len as usize];
                let written = client.write(2 * MIB, &data).await;
                let hits = u64::from(len) > MIB;
                assert_eq!(written.is_err(), hits, "{len} bytes");
                let written = client
                    .write(3 * MIB, &data)
                    .await
                    .expect_err("a bad sector");
                assert_eq!(written.errno(), Some(Errno::Io));
            }
            device.flush_fails.store(true, Ordering::SeqCst);
            let flushed = client.flush().await.expect_err("it fails");
            assert_eq!(flushed.errno(), Some(Errno::NoSpc));
            let fua = client.write_fua(0, &[1; 512]).await.expect_err("it fails");
            assert_eq!(fua.errno(), Some(Errno::NoSpc));
            device.flush_fails.store(false, Ordering::SeqCst);
            client.flush().await.expect("it works again");
        }
    }
}

#[tokio::test]
async fn the_longest_write_arrives_in_pieces_of_1_mib_and_fua_flushes_once_after_all() {
    for device in [TestDevice::new(64 * MIB), TestDevice::waiting(64 * MIB)] {
        let device = Arc::new(device);
        let server = server(Arc::clone(&device));
        let client = connect(&server, ReplyMode::Structured).await;
        let data = pattern(32 << 20, 5);
        client.write_fua(MIB, &data).await.expect("a write");
        assert_eq!(device.longest_write.load(Ordering::SeqCst), 1 << 20);
        assert_eq!(device.flushes.load(Ordering::SeqCst), 1);
        assert!(client.read(MIB, 32 << 20).await.expect("a read") == data);
        for flags in [0, CMD_FLAG_DF] {
            let range = (MIB, 32 << 20);
            let reply = client.request(CMD_READ, flags, range, &[]).await;
            assert!(reply.expect("a read").data == data);
        }
    }
}

#[tokio::test]
async fn fua_on_trim_and_zeroes_flushes() {
    let device = Arc::new(TestDevice::new(MIB));
    let server = server(Arc::clone(&device));
    let client = connect(&server, ReplyMode::Structured).await;
    client.trim_fua(0, MIB).await.expect("done");
    let zeroing = Zeroing::default();
    client
        .write_zeroes_fua(0, MIB, zeroing)
        .await
        .expect("done");
    assert_eq!(device.flushes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn ranges_beyond_32_bits_take_one_request() {
    const SIZE: u64 = 1 << 50;
    let server = server(Arc::new(TestDevice::new(SIZE)));
    let client = connect(&server, ReplyMode::Extended).await;
    client.write(SIZE - MIB, &[1; 4096]).await.expect("a write");
    client.trim(0, SIZE).await.expect("a trim");
    assert_eq!(
        client.read(SIZE - MIB, 512).await.expect("a read"),
        [0; 512]
    );
    client.write(SIZE - MIB, &[1; 4096]).await.expect("a write");
    let zeroing = Zeroing::default();
    client
        .write_zeroes(512, SIZE - 512, zeroing)
        .await
        .expect("zeroes");
    assert_eq!(
        client.read(SIZE - MIB, 512).await.expect("a read"),
        [0; 512]
    );
    client.cache(0, SIZE).await.expect("a cache");
    let mut at = 0;
    let mut longest = 0;
    for _ in 0..4 {
        let extents = client.block_status(at, SIZE - at).await.expect("a status");
        longest = longest.max(extents.iter().map(|extent| extent.len).max().unwrap_or(0));
        at += extents.iter().map(|extent| extent.len).sum::<u64>();
    }
    assert!(longest >= 1 << 32, "no extent needed 64 bits");
}

#[tokio::test]
async fn replies_overtake_one_another() {
    let device = Arc::new(TestDevice::gated(MIB));
    let server = server(Arc::clone(&device));
    let client = connect(&server, ReplyMode::Structured).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.read(0, 512).await }
    });
    device.holds(1).await;
    // Refused without the device: answered although the read before it is not.
    let refused = soon(client.read(1, 512)).await.expect_err("unaligned");
    assert_eq!(refused.errno(), Some(Errno::Inval));
    assert!(!held.is_finished());
    device.open_gate();
    soon(held).await.expect("it runs").expect("a read");
}

/// Many connections, each with many requests in flight, on ranges of their own, in all modes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_in_flight_on_many_connections_keep_their_data() {
    for device in [TestDevice::new(64 * MIB), TestDevice::waiting(64 * MIB)] {
        let server = server(Arc::new(device));
        let mut tasks = Vec::new();
        for connection in 0..6_u8 {
            let client = connect(&server, MODES[usize::from(connection % 3)]).await;
            for worker in 0..64_u64 {
                let client = client.clone();
                let base = (u64::from(connection) * 64 + worker) * 128 * 1024;
                tasks.push(tokio::spawn(async move {
                    for round in 0..20_u8 {
                        let len = [512, 4096, 65536, 131_072][usize::from(round % 4)];
                        let data = pattern(len, round.wrapping_add(connection));
                        client.write(base, &data).await.expect("a write");
                        let len = u32::try_from(len).expect("short");
                        assert!(client.read(base, len).await.expect("a read") == data);
                    }
                }));
            }
        }
        for task in tasks {
            soon(task).await.expect("the data is what was written");
        }
    }
}

/// A write answered on one connection is seen on another.
#[tokio::test]
async fn connections_see_one_disk() {
    let server = server(Arc::new(MemoryDevice::new(MIB)));
    let one = connect(&server, ReplyMode::Structured).await;
    let other = connect(&server, ReplyMode::Extended).await;
    for round in 0..100 {
        one.write(0, &[round; 512]).await.expect("a write");
        assert_eq!(other.read(0, 512).await.expect("a read"), [round; 512]);
    }
}
