//! Map M: the batches that are not yet in the store, the open one included, by the slot of their
//! object.

use std::collections::HashMap;

use crate::state::batch::Batch;
use crate::state::logged::LoggedBatch;
use crate::state::uploads::SealedBatch;
use crate::sync::{Arc, RwLock};
use crate::words::units::ObjectSlot;

/// The batches that cannot be read from the store yet.
///
/// A batch is entered before the extent map names it, and leaves only when its object can be read
/// from the store; a reader that finds it here holds it, memory or log segment included, for as long
/// as it reads.
#[derive(Debug, Default)]
pub struct InFlight {
    batches: RwLock<Batches>,
}

/// How much data is not where it will stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlightBytes {
    /// Bytes that are not in the store.
    pub unstored: u64,
    /// Bytes of these that are not in the synced log either.
    pub unlogged: u64,
}

#[derive(Debug, Default)]
struct Batches {
    /// There are hardly more of them than uploads at once: a search from the newest end, where most
    /// reads of the recent past find theirs, beats any hashing.
    in_memory: Vec<Arc<Batch>>,
    /// As many as the log has segments.
    in_log: HashMap<ObjectSlot, Arc<LoggedBatch>>,
}

impl InFlight {
    /// Enters a batch.
    pub fn insert(&self, batch: Arc<Batch>) {
        self.batches.write().in_memory.push(batch);
    }

    /// Enters a batch that is in the log; if it was in memory it no longer is.
    pub fn insert_logged(&self, batch: Arc<LoggedBatch>) {
        let removed = {
            let mut batches = self.batches.write();
            let slot = batch.slot();
            batches.in_log.insert(slot, batch);
            batches.take_from_memory(slot)
        };
        // Returning a buffer to its pool wakes writers, which is not for under the lock.
        drop(removed);
    }

    /// The batch of this object, if it is not in the store yet.
    #[must_use]
    pub fn get(&self, slot: ObjectSlot) -> Option<SealedBatch> {
        let batches = self.batches.read();
        let mut newest_first = batches.in_memory.iter().rev();
        if let Some(batch) = newest_first.find(|batch| batch.slot() == slot) {
            return Some(SealedBatch::Memory(Arc::clone(batch)));
        }
        let logged = batches.in_log.get(&slot).map(Arc::clone);
        logged.map(SealedBatch::Logged)
    }

    /// Bytes of data in all of them.
    #[must_use]
    pub fn bytes(&self) -> InFlightBytes {
        let batches = self.batches.read();
        let in_memory = batches.in_memory.iter();
        let (unstored, unlogged) = in_memory.fold((0, 0), |(unstored, unlogged), batch| {
            let bytes = batch.data_bytes();
            let logged = batch.logged_bytes();
            (unstored + bytes, unlogged + bytes.saturating_sub(logged))
        });
        let in_log: u64 = batches
            .in_log
            .values()
            .map(|batch| batch.data_bytes())
            .sum();
        InFlightBytes {
            unstored: unstored + in_log,
            unlogged,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<SealedBatch> {
        let batches = self.batches.read();
        let in_memory = batches.in_memory.iter().cloned().map(SealedBatch::Memory);
        let in_log = batches.in_log.values().cloned().map(SealedBatch::Logged);
        in_memory.chain(in_log).collect()
    }

    /// Removes the batch of this object; what it holds goes when the last reader is done.
    pub fn remove(&self, slot: ObjectSlot) {
        let removed = {
            let mut batches = self.batches.write();
            let logged = batches.in_log.remove(&slot);
            (batches.take_from_memory(slot), logged)
        };
        drop(removed);
    }
}

impl Batches {
    fn take_from_memory(&mut self, slot: ObjectSlot) -> Option<Arc<Batch>> {
        let index = self.in_memory.iter().position(|batch| batch.slot() == slot);
        index.map(|index| self.in_memory.remove(index))
    }
}
