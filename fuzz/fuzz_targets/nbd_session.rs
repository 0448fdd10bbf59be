//! Any client against a whole server: the bytes choose what is sent, sound or not, in which
//! portions. The server must not panic, must end when the client hangs up, and must have kept no
//! connection.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lsvd_nbd::wire::constants::{MAGIC_EXTENDED_REQUEST, MAGIC_OPTION, MAGIC_REQUEST};
use lsvd_nbd::{Export, Limits, MemoryDevice, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

/// Expands the input into a client's bytes: most inputs would die at the first magic otherwise.
fn client_bytes(input: &[u8]) -> Vec<u8> {
    let Some((&first, mut rest)) = input.split_first() else {
        return Vec::new();
    };
    let mut out = u32::from(first & 7).to_be_bytes().to_vec();
    while let Some((&kind, tail)) = rest.split_first() {
        let take = tail.len().min(usize::from(kind >> 3));
        let (bytes, tail) = tail.split_at(take);
        rest = tail;
        match kind & 7 {
            // An option with its true length.
            0 | 1 => {
                let (option, data) = bytes.split_first().unwrap_or((&0, &[]));
                out.extend_from_slice(&MAGIC_OPTION.to_be_bytes());
                out.extend_from_slice(&u32::from(*option).to_be_bytes());
                out.extend_from_slice(&(data.len() as u32).to_be_bytes());
                out.extend_from_slice(data);
            }
            // GO to the default export.
            2 => {
                out.extend_from_slice(&MAGIC_OPTION.to_be_bytes());
                out.extend_from_slice(&[0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0]);
            }
            // Block status for the default export.
            3 => {
                out.extend_from_slice(&MAGIC_OPTION.to_be_bytes());
                out.extend_from_slice(&[0, 0, 0, 10, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 1]);
                out.extend_from_slice(&[0, 0, 0, 15]);
                out.extend_from_slice(b"base:allocation");
            }
            // The front of a request, short or extended, and what the input says.
            4 | 5 => {
                let extended = kind & 7 == 5;
                let magic = if extended {
                    MAGIC_EXTENDED_REQUEST
                } else {
                    MAGIC_REQUEST
                };
                out.extend_from_slice(&magic.to_be_bytes());
                let mut header = [0; 28];
                let field = |at: usize| bytes.get(at).copied().unwrap_or(0);
                header[1] = field(0);
                header[3] = field(1);
                header[11] = field(2);
                header[18] = field(3);
                let length_at = if extended { 24 } else { 20 };
                header[length_at + 1] = field(4) & 3;
                header[length_at + 2] = field(5);
                let len = if extended { 28 } else { 24 };
                out.extend_from_slice(&header[..len]);
            }
            // Data for writes.
            6 => out.resize(out.len() + 512 * (take + 1), 0x5a),
            _ => out.extend_from_slice(bytes),
        }
    }
    out
}

fn converse(input: &[u8]) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    });
    let exports = [
        Export::new("", Arc::new(MemoryDevice::new(1 << 20))),
        Export::new("r", Arc::new(MemoryDevice::new(1 << 20))).read_only(),
    ];
    let server = Server::new(exports, Limits::default()).expect("the settings are right");
    let bytes = client_bytes(input);
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (mut reader, mut writer) = tokio::io::split(ours);
        let client = async {
            let sending = async {
                // The server may have hung up.
                let _ = writer.write_all(&bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut sink = Vec::new();
            let receiving = reader.read_to_end(&mut sink);
            let ((), received) = join(sending, receiving).await;
            received.expect("a pipe in memory does not fail");
        };
        let both = join(client, server.serve_stream(theirs));
        let ended = tokio::time::timeout(Duration::from_secs(10), both).await;
        let ((), ending) = ended.expect("the session ends when its client hangs up");
        // In order or with an error that says why: both are right, a panic or a hang is not.
        drop(ending);
    });
    assert_eq!(server.connections(), 0);
}

async fn join<A, B>(a: A, b: B) -> (A::Output, B::Output)
where
    A: Future,
    B: Future,
{
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(|cx| {
        if left.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            left = Some(value);
        }
        if right.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            right = Some(value);
        }
        match (left.take(), right.take()) {
            (Some(left), Some(right)) => Poll::Ready((left, right)),
            (one, other) => {
                left = one;
                right = other;
                Poll::Pending
            }
        }
    })
    .await
}

fuzz_target!(|input: &[u8]| converse(input));
