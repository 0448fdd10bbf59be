//! Formats at rest: pure encoding and decoding, no I/O. `docs/format.md` has the byte tables.

pub mod block;
pub mod data_object;
pub mod entry;
