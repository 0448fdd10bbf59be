//! A batch: what is collected in memory and becomes one data object.

mod batcher;
mod buffer;
mod open_batch;
mod pool;
mod slice;
mod slot;

use std::ops::Range;
use std::sync::OnceLock;

use ::bytes::Bytes;

pub use batcher::{Batcher, Identity, LogRoom, Sink};
pub use buffer::{Buffer, Region};
pub use open_batch::NewEntry;
pub use pool::{BufferPool, PooledBuffer};
pub use slice::{BatchSlice, Recorded};
pub use slot::Slot;

use crate::bytes::block::{BLOCK_BYTES, CRC_BYTES, Place};
use crate::bytes::data_object::DataHeader;
use crate::bytes::entry::Entry;
use crate::bytes::log::LoggedSlice;
use crate::state::logged::LoggedBatch;
use crate::state::segments::Segment;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Mutex, Signal};
use crate::words::name::{ObjectId, ObjectName};
use crate::words::units::{DataOffset, ObjectSlot, SECTOR_BYTES};

/// Bit of [`Batch::writers`] that says that no slot is given any more.
const SEALED: u32 = 1 << 31;

/// Bit of [`Batch::writers`] that says that somebody waits for slots before the seal.
const WATCHED: u32 = 1 << 30;

const SECTORS_PER_BLOCK: u32 = 8;
const _: () = assert!(SECTORS_PER_BLOCK as u64 * SECTOR_BYTES == BLOCK_BYTES as u64);

/// One batch, open or sealed. Its identity and every byte it was given stay the same for life.
#[derive(Debug)]
pub struct Batch {
    identity: Identity,
    id: ObjectId,
    predecessor: Option<ObjectId>,
    slot: ObjectSlot,
    buffer: PooledBuffer,
    /// Writers that have a slot and are still copying, and [`SEALED`]. One word, so that the last
    /// of the writers and the seal cannot miss each other.
    writers: AtomicU32,
    /// The entry list, once the batch is sealed.
    entries: OnceLock<Vec<Entry>>,
    /// What its object says of itself, once that was decided.
    header: OnceLock<DataHeader>,
    /// Notified when the last writer of a sealed batch is done, and for those who watch at every
    /// writer's end.
    filled: Signal,
    /// Its segment of the write log, where there is a log.
    segment: Option<Arc<Segment>>,
    /// What the log has of it.
    logged: Mutex<Logged>,
}

/// What the log has of a batch.
#[derive(Debug, Default)]
struct Logged {
    slices: Vec<LoggedSlice>,
    /// Where its records end, in bytes of the segment, once the log has all of it.
    end: Option<u32>,
}

impl Batch {
    /// The id of the object it becomes.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Its object in the object table.
    #[must_use]
    pub fn slot(&self) -> ObjectSlot {
        self.slot
    }

    /// Copies data out that an extent map entry names.
    pub fn read(&self, offset: DataOffset, out: &mut [u8]) {
        self.buffer.read(offset, out);
    }

    /// The batch before it in the stream.
    #[must_use]
    pub fn predecessor(&self) -> Option<ObjectId> {
        self.predecessor
    }

