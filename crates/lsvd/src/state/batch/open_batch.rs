//! The open batch: its entry list, and whether one more fits.

use super::Batch;
use super::batcher::LogRoom;
use super::slice::Recorded;
use super::slot::Slot;
use crate::bytes::entry::{Entry, EntryKind};
use crate::state::extent_map::CutCount;
use crate::sync::Arc;
use crate::words::units::LbaRange;

/// The batch that slots are given in. The batcher's lock is around it.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) batch: Arc<Batch>,
    pub(super) entries: Vec<Entry>,
    /// What the log took of it already.
    pub(super) recorded: Recorded,
}

/// What is to be entered into the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewEntry {
    /// A write, whose data takes room in the batch.
    Write,
    /// A discard.
    Discard,
    /// A write of zeroes.
    WriteZeroes,
}

impl OpenBatch {
    /// Enters what is to be done to `range`; nothing where it does not fit any more.
    pub(super) fn append(
        &mut self,
        range: LbaRange,
        what: NewEntry,
        cuts: CutCount,
        entries_max: usize,
        room: Option<&LogRoom>,
    ) -> Option<Slot> {
        if self.entries.len() >= entries_max {
            return None;
        }
        if let Some(room) = room {
            let sectors = match what {
                NewEntry::Write => u32::try_from(range.sectors()).ok()?,
                NewEntry::Discard | NewEntry::WriteZeroes => 0,
            };
            let entries = self.entries.len() + 1 - self.recorded.entries as usize;
            let sectors = self.batch.buffer.used() - self.recorded.sectors + sectors;
            let end = u64::from(self.recorded.position)
                + room.bounds.record_max(entries, sectors)
                + room.bounds.end_max();
            if end > u64::from(room.segment_bytes) {
                return None;
            }
        }
        let (kind, region) = match what {
            NewEntry::Write => {
                let region = self
                    .batch
                    .buffer
                    .carve(u32::try_from(range.sectors()).ok()?)?;
                (EntryKind::Write(region.offset()), Some(region))
            }
            NewEntry::Discard => (EntryKind::Discard, None),
            NewEntry::WriteZeroes => (EntryKind::WriteZeroes, None),
        };
        self.entries.push(Entry { range, kind });
        Some(Slot::new(&self.batch, region, cuts))
    }

    /// Whether nothing fits any more.
    pub(super) fn is_full(&self, entries_max: usize) -> bool {
        self.entries.len() >= entries_max || self.batch.buffer.is_full()
    }
}
