//! What is understood, what is refused, and that nothing makes either side fall over.

use super::*;

fn refused(request: &str) -> Refusal {
    decode_request(request.as_bytes()).unwrap_err()
}

#[test]
fn requests_and_replies_read_back() {
    let request = encode_request(Verb::Status);
    assert_eq!(request, "{\"verb\":\"status\",\"version\":1}\n");
    assert_eq!(
        decode_request(request.trim_end().as_bytes()),
        Ok(Verb::Status)
    );
    let status = VolumeStatus {
        pid: 1,
        uri: "nbd://x".to_owned(),
        volume: "v".to_owned(),
        size: 512,
        object_size: 4096,
        epoch: 3,
        at_risk_bytes: u64::MAX,
        at_risk_seconds: Some(1.5),
        not_durable_bytes: 0,
        log_bytes: 1,
        log_used_bytes: 0,
        map_bytes: 16,
        map_extents: 1,
        persisted: None,
        persisted_at: None,
        error: Some("a line\nand another".to_owned()),
        fenced: true,
    };
    let refusal = Refusal::new(RefusalKind::UnknownVerb, "no");
    for answer in [Answer::Status(Box::new(status)), Answer::Error(refusal)] {
        let reply = encode_reply(&answer);
        assert_eq!(reply.matches('\n').count(), 1, "{reply}");
        assert_eq!(decode_reply(reply.trim_end().as_bytes()), Ok(answer));
    }
}

#[test]
fn what_is_no_request_is_refused_with_the_reason() {
    for (request, kind) in [
        ("", RefusalKind::Malformed),
        ("status", RefusalKind::Malformed),
        ("\"status\"", RefusalKind::Malformed),
        ("[1]", RefusalKind::Malformed),
        ("{}", RefusalKind::Malformed),
        (
            "{\"version\":\"1\",\"verb\":\"status\"}",
            RefusalKind::Malformed,
        ),
        (
            "{\"version\":-1,\"verb\":\"status\"}",
            RefusalKind::Malformed,
        ),
        ("{\"version\":1}", RefusalKind::Malformed),
        (
            "{\"version\":1,\"verb\":[\"status\"]}",
            RefusalKind::Malformed,
        ),
        (
            "{\"version\":1,\"verb\":\"status\"} x",
            RefusalKind::Malformed,
        ),
        (
            "{\"version\":2,\"verb\":\"status\"}",
            RefusalKind::UnknownVersion,
        ),
        (
            "{\"version\":1,\"verb\":\"destroy\"}",
            RefusalKind::UnknownVerb,
        ),
        (
            "{\"version\":1,\"verb\":\"Status\"}",
            RefusalKind::UnknownVerb,
        ),
    ] {
        assert_eq!(refused(request).kind, kind, "{request}");
    }
    let deep = format!("{{\"version\":1,\"verb\":{}", "[".repeat(3000));
    assert_eq!(refused(&deep).kind, RefusalKind::Malformed);
    assert!(decode_request(&[0xff, 0xfe, b'{']).is_err());
}

#[test]
fn fields_that_are_not_known_are_left_alone() {
    let request = b"{\"version\":1,\"verb\":\"status\",\"colour\":\"red\"}";
    assert_eq!(decode_request(request), Ok(Verb::Status));
    let reply = b"{\"version\":1,\"error\":{\"kind\":\"tired\",\"message\":\"m\",\"more\":1}}";
    let refusal = Refusal::new(RefusalKind::Other, "m");
    assert_eq!(decode_reply(reply), Ok(Answer::Error(refusal)));
}

#[test]
fn replies_that_make_no_sense_are_told_apart() {
    for (reply, why) in [
        ("", "makes no sense"),
        ("{\"status\":{}}", "no version"),
        ("{\"version\":2,\"status\":{}}", "version 2"),
        ("{\"version\":1}", "makes no sense"),
        (
            "{\"version\":1,\"status\":{\"pid\":\"x\"}}",
            "makes no sense",
        ),
    ] {
        let error = decode_reply(reply.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{reply}: {error}");
    }
}

/// Every prefix, and every single byte changed: an answer or a refusal, never a panic.
#[test]
fn nothing_makes_the_decoder_fall_over() {
    let request = encode_request(Verb::Status).into_bytes();
    for len in 0..request.len() {
        let _ = decode_request(&request[..len]);
        for byte in 0..=u8::MAX {
            let mut changed = request.clone();
            changed[len] = byte;
            let _ = decode_request(&changed);
            let _ = decode_reply(&changed);
        }
    }
}
