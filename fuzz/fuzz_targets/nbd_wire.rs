//! Any bytes into every decoder of the NBD protocol: no panic, and what decodes encodes to the
//! bytes that it came from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsvd_nbd::wire::{
    InfoRequest, MetaRequest, OptionHeader, OptionReplyHeader, ReplyHeader, ReplyMode,
    RequestHeader,
};

fn decode(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk()
        && let Ok(header) = OptionHeader::decode(header)
    {
        let mut again = Vec::new();
        header.encode(&mut again);
        assert!(bytes.starts_with(&again));
    }
    if let Some(header) = bytes.first_chunk()
        && let Ok(header) = OptionReplyHeader::decode(header)
    {
        let mut again = Vec::new();
        header.encode(&mut again);
        assert!(bytes.starts_with(&again));
    }
    if let Ok(request) = InfoRequest::decode(bytes) {
        let mut again = Vec::new();
        request.encode(&mut again).expect("it was decoded");
        assert_eq!(again, bytes);
    }
    if let Ok(request) = MetaRequest::decode(bytes) {
        let mut again = Vec::new();
        request.encode(&mut again).expect("it was decoded");
        assert_eq!(again, bytes);
    }
    for mode in [
        ReplyMode::Simple,
        ReplyMode::Structured,
        ReplyMode::Extended,
    ] {
        if let Ok(Some(header)) = RequestHeader::decode(mode, bytes) {
            let mut again = Vec::new();
            header.encode(mode, &mut again).expect("it was decoded");
            assert!(bytes.starts_with(&again));
        }
        if let Ok(Some((header, len))) = ReplyHeader::decode(mode, bytes) {
            let mut again = vec![0; len];
            header.encode(mode, &mut again).expect("it was decoded");
            assert!(bytes.starts_with(&again));
        }
    }
}

fuzz_target!(|bytes: &[u8]| decode(bytes));
