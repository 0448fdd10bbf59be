//! The segments of the write log: each holds one batch at a time.

use crate::state::batch::BufferPool;
use crate::sync::{Arc, Mutex};

/// The free segments of a log; a fixed number of them, used again and again.
#[derive(Debug)]
pub struct SegmentPool {
    total: u32,
    /// The one that was freed last is used first: a log that is hardly used touches few of them.
    free: Mutex<Vec<u32>>,
    /// Whose waiters learn that there is room again.
    buffers: Arc<BufferPool>,
}

impl SegmentPool {
    /// A pool of `total` segments, of which those in `used` are given out already.
    ///
    /// The second value holds one for each of `used`, in that order.
    #[must_use]
    pub fn new(
        total: u32,
        used: &[u32],
        buffers: Arc<BufferPool>,
    ) -> (Arc<Self>, Vec<Arc<Segment>>) {
        let free = (0..total).rev().filter(|index| !used.contains(index));
        let pool = Arc::new(Self {
            total,
            free: Mutex::new(free.collect()),
            buffers,
        });
        let given = used
            .iter()
            .map(|index| {
                Arc::new(Segment {
                    index: *index,
                    pool: Arc::clone(&pool),
                })
            })
            .collect();
        (pool, given)
    }

    /// A segment, if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<Arc<Segment>> {
        let index = self.free.lock().pop()?;
        Some(Arc::new(Segment {
            index,
            pool: Arc::clone(self),
        }))
    }

    /// Whether a segment is free.
    #[must_use]
    pub fn has_free(&self) -> bool {
        !self.free.lock().is_empty()
    }

    /// How many segments are in use, and how many there are.
    #[must_use]
    pub fn usage(&self) -> (u32, u32) {
        let free = u32::try_from(self.free.lock().len()).unwrap_or(self.total);
        (self.total - free, self.total)
    }
}

/// A segment in use; it is free again when this is dropped. Whoever may still read it, or may need
/// it after a crash, holds it.
#[derive(Debug)]
pub struct Segment {
    index: u32,
    pool: Arc<SegmentPool>,
}

impl Segment {
    /// Its place in the log.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.pool.free.lock().push(self.index);
        self.pool.buffers.returned().notify();
    }
}
