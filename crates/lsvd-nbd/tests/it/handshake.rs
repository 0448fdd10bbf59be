//! The handshake in raw bytes: every option, right and wrong.

use std::sync::Arc;
use std::time::Duration;

use lsvd_nbd::client::{Client, ClientError, ClientOptions};
use lsvd_nbd::wire::ReplyMode;
use lsvd_nbd::wire::constants::{
    CMD_BLOCK_STATUS, OPT_ABORT, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST,
    OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK,
    REP_ERR_EXT_HEADER_REQD, REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN, REP_ERR_UNSUP,
    REP_INFO, REP_META_CONTEXT, REP_SERVER,
};
use lsvd_nbd::{ConfigError, Errno, Export, Limits, MemoryDevice, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::setup::{MIB, Raw, contexts, dial, go, server_with, soon};

fn two_exports() -> Server {
    let exports = [
        Export::new("", Arc::new(MemoryDevice::new(MIB))).description("the first"),
        Export::new("second", Arc::new(MemoryDevice::new(2 * MIB + 700))).read_only(),
    ];
    Server::new(exports, Limits::default()).expect("the server's settings are right")
}

#[tokio::test]
async fn list_names_and_describes_all_exports() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    let replies = raw.option(OPT_LIST, &[]).await;
    let first = b"\x00\x00\x00\x00the first".to_vec();
    let second = b"\x00\x00\x00\x06second".to_vec();
    let expected = vec![(REP_SERVER, first), (REP_SERVER, second), (REP_ACK, vec![])];
    assert_eq!(replies, expected);
    raw.option_is(OPT_LIST, b"x", REP_ERR_INVALID).await;
}

#[tokio::test]
async fn info_tells_size_flags_and_blocks_and_go_enters_transmission() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.option_is(OPT_INFO, &go("third", &[]), REP_ERR_UNKNOWN)
        .await;
    raw.option_is(OPT_GO, &go("third", &[]), REP_ERR_UNKNOWN)
        .await;
    let good = go("second", &[1, 2, 3]);
    for cut in 0..good.len() {
        raw.option_is(OPT_INFO, &good[..cut], REP_ERR_INVALID).await;
    }
    raw.option_is(OPT_GO, &[&good[..], b"x"].concat(), REP_ERR_INVALID)
        .await;
    for option in [OPT_INFO, OPT_GO] {
        let replies = raw.option(option, &good).await;
        let name = b"\x00\x01second".to_vec();
        let mut blocks = vec![0, 3];
        for size in [512_u32, 4096, 32 << 20] {
            blocks.extend_from_slice(&size.to_be_bytes());
        }
        // HAS_FLAGS, READ_ONLY, FLUSH, FUA, MULTI_CONN, CACHE; the size in whole blocks.
        let mut export = vec![0, 0];
        export.extend_from_slice(&(2 * MIB + 512).to_be_bytes());
        export.extend_from_slice(&0b101_0000_1111_u16.to_be_bytes());
        let expected = vec![
            (REP_INFO, name),
            (REP_INFO, blocks),
            (REP_INFO, export),
            (REP_ACK, vec![]),
        ];
        assert_eq!(replies, expected);
    }
    raw.request(0, 7, 0, 512).await;
    assert_eq!(raw.simple_reply().await, (0, 7));
}

#[tokio::test]
async fn export_name_sends_zeroes_unless_told_not_to() {
    for (flags, len) in [(1, 134), (3, 10), (0, 134)] {
        let mut raw = Raw::greet(&two_exports(), flags).await;
        raw.send_option(OPT_EXPORT_NAME, b"").await;
        let mut answer = vec![0xff; len];
        soon(raw.stream.read_exact(&mut answer))
            .await
            .expect("an answer");
        assert_eq!(answer[..8], MIB.to_be_bytes());
        assert!(answer[10..].iter().all(|byte| *byte == 0));
        raw.request(0, 1, 0, 512).await;
        assert_eq!(raw.simple_reply().await, (0, 1));
    }
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.send_option(OPT_EXPORT_NAME, b"third").await;
    assert_eq!(raw.hangs_up().await, b"");
}

