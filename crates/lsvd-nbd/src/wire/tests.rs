//! Every wire type: what is encoded decodes to the same, nothing shorter decodes at all, and no
//! bytes make a decoder panic.

use proptest::prelude::*;

use super::{
    InfoRequest, MetaRequest, OptionHeader, OptionReplyHeader, ReplyHeader, ReplyMode,
    RequestHeader, WireError, encode_error_payload,
};

fn modes() -> impl Strategy<Value = ReplyMode> {
    prop_oneof![
        Just(ReplyMode::Simple),
        Just(ReplyMode::Structured),
        Just(ReplyMode::Extended),
    ]
}

fn requests() -> impl Strategy<Value = (ReplyMode, RequestHeader)> {
    let fields = (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>());
    (modes(), fields, any::<u64>()).prop_map(|(mode, fields, length)| {
        let (flags, command, cookie, offset) = fields;
        let length = match mode {
            ReplyMode::Extended => length,
            ReplyMode::Simple | ReplyMode::Structured => length >> 32,
        };
        let header = RequestHeader {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        (mode, header)
    })
}

fn replies() -> impl Strategy<Value = (ReplyMode, ReplyHeader)> {
    let chunk = (
        any::<u16>(),
        any::<u16>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
    );
    (modes(), any::<bool>(), any::<u32>(), chunk).prop_map(|(mode, simple, error, chunk)| {
        let (flags, kind, cookie, offset, length) = chunk;
        let simple = mode == ReplyMode::Simple || (simple && mode == ReplyMode::Structured);
        let extended = mode == ReplyMode::Extended;
        let header = if simple {
            ReplyHeader::Simple { error, cookie }
        } else {
            ReplyHeader::Chunk {
                flags,
                kind,
                cookie,
                offset: if extended { offset } else { 0 },
                length: if extended { length } else { length >> 32 },
            }
        };
        (mode, header)
    })
}

proptest! {
    #[test]
    fn request_headers_survive((mode, header) in requests()) {
        let mut bytes = Vec::new();
        header.encode(mode, &mut bytes).expect("it fits");
        prop_assert_eq!(bytes.len(), RequestHeader::len(mode));
        prop_assert_eq!(RequestHeader::decode(mode, &bytes), Ok(Some(header)));
        for cut in 0..bytes.len() {
            prop_assert_eq!(RequestHeader::decode(mode, &bytes[..cut]), Ok(None));
        }
        for bit in 0..32 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let decoded = RequestHeader::decode(mode, &damaged);
            prop_assert!(matches!(decoded, Err(WireError::BadMagic(_))));
        }
    }

    #[test]
    fn reply_headers_survive((mode, header) in replies()) {
        let mut bytes = [0; ReplyHeader::EXTENDED_LEN];
        let len = header.encode(mode, &mut bytes).expect("it fits");
        prop_assert_eq!(len, header.len(mode));
        prop_assert_eq!(ReplyHeader::decode(mode, &bytes[..len]), Ok(Some((header, len))));
        for cut in 0..len {
            prop_assert_eq!(ReplyHeader::decode(mode, &bytes[..cut]), Ok(None));
            let mut short = vec![0; cut];
            prop_assert_eq!(header.encode(mode, &mut short), Err(WireError::BadLength));
        }
    }

    #[test]
    fn option_headers_survive(option in any::<u32>(), kind in any::<u32>(), length in any::<u32>()) {
        let header = OptionHeader { option, length };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        let whole = bytes.as_slice().try_into().expect("16 bytes");
        prop_assert_eq!(OptionHeader::decode(whole), Ok(header));
        let header = OptionReplyHeader { option, kind, length };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        let whole = bytes.as_slice().try_into().expect("20 bytes");
        prop_assert_eq!(OptionReplyHeader::decode(whole), Ok(header));
    }

    #[test]
    fn info_requests_survive(name in ".{0,40}", infos in prop::collection::vec(any::<u16>(), 0..9)) {
        let request = InfoRequest { name, infos };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).expect("it fits");
        for cut in 0..bytes.len() {
            prop_assert!(InfoRequest::decode(&bytes[..cut]).is_err());
        }
        prop_assert!(InfoRequest::decode(&[&bytes[..], b"x"].concat()).is_err());
        prop_assert_eq!(InfoRequest::decode(&bytes), Ok(request));
    }

    #[test]
    fn meta_requests_survive(name in ".{0,40}", queries in prop::collection::vec(".{0,20}", 0..9)) {
        let request = MetaRequest { name, queries };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).expect("it fits");
        for cut in 0..bytes.len() {
            prop_assert!(MetaRequest::decode(&bytes[..cut]).is_err());
        }
        prop_assert!(MetaRequest::decode(&[&bytes[..], b"x"].concat()).is_err());
        prop_assert_eq!(MetaRequest::decode(&bytes), Ok(request));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), mode in modes()) {
        // What decodes must encode to the bytes that it came from.
        if let Ok(request) = InfoRequest::decode(&bytes) {
            let mut again = Vec::new();
            request.encode(&mut again).expect("it fits");
            prop_assert_eq!(&again, &bytes);
        }
        if let Ok(request) = MetaRequest::decode(&bytes) {
            let mut again = Vec::new();
            request.encode(&mut again).expect("it fits");
            prop_assert_eq!(&again, &bytes);
        }
        let _ = RequestHeader::decode(mode, &bytes);
        let _ = ReplyHeader::decode(mode, &bytes);
    }

    #[test]
    fn error_messages_are_cut_at_a_character(message in ".{0,400}") {
        let payload = encode_error_payload(22, &message);
        let len = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
        prop_assert_eq!(payload.len(), 6 + len);
        let told = std::str::from_utf8(&payload[6..]).expect("whole characters");
        prop_assert!(message.starts_with(told) && len <= 256);
        prop_assert!(message.len() - len < 4 || len > 252);
    }
}

#[test]
fn strings_longer_than_the_protocol_allows_are_refused() {
    for (len, fits) in [(4096, true), (4097, false)] {
        let mut data = u32::try_from(len).expect("short").to_be_bytes().to_vec();
        data.resize(4 + len, b'a');
        data.extend_from_slice(&[0, 0]);
        assert_eq!(InfoRequest::decode(&data).is_ok(), fits);
    }
    let not_utf8 = [0, 0, 0, 1, 0xff, 0, 0];
    assert_eq!(InfoRequest::decode(&not_utf8), Err(WireError::BadString));
}

#[test]
fn a_payload_follows_writes_and_what_announces_one() {
    let mut header = RequestHeader {
        flags: 1 << 5,
        command: 1,
        cookie: 0,
        offset: 0,
        length: 512,
    };
    assert_eq!(header.payload_len(ReplyMode::Simple), 512);
    assert_eq!(header.payload_len(ReplyMode::Extended), 512);
    header.command = 4;
    assert_eq!(header.payload_len(ReplyMode::Structured), 0);
    assert_eq!(header.payload_len(ReplyMode::Extended), 512);
    header.flags = 0;
    assert_eq!(header.payload_len(ReplyMode::Extended), 0);
}
