//! A checkpoint: its header.

use super::header::Header;
use super::report::Report;

pub(super) fn show(bytes: &[u8], header: &Header, report: &mut Report) {
    report.field_of("content", "header bytes", header.rest(bytes).len());
    let behind = bytes.len().saturating_sub(header.header_len);
    report.field_of("content", "bytes behind it", behind);
}