    /// Its segment of the write log, where there is a log.
    #[must_use]
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.segment.as_ref()
    }

    /// Bytes of the data area that were handed out.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        u64::from(self.buffer.used()) * SECTOR_BYTES
    }

    /// Waits until the batch is sealed and all its data is there.
    pub async fn filled(&self) {
        let done = || self.writers.load(Ordering::SeqCst) & !WATCHED == SEALED;
        self.filled.until(|| done().then_some(())).await;
    }

    /// Waits until these sectors of the data area are there.
    pub async fn sectors_filled(&self, sectors: Range<u32>) {
        if self.buffer.is_filled(sectors.clone()) {
            return;
        }
        self.writers.fetch_or(WATCHED, Ordering::SeqCst);
        let done = || self.buffer.is_filled(sectors.clone()).then_some(());
        self.filled.until(done).await;
    }

    /// The header of the object, which is the same for ever once it was asked for; to be called
    /// when the batch is [`filled`](Self::filled).
    ///
    /// The times are the caller's: the batch knows no clock.
    pub fn header(&self, wall_time_ns: u64, persisted: Option<ObjectId>) -> &DataHeader {
        self.header.get_or_init(|| DataHeader {
            volume: self.identity.volume,
            id: self.id,
            predecessor: self.predecessor,
            write_id: self.identity.session ^ u128::from(self.id.as_u64()),
            wall_time_ns,
            persisted,
            data_len: u64::from(self.buffer.freeze()) * SECTOR_BYTES,
            entries: self.entries.get().cloned().unwrap_or_default(),
        })
    }

    /// The data area as it is stored, block and checksum in turn, without a copy of the data; to be
    /// called when the batch is [`filled`](Self::filled).
    #[must_use]
    pub fn stored_blocks(self: &Arc<Self>) -> Vec<Bytes> {
        self.buffer.freeze();
        let sectors = self.buffer.used().next_multiple_of(SECTORS_PER_BLOCK);
        let data = self.sectors(0..sectors);
        let place = Place::of(self.identity.volume, ObjectName::data(self.id));
        let mut crcs = Vec::with_capacity(data.len() / BLOCK_BYTES * CRC_BYTES);
        for block in (0_u32..).take(data.len() / BLOCK_BYTES) {
            let checksum = self.buffer.checksum(block).unwrap_or_default();
            crcs.extend_from_slice(&place.bind(block, checksum).to_le_bytes());
        }
        let crcs = Bytes::from(crcs);
        let nth = |block: usize, len: usize| -> Range<usize> { block * len..(block + 1) * len };
        (0..data.len() / BLOCK_BYTES)
            .flat_map(|n| {
                [
                    data.slice(nth(n, BLOCK_BYTES)),
                    crcs.slice(nth(n, CRC_BYTES)),
                ]
            })
            .collect()
    }

    /// Filled sectors of the data area, without a copy.
    #[must_use]
    pub fn sectors(self: &Arc<Self>, sectors: Range<u32>) -> Bytes {
        Bytes::from_owner(FilledData(Arc::clone(self), sectors))
    }

    /// Bytes of its data that the log has.
    #[must_use]
    pub fn logged_bytes(&self) -> u64 {
        let logged = self.logged.lock();
        let slices = logged.slices.iter();
        let sectors = slices.map(|slice| u64::from(slice.sectors));
        sectors.sum::<u64>() * SECTOR_BYTES
    }

    /// Says that the log has a slice of it, with a record that ends at `end` in its segment; the
    /// last where `is_last` says so.
    pub fn add_logged(&self, slice: LoggedSlice, end: u32, is_last: bool) {
        let mut logged = self.logged.lock();
        logged.slices.push(slice);
        logged.end = is_last.then_some(end);
    }

    /// The same batch without its memory, where the log has all of it.
    #[must_use]
    pub fn leave_memory(&self) -> Option<LoggedBatch> {
        let segment = Arc::clone(self.segment.as_ref()?);
        let (slices, end) = {
            let logged = self.logged.lock();
            (logged.slices.clone(), logged.end?)
        };
        let blocks = self.buffer.used().div_ceil(SECTORS_PER_BLOCK);
        let sums = (0..blocks).map(|block| self.buffer.sum(block).unwrap_or_default());
        Some(LoggedBatch::new(
            self.id,
            self.slot,
            segment,
            slices,
            sums.collect(),
            end,
        ))
    }

    /// A batch that was read back: sealed, with this header and this data.
    #[must_use]
    pub fn restored(
        header: DataHeader,
        slot: ObjectSlot,
        segment: Arc<Segment>,
        buffer: PooledBuffer,
    ) -> Self {
        let entries = OnceLock::from(header.entries.clone());
        buffer.freeze();
        Self {
            identity: Identity {
                volume: header.volume,
                session: 0,
            },
            id: header.id,
            predecessor: header.predecessor,
            slot,
            buffer,
            writers: AtomicU32::new(SEALED),
            entries,
            header: OnceLock::from(header),
            filled: Signal::default(),
            segment: Some(segment),
            logged: Mutex::default(),
        }
    }

    /// Ends the batch; called by the batcher, which gives no slot of it afterwards.
    fn seal(&self, entries: Vec<Entry>) {
        if self.entries.set(entries).is_ok() {
            let writers = self.writers.fetch_or(SEALED, Ordering::SeqCst);
            if writers & !WATCHED == 0 {
                self.filled.notify();
            }
        }
    }

    fn writer_done(&self) {
        let before = self.writers.fetch_sub(1, Ordering::SeqCst);
        if before & WATCHED != 0 || before == SEALED | 1 {
            self.filled.notify();
        }
    }
}

/// Keeps a batch, and so its buffer, alive for as long as a request body points into it.
struct FilledData(Arc<Batch>, Range<u32>);

impl AsRef<[u8]> for FilledData {
    fn as_ref(&self) -> &[u8] {
        self.0.buffer.filled_sectors(self.1.clone())
    }
}

#[cfg(test)]
mod tests;