#[tokio::test]
async fn abort_is_acknowledged_and_ends() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.option_is(OPT_ABORT, &[], REP_ACK).await;
    assert_eq!(raw.hangs_up().await, b"");
}

#[tokio::test]
async fn what_is_not_supported_is_said_so_and_the_handshake_goes_on() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.option_is(OPT_STARTTLS, &[], REP_ERR_UNSUP).await;
    raw.option_is(OPT_STARTTLS, b"x", REP_ERR_INVALID).await;
    for option in [0, 4, 12, 99, u32::MAX] {
        raw.option_is(option, b"whatever", REP_ERR_UNSUP).await;
    }
    raw.option_is(99, &vec![0; 64 << 10], REP_ERR_UNSUP).await;
    raw.option_is(99, &vec![0; (64 << 10) + 1], REP_ERR_TOO_BIG)
        .await;
    raw.option_is(OPT_GO, &vec![0; 1 << 20], REP_ERR_TOO_BIG)
        .await;
    raw.option_is(OPT_LIST, b"x", REP_ERR_INVALID).await;
}

#[tokio::test]
async fn structured_replies_and_extended_headers_exclude_one_another() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.option_is(OPT_STRUCTURED_REPLY, b"x", REP_ERR_INVALID)
        .await;
    raw.option_is(OPT_EXTENDED_HEADERS, b"x", REP_ERR_INVALID)
        .await;
    raw.option_is(OPT_STRUCTURED_REPLY, &[], REP_ACK).await;
    raw.option_is(OPT_EXTENDED_HEADERS, &[], REP_ACK).await;
    raw.option_is(OPT_EXTENDED_HEADERS, &[], REP_ERR_INVALID)
        .await;
    raw.option_is(OPT_STRUCTURED_REPLY, &[], REP_ERR_EXT_HEADER_REQD)
        .await;
    raw.send_option(OPT_EXPORT_NAME, b"").await;
    assert_eq!(raw.hangs_up().await, b"");
}

#[tokio::test]
async fn contexts_are_listed_and_chosen() {
    let mut raw = Raw::greet(&two_exports(), 3).await;
    let wanted = contexts("", &["base:allocation"]);
    raw.option_is(OPT_SET_META_CONTEXT, &wanted, REP_ERR_INVALID)
        .await;
    raw.option_is(OPT_LIST_META_CONTEXT, &wanted, REP_ERR_INVALID)
        .await;
    raw.option_is(OPT_STRUCTURED_REPLY, &[], REP_ACK).await;
    let unknown = contexts("third", &["base:allocation"]);
    raw.option_is(OPT_SET_META_CONTEXT, &unknown, REP_ERR_UNKNOWN)
        .await;
    for cut in 0..wanted.len() {
        raw.option_is(OPT_SET_META_CONTEXT, &wanted[..cut], REP_ERR_INVALID)
            .await;
    }
    let entry = |id: u8| {
        (
            REP_META_CONTEXT,
            [&[0, 0, 0, id][..], b"base:allocation"].concat(),
        )
    };
    let done = (REP_ACK, vec![]);
    for (option, queries, expected) in [
        (OPT_LIST_META_CONTEXT, &[][..], vec![entry(0), done.clone()]),
        (
            OPT_LIST_META_CONTEXT,
            &["base:"],
            vec![entry(0), done.clone()],
        ),
        (OPT_LIST_META_CONTEXT, &["qemu:"], vec![done.clone()]),
        (OPT_SET_META_CONTEXT, &["base:", "x:y"], vec![done.clone()]),
        (OPT_SET_META_CONTEXT, &[], vec![done.clone()]),
        (
            OPT_SET_META_CONTEXT,
            &["x:y", "base:allocation"],
            vec![entry(1), done],
        ),
    ] {
        assert_eq!(
            raw.option(option, &contexts("", queries)).await,
            expected,
            "{queries:?}"
        );
    }
}

