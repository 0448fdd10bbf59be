//! Map M: the batches that are still in memory, the open one included, by the slot of their object.

use crate::state::batch::Batch;
use crate::sync::{Arc, RwLock};
use crate::words::units::ObjectSlot;

/// The batches in memory.
///
/// A batch is entered before the extent map names it, and leaves only when its object can be read
/// from the store; a reader that finds it here holds it, memory included, for as long as it reads.
#[derive(Debug, Default)]
pub struct InFlight {
    /// There are hardly more of them than uploads at once: a search from the newest end, where most
    /// reads of the recent past find theirs, beats any hashing.
    batches: RwLock<Vec<Arc<Batch>>>,
}

impl InFlight {
    /// Enters a batch.
    pub fn insert(&self, batch: Arc<Batch>) {
        self.batches.write().push(batch);
    }

    /// The batch of this object, if it is still in memory.
    #[must_use]
    pub fn get(&self, slot: ObjectSlot) -> Option<Arc<Batch>> {
        self.batches
            .read()
            .iter()
            .rev()
            .find(|batch| batch.slot() == slot)
            .map(Arc::clone)
    }

    /// Removes the batch of this object; its memory goes when the last reader is done.
    pub fn remove(&self, slot: ObjectSlot) {
        let removed = {
            let mut batches = self.batches.write();
            let index = batches.iter().position(|batch| batch.slot() == slot);
            index.map(|index| batches.remove(index))
        };
        // Returning a buffer to its pool wakes writers, which is not for under the lock.
        drop(removed);
    }
}
