//! What the write log takes of a batch at a time.

use super::Batch;
use crate::bytes::block::BLOCK_BYTES;
use crate::bytes::entry::Entry;
use crate::bytes::log::RecordBounds;
use crate::sync::Arc;
use crate::words::planted::{self, Fault};
use crate::words::units::{SECTOR, SECTOR_32};

/// How much of a batch the log has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Number of entries.
    pub entries: u32,
    /// Sectors of the data area.
    pub sectors: u32,
    /// Where the next record begins, in bytes of the segment.
    pub position: u32,
}

/// A piece of a batch that becomes one record.
#[derive(Debug)]
pub struct BatchSlice {
    /// The batch.
    pub batch: Arc<Batch>,
    /// What the log had of it before.
    pub before: Recorded,
    /// The entries of an open batch; those of a sealed one are in it.
    open_entries: Vec<Entry>,
    /// Where the data of an open batch ends.
    open_end: Option<u32>,
}

impl BatchSlice {
    /// All the rest of a sealed batch.
    pub(super) fn to_the_end(batch: Arc<Batch>, before: Recorded) -> Self {
        Self {
            batch,
            before,
            open_entries: Vec::new(),
            open_end: None,
        }
    }

    /// What is in the open batch and not in the log; nothing where the log has all. The data area
    /// goes on at the next unit of writing, so that the next slice begins there.
    pub(super) fn of_open(
        batch: &Arc<Batch>,
        entries: &[Entry],
        recorded: &mut Recorded,
        bounds: RecordBounds,
    ) -> Option<Self> {
        let new = entries.get(recorded.entries as usize..)?;
        if new.is_empty() {
            return None;
        }
        let used = batch.buffer.used();
        let unit = bounds.block_bytes / SECTOR_32;
        let padding = used.next_multiple_of(unit) - used;
        if padding > 0
            && let Some(region) = batch.buffer.carve(padding)
        {
            region.fill(&[0; BLOCK_BYTES][..padding as usize * SECTOR]);
        }
        let before = *recorded;
        let end = batch.buffer.used();
        recorded.entries += u32::try_from(new.len()).ok()?;
        recorded.sectors = end;
        recorded.position += bounds.record(new.len(), before.sectors, end - before.sectors);
        let mut open_entries = new.to_vec();
        if planted::is(Fault::BatchOrder) {
            open_entries.reverse();
        }
        Some(Self {
            batch: Arc::clone(batch),
            before,
            open_entries,
            open_end: Some(end),
        })
    }

    /// Whether it is the last piece of its batch.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.open_end.is_none()
    }

    /// Waits until all its data is there.
    pub async fn filled(&self) {
        match self.open_end {
            Some(end) => {
                let sectors = self.before.sectors..end;
                self.batch.sectors_filled(sectors).await;
            }
            None => self.batch.filled().await,
        }
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if !self.is_last() {
            return &self.open_entries;
        }
        let all = self.batch.entries.get().map_or(&[][..], Vec::as_slice);
        all.get(self.before.entries as usize..).unwrap_or_default()
    }

    /// Its sectors of the data area; to be asked when it is [`filled`](Self::filled).
    #[must_use]
    pub fn sectors(&self) -> std::ops::Range<u32> {
        let end = self.open_end.unwrap_or_else(|| self.batch.buffer.freeze());
        self.before.sectors..end
    }

    /// What was gathered of a whole block's checksum.
    #[must_use]
    pub fn sum(&self, block: u32) -> Option<u32> {
        self.batch.buffer.sum(block)
    }
}