/// Which context was chosen counts for the export that it was chosen for, and until the next
/// choice, be it a wrong one.
#[tokio::test]
async fn a_context_of_another_export_or_a_failed_choice_does_not_count() {
    let wanted = contexts("", &["base:allocation"]);
    for (then, name, works) in [
        (None, "", true),
        (None, "second", false),
        (Some(contexts("third", &["base:allocation"])), "", false),
        (Some(contexts("", &[])), "", false),
    ] {
        let mut raw = Raw::greet(&two_exports(), 3).await;
        raw.option_is(OPT_EXTENDED_HEADERS, &[], REP_ACK).await;
        raw.option(OPT_SET_META_CONTEXT, &wanted).await;
        if let Some(then) = then {
            raw.option(OPT_SET_META_CONTEXT, &then).await;
        }
        raw.option(OPT_GO, &go(name, &[])).await;
        raw.mode = ReplyMode::Extended;
        raw.request(CMD_BLOCK_STATUS, 1, 0, MIB).await;
        let mut reply = [0; 32];
        soon(raw.stream.read_exact(&mut reply))
            .await
            .expect("a reply");
        let kind = u16::from_be_bytes([reply[6], reply[7]]);
        assert_eq!(kind == 6, works, "kind {kind} on {name:?}");
    }
}

#[tokio::test]
async fn what_is_out_of_step_is_hung_up_on() {
    let raw = Raw::greet(&two_exports(), 4).await;
    assert_eq!(raw.hangs_up().await, b"", "unknown client flags");
    let mut raw = Raw::greet(&two_exports(), 3).await;
    raw.stream.write_all(&[0x55; 16]).await.expect("sent");
    assert_eq!(raw.hangs_up().await, b"", "a wrong magic");
    let mut raw = Raw::greet(&two_exports(), 3).await;
    let mut header = b"IHAVEOPT\x00\x00\x00\x63".to_vec();
    header.extend_from_slice(&((1_u32 << 20) + 1).to_be_bytes());
    raw.stream.write_all(&header).await.expect("sent");
    assert_eq!(raw.hangs_up().await, b"", "an endless option");
    let mut raw = Raw::greet(&two_exports(), 3).await;
    for _ in 0..1024 {
        raw.option_is(99, &[], REP_ERR_UNSUP).await;
    }
    assert_eq!(raw.hangs_up().await, b"", "endless options");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stands_still_is_ended() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = server_with(Arc::new(MemoryDevice::new(MIB)), limits);
    let began = Instant::now();
    let silent = Raw {
        stream: dial(&server),
        mode: ReplyMode::Simple,
    };
    let mut halfway = Raw::greet(&server, 3).await;
    halfway.stream.write_all(b"IHAVE").await.expect("sent");
    let there = Raw::transmission(&server).await;
    silent.hangs_up().await;
    halfway.hangs_up().await;
    let took = began.elapsed().as_millis();
    assert!((200..=202).contains(&took), "{took} ms");
    assert_eq!(server.connections(), 1, "who is past the handshake stays");
    drop(there);
}

#[tokio::test]
async fn our_client_tells_what_was_refused() {
    let options = ClientOptions {
        export: "third".to_owned(),
        ..ClientOptions::default()
    };
    let refused = Client::connect(dial(&two_exports()), &options).await;
    let Err(ClientError::Refused { option, kind, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((option, kind), (OPT_GO, REP_ERR_UNKNOWN));
    let options = ClientOptions {
        export: "second".to_owned(),
        ..ClientOptions::default()
    };
    let client = Client::connect(dial(&two_exports()), &options).await;
    let client = client.expect("the handshake succeeds");
    let refused = client.write(0, &[0; 512]).await.expect_err("read-only");
    assert_eq!(refused.errno(), Some(Errno::Perm));
}

#[test]
fn settings_that_break_a_rule_are_refused() {
    let device = Arc::new(MemoryDevice::new(MIB));
    let none = Server::new([], Limits::default());
    assert!(matches!(none, Err(ConfigError::NoExport)));
    let twice = [
        Export::new("a", Arc::clone(&device)),
        Export::new("a", Arc::clone(&device)),
    ];
    let twice = Server::new(twice, Limits::default());
    assert!(matches!(twice, Err(ConfigError::DuplicateName(name)) if name == "a"));
    let long = Export::new("a".repeat(4097), Arc::clone(&device));
    let long = Server::new([long], Limits::default());
    assert!(matches!(long, Err(ConfigError::Export { .. })));
    let tight = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    let tight = Server::new([Export::new("", device)], tight);
    assert!(matches!(tight, Err(ConfigError::Limits(_))));
}
