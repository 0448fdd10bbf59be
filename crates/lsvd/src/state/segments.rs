//! The segments of the write log: each holds one batch at a time.

#[cfg(feature = "planted")]
use std::{collections::VecDeque, sync::Weak};

use crate::state::batch::BufferPool;
#[cfg(feature = "planted")]
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
#[cfg(feature = "planted")]
use crate::words::planted::{self, Fault};

/// The free segments of a log; a fixed number of them, used again and again.
#[derive(Debug)]
pub struct SegmentPool {
    total: u32,
    /// The one that was freed last is used first: a log that is hardly used touches few of them.
    free: Mutex<Vec<u32>>,
    /// Whose waiters learn that there is room again.
    buffers: Arc<BufferPool>,
    /// The segments in use, in the order in which they were taken, which is that of their batches.
    #[cfg(feature = "planted")]
    taken: Mutex<VecDeque<Weak<Segment>>>,
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
            #[cfg(feature = "planted")]
            taken: Mutex::default(),
        });
        let given = used.iter().map(|index| pool.give(*index)).collect();
        (pool, given)
    }

    fn give(self: &Arc<Self>, index: u32) -> Arc<Segment> {
        let segment = Arc::new(Segment {
            index,
            pool: Arc::clone(self),
            #[cfg(feature = "planted")]
            freed: AtomicBool::new(false),
        });
        #[cfg(feature = "planted")]
        self.taken.lock().push_back(Arc::downgrade(&segment));
        segment
    }

    fn free(&self, index: u32) {
        self.free.lock().push(index);
        self.buffers.returned().notify();
    }

    /// The fault `segment-early`: with the segment of one batch, that of the next one is free, too,
    /// although nothing but it may have what that batch holds.
    #[cfg(feature = "planted")]
    fn free_next(&self) {
        let next = {
            let mut taken = self.taken.lock();
            taken.retain(|segment| segment.strong_count() > 0);
            taken.front().and_then(Weak::upgrade)
        };
        if let Some(next) = next
            && !next.freed.swap(true, Ordering::AcqRel)
        {
            self.free(next.index);
        }
    }

    /// A segment, if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<Arc<Segment>> {
        let index = self.free.lock().pop()?;
        Some(self.give(index))
    }

    /// Whether a segment is free.
    #[must_use]
    pub fn has_free(&self) -> bool {
        !self.free.lock().is_empty()
    }

    /// Says what is wrong with the list of free segments, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn self_check(&self) -> Result<(), String> {
        let mut free = self.free.lock().clone();
        free.sort_unstable();
        let twice = free.windows(2).find(|pair| pair[0] == pair[1]);
        let outside = free.last().filter(|index| **index >= self.total);
        match (twice, outside) {
            (Some(twice), _) => Err(format!("segment {} is free twice", twice[0])),
            (None, Some(index)) => Err(format!("segment {index} of {} is free", self.total)),
            (None, None) => Ok(()),
        }
    }

    /// Whether this one is free.
    pub(super) fn is_free(&self, index: u32) -> bool {
        self.free.lock().contains(&index)
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
    /// Whether it is free while it is in use.
    #[cfg(feature = "planted")]
    freed: AtomicBool,
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
        #[cfg(feature = "planted")]
        if planted::is(Fault::SegmentEarly) {
            self.pool.free_next();
            if *self.freed.get_mut() {
                return;
            }
        }
        self.pool.free(self.index);
    }
}
