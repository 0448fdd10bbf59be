//! A batch: what is collected in memory and becomes one data object.

mod batcher;
mod buffer;
mod pool;

use std::ops::Range;
use std::sync::OnceLock;

use ::bytes::Bytes;

pub use batcher::{Batcher, Identity, NewEntry, Slot};
pub use buffer::{Buffer, Region};
pub use pool::{BufferPool, PooledBuffer};

use crate::bytes::block::{BLOCK_BYTES, CRC_BYTES, Place};
use crate::bytes::data_object::DataHeader;
use crate::bytes::entry::Entry;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Signal};
use crate::words::name::{ObjectId, ObjectName};
use crate::words::units::{DataOffset, ObjectSlot, SECTOR_BYTES};

/// Bit of [`Batch::writers`] that says that no slot is given any more.
const SEALED: u32 = 1 << 31;

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
    /// Notified when the last writer of a sealed batch is done.
    filled: Signal,
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

    /// Waits until the batch is sealed and all its data is there.
    pub async fn filled(&self) {
        let done = || self.writers.load(Ordering::SeqCst) == SEALED;
        self.filled.until(|| done().then_some(())).await;
    }

    /// The header of the object; to be called when the batch is [`filled`](Self::filled).
    ///
    /// The times are the caller's: the batch knows no clock.
    #[must_use]
    pub fn header(&self, wall_time_ns: u64, persisted: Option<ObjectId>) -> DataHeader {
        DataHeader {
            volume: self.identity.volume,
            id: self.id,
            predecessor: self.predecessor,
            write_id: self.identity.session ^ u128::from(self.id.as_u64()),
            wall_time_ns,
            persisted,
            data_len: u64::from(self.buffer.freeze()) * SECTOR_BYTES,
            entries: self.entries.get().cloned().unwrap_or_default(),
        }
    }

    /// The data area as it is stored, block and checksum in turn, without a copy of the data; to be
    /// called when the batch is [`filled`](Self::filled).
    #[must_use]
    pub fn stored_blocks(self: &Arc<Self>) -> Vec<Bytes> {
        self.buffer.freeze();
        let data = Bytes::from_owner(FrozenData(Arc::clone(self)));
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

    /// Ends the batch; called by the batcher, which gives no slot of it afterwards.
    fn seal(&self, entries: Vec<Entry>) {
        if self.entries.set(entries).is_ok() && self.writers.fetch_or(SEALED, Ordering::SeqCst) == 0
        {
            self.filled.notify();
        }
    }

    fn writer_done(&self) {
        if self.writers.fetch_sub(1, Ordering::SeqCst) == SEALED | 1 {
            self.filled.notify();
        }
    }
}

/// Keeps a sealed batch, and so its buffer, alive for as long as a request body points into it.
struct FrozenData(Arc<Batch>);

impl AsRef<[u8]> for FrozenData {
    fn as_ref(&self) -> &[u8] {
        self.0.buffer.frozen_blocks()
    }
}

#[cfg(test)]
mod tests;
