//! A superblock: its text, as far as it can be read.

use lsvd::bytes::superblock::Superblock;
use serde_json::Value;

use super::header::Header;
use super::report::Report;

pub(super) fn show(bytes: &[u8], header: &Header, report: &mut Report<'_>) {
    let text = header.rest(bytes);
    let state = serde_json::from_slice(text)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(text).into_owned()));
    report.tree("state", &state);
    if let Err(error) = Superblock::decode(bytes, header.id.as_u64()) {
        report.problem(error.to_string());
    }
}
