//! A slot: a place in a batch, from when it is given until its data is there.

use super::{Batch, Region};
use crate::state::extent_map::CutCount;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::words::units::{DataOffset, Location};

/// A place in a batch that is entered in its list and waits for its data.
///
/// The batch is not stored before the slot is gone, so it is held only for the time of a copy.
#[derive(Debug)]
pub struct Slot {
    batch: Arc<Batch>,
    region: Option<Region>,
    cuts: CutCount,
}

impl Slot {
    /// A slot in a batch, which has one writer more from now on.
    pub(super) fn new(batch: &Arc<Batch>, region: Option<Region>, cuts: CutCount) -> Self {
        batch.writers.fetch_add(1, Ordering::SeqCst);
        Self {
            batch: Arc::clone(batch),
            region,
            cuts,
        }
    }

    /// The cuts that were made before it, which the extent map asks for.
    #[must_use]
    pub const fn cuts(&self) -> CutCount {
        self.cuts
    }

    /// Copies the data in; afterwards the location may be published in the extent map.
    pub fn fill(mut self, data: &[u8]) -> Location {
        let offset = match self.region.take() {
            Some(region) => {
                let offset = region.offset();
                region.fill(data);
                offset
            }
            None => DataOffset(0),
        };
        Location {
            object: self.batch.slot,
            offset,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.batch.writer_done();
    }
}
