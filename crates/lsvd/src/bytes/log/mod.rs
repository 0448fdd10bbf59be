//! The write log at rest: a file header, and segments of records. `docs/format.md` has the byte
//! tables.
//!
//! A segment holds one batch. A record is a header and behind it a slice of the batch's data area;
//! it carries the entries and the checksums of what it adds to the batch, and names its own place,
//! so that what an earlier use of the segment left behind never passes for a part of this batch.

mod file_header;
mod record;
mod scan;

pub use file_header::{FILE_HEADER_BYTES, FileHeader, HEADER_COPIES, SEGMENTS_AT};
pub use record::{
    RECORD_FIELDS, RECORD_HEADER_BYTES, Record, RecordBounds, SyncedMark, claims_log, sums_of,
};
pub use scan::{BadData, LoggedSlice, Marks, ScannedBatch, marked_batch, marks, scan};

use std::fmt;

/// Why bytes are not the part of a log that they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The bytes end before the header does.
    Truncated,
    /// They do not begin as a part of a log of ours.
    Magic,
    /// A version that this program does not read.
    Version(u16),
    /// A checksum does not match.
    Checksum,
    /// A field has a value that is never written.
    Field(&'static str),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it is cut short"),
            Self::Magic => f.write_str("it does not begin with the magic of a write log"),
            Self::Version(version) => write!(f, "format version {version} is not known here"),
            Self::Checksum => f.write_str("its checksum does not match"),
            Self::Field(field) => write!(f, "its {field} is not valid"),
        }
    }
}

impl std::error::Error for LogError {}

#[cfg(test)]
mod tests;
