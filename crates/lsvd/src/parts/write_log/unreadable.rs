//! Parts of the log that the disk does not give: what can be read around them.

use std::ops::Range;

use ::bytes::Bytes;

use super::{WriteLog, failure};
use crate::bytes::log::{FILE_HEADER_BYTES, HEADER_COPIES};
use crate::doors::disk::{DiskError, DiskErrorKind, DiskFile};
use crate::words::error::{Error, Result};

/// Places of a segment that are told apart. A disk that gives nothing any more is not asked for each
/// unit of a log; what follows that cannot be read is one place, whatever is in it.
const PLACES_MAX: usize = 64;

/// A segment as far as it can be read.
#[derive(Debug)]
pub(super) struct ReadSegment {
    /// All of it, with zeroes where it cannot be read.
    pub(super) bytes: Bytes,
    /// Where that is, in order.
    pub(super) gaps: Vec<Gap>,
}

impl ReadSegment {
    /// What is before the first place that cannot be read.
    pub(super) fn beginning(&self) -> &[u8] {
        match self.gaps.first() {
            Some(gap) => self.bytes.get(..gap.at as usize).unwrap_or_default(),
            None => &self.bytes,
        }
    }
}

/// A place in the log that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) segment: u32,
    /// Where it begins, in bytes of the segment.
    pub(super) at: u32,
    /// What the disk said.
    pub(super) error: Error,
}

/// Both copies of the file header; zeroes in the place of one that cannot be read.
pub(super) async fn read_headers(file: &dyn DiskFile) -> Result<Bytes, DiskError> {
    match file.read(0, FILE_HEADER_BYTES * HEADER_COPIES).await {
        Err(error) if error.kind() == DiskErrorKind::Unreadable => {}
        read => return read,
    }
    let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES * HEADER_COPIES);
    let mut unreadable = None;
    for copy in 0..HEADER_COPIES {
        match file.read(bytes.len() as u64, FILE_HEADER_BYTES).await {
            Ok(read) => bytes.extend_from_slice(&read),
            Err(error) if error.kind() == DiskErrorKind::Unreadable => {
                tracing::warn!(copy, %error, "a copy of the write log's header cannot be read");
                bytes.resize(bytes.len() + FILE_HEADER_BYTES, 0);
                // Of none is left.
                if let Some(first) = unreadable.replace(error) {
                    return Err(first);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from(bytes))
}

impl WriteLog {
    /// A segment, with what cannot be read left out. Only the medium's own failures are that: whatever
    /// else keeps a read from being answered says nothing of what is there.
    pub(super) async fn read_around_gaps(&self, segment: u32) -> Result<ReadSegment> {
        let len = self.header.segment_bytes;
        match self.read_part(segment, 0..len).await {
            Ok(bytes) => Ok(ReadSegment {
                bytes,
                gaps: Vec::new(),
            }),
            Err(error) if error.kind() == DiskErrorKind::Unreadable => {
                self.read_pieces(segment).await
            }
            Err(error) => Err(self.failure("read", error)),
        }
    }

    /// A segment of which some part was not given, read in ever smaller pieces. From its beginning on,
    /// so that where its records stop is found to the unit.
    async fn read_pieces(&self, segment: u32) -> Result<ReadSegment> {
        let unit = self.header.block_bytes;
        let len = self.header.segment_bytes;
        let mut bytes = vec![0; len as usize];
        let mut gaps: Vec<Gap> = Vec::new();
        let mut end_of_last = 0;
        let mut places = 0;
        // The next one last.
        let whole = 0..len;
        let mut pieces = vec![whole];
        while let Some(piece) = pieces.pop() {
            let error = match self.read_part(segment, piece.clone()).await {
                Ok(read) => {
                    bytes[piece.start as usize..piece.end as usize].copy_from_slice(&read);
                    continue;
                }
                Err(error) if error.kind() == DiskErrorKind::Unreadable => error,
                Err(error) => return Err(self.failure("read", error)),
            };
            let units = (piece.end - piece.start) / unit;
            if units > 1 && places < PLACES_MAX {
                let middle = piece.start + units / 2 * unit;
                pieces.push(middle..piece.end);
                pieces.push(piece.start..middle);
                continue;
            }
            places += 1;
            if gaps.is_empty() || end_of_last < piece.start {
                gaps.push(Gap {
                    segment,
                    at: piece.start,
                    error: failure("read", &self.directory, error),
                });
            }
            end_of_last = piece.end;
        }
        Ok(ReadSegment {
            bytes: Bytes::from(bytes),
            gaps,
        })
    }

    async fn read_part(&self, segment: u32, part: Range<u32>) -> Result<Bytes, DiskError> {
        let at = self.header.segment_at(segment) + u64::from(part.start);
        self.file.read(at, (part.end - part.start) as usize).await
    }
}
