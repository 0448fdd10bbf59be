//! A sealed batch that left memory: where the write log has its data.

use crate::bytes::block::{self, BLOCK_BYTES};
use crate::bytes::log::LoggedSlice;
use crate::state::segments::Segment;
use crate::sync::Arc;
use crate::words::name::ObjectId;
use crate::words::units::{DataOffset, ObjectSlot, SECTOR};

/// A batch in the log.
#[derive(Debug)]
pub struct LoggedBatch {
    id: ObjectId,
    slot: ObjectSlot,
    segment: Arc<Segment>,
    slices: Box<[LoggedSlice]>,
    /// The checksum contributions of every block, so that what is read can be verified.
    sums: Box<[u32]>,
    /// Where its records end, in bytes of the segment.
    end: u32,
}

/// A run of bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRun {
    /// Where it begins, in bytes of the segment.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
}

impl LoggedBatch {
    /// A batch whose records lie in `segment` and end at `end`.
    #[must_use]
    pub fn new(
        id: ObjectId,
        slot: ObjectSlot,
        segment: Arc<Segment>,
        slices: Vec<LoggedSlice>,
        sums: Vec<u32>,
        end: u32,
    ) -> Self {
        Self {
            id,
            slot,
            segment,
            slices: slices.into(),
            sums: sums.into(),
            end,
        }
    }

    /// The id of the object it becomes.
    #[must_use]
    pub const fn id(&self) -> ObjectId {
        self.id
    }

    /// Its object in the object table.
    #[must_use]
    pub const fn slot(&self) -> ObjectSlot {
        self.slot
    }

    /// The segment, which is not reused as long as somebody holds it.
    #[must_use]
    pub const fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Where its records end, in bytes of the segment.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// Bytes of its data area in use.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let sectors = self.slices.last();
        sectors.map_or(0, |last| {
            u64::from(last.first_sector + last.sectors) * SECTOR as u64
        })
    }

    /// The whole blocks around `len` bytes from `offset` on: the number of the first, where the
    /// wanted bytes begin in them, and the runs of the segment that hold them, in order. Behind the
    /// end of the data the last block is filled up with zeroes, which are not in the log.
    #[must_use]
    pub fn runs(&self, offset: DataOffset, len: usize) -> (u32, usize, Vec<SegmentRun>) {
        let per_block = BLOCK_BYTES / SECTOR;
        let offset = offset.0 as usize;
        let first_block = offset / per_block;
        let start = first_block * per_block;
        let end = (offset + len / SECTOR).next_multiple_of(per_block);
        let end_of = |slice: &LoggedSlice| (slice.first_sector + slice.sectors) as usize;
        let from = self.slices.partition_point(|slice| end_of(slice) <= start);
        let mut runs = Vec::new();
        for slice in self.slices.iter().skip(from) {
            let first = slice.first_sector as usize;
            if first >= end {
                break;
            }
            let begin = start.max(first);
            let stop = end.min(end_of(slice));
            if begin < stop {
                runs.push(SegmentRun {
                    at: slice.data_at as usize + (begin - first) * SECTOR,
                    len: (stop - begin) * SECTOR,
                });
            }
        }
        let first_block = u32::try_from(first_block).unwrap_or(u32::MAX);
        (first_block, (offset - start) * SECTOR, runs)
    }

    /// Whether `data` is the content of this block, by its checksum.
    #[must_use]
    pub fn verifies(&self, number: u32, data: &[u8]) -> bool {
        self.sums
            .get(number as usize)
            .is_some_and(|sum| block::checksum(*sum) == block::checksum_of(data))
    }
}
