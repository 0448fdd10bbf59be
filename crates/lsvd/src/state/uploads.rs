//! The sealed batches that wait for upload, in the order of the stream.

use std::collections::VecDeque;

use crate::state::batch::Batch;
use crate::state::logged::LoggedBatch;
use crate::state::segments::Segment;
use crate::sync::{Arc, Mutex, Signal};
use crate::words::name::ObjectId;
use crate::words::units::ObjectSlot;

/// A sealed batch, wherever its data is.
#[derive(Clone, Debug)]
pub enum SealedBatch {
    /// In memory.
    Memory(Arc<Batch>),
    /// In the write log alone.
    Logged(Arc<LoggedBatch>),
}

impl SealedBatch {
    const fn is_in_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// The id of the object it becomes.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Memory(batch) => batch.id(),
            Self::Logged(batch) => batch.id(),
        }
    }

    /// Its object in the object table.
    #[must_use]
    pub fn slot(&self) -> ObjectSlot {
        match self {
            Self::Memory(batch) => batch.slot(),
            Self::Logged(batch) => batch.slot(),
        }
    }

    /// Its segment of the write log, where there is a log.
    #[must_use]
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        match self {
            Self::Memory(batch) => batch.segment(),
            Self::Logged(batch) => Some(batch.segment()),
        }
    }

    /// Bytes of its data area in use.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        match self {
            Self::Memory(batch) => batch.data_bytes(),
            Self::Logged(batch) => batch.data_bytes(),
        }
    }
}

/// The queue before the uploader. What enters it has its place in the stream, counted from the
/// volume's opening.
#[derive(Debug, Default)]
pub struct UploadQueue {
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    /// With their places.
    waiting: VecDeque<(u64, SealedBatch)>,
    /// How many of them are in memory: counted, since every write to the log asks.
    in_memory: usize,
    /// The place behind the last one that was taken: nothing before it waits.
    first: u64,
    /// The place of the next that is entered.
    next: u64,
    closed: bool,
}

impl UploadQueue {
    /// Enters the next batch of the stream.
    pub fn push(&self, batch: SealedBatch) {
        let mut state = self.state.lock();
        state.in_memory += usize::from(batch.is_in_memory());
        let place = state.next;
        state.next += 1;
        state.waiting.push_back((place, batch));
        drop(state);
        self.changed.notify();
    }

    /// Leaves the next place in the stream, which is returned, to a batch that is stored already.
    #[must_use]
    pub fn pass(&self) -> u64 {
        let mut state = self.state.lock();
        state.next += 1;
        state.next - 1
    }

    /// How many of those that wait are in memory, and how many in the log alone.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.in_memory, state.waiting.len() - state.in_memory)
    }

    /// Takes those that wait in memory out of it with `leave`, but for the first `stay`. What comes
    /// back is no longer waiting; it is to be dropped behind the call, as that tells others that
    /// there is memory.
    pub fn leave_memory(
        &self,
        stay: usize,
        mut leave: impl FnMut(&Batch) -> Option<Arc<LoggedBatch>>,
    ) -> Vec<SealedBatch> {
        let mut state = self.state.lock();
        let in_memory = state.waiting.iter_mut().filter_map(|(_, waiting)| {
            let SealedBatch::Memory(batch) = &*waiting else {
                return None;
            };
            let batch = Arc::clone(batch);
            Some((waiting, batch))
        });
        let left: Vec<_> = in_memory
            .skip(stay)
            .filter_map(|(waiting, batch)| {
                let logged = leave(&batch)?;
                Some(std::mem::replace(waiting, SealedBatch::Logged(logged)))
            })
            .collect();
        state.in_memory -= left.len();
        left
    }

    /// The next batch and its place, if that is below `end`.
    #[must_use]
    pub fn take(&self, end: u64) -> Option<(u64, SealedBatch)> {
        let mut state = self.state.lock();
        let (place, batch) = state.waiting.pop_front_if(|(place, _)| *place < end)?;
        state.in_memory -= usize::from(batch.is_in_memory());
        state.first = place + 1;
        Some((place, batch))
    }

    /// Waits until [`take`](Self::take) gives a batch; nothing when the queue is closed and empty.
    pub async fn next(&self, end: u64) -> Option<(u64, SealedBatch)> {
        self.changed
            .until(|| {
                if let Some(taken) = self.take(end) {
                    return Some(Some(taken));
                }
                let state = self.state.lock();
                (state.closed && state.waiting.is_empty()).then_some(None)
            })
            .await
    }

    /// How many batches were entered so far, those included that were stored before.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.state.lock().next
    }

    /// Says what is wrong with the queue, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn self_check(&self) -> Result<(), String> {
        let state = self.state.lock();
        let waiting = state.waiting.iter();
        let in_memory = waiting.filter(|(_, batch)| batch.is_in_memory());
        let (found, counted) = (in_memory.count(), state.in_memory);
        if found != counted {
            return Err(format!(
                "{found} batches wait in memory, and {counted} were counted"
            ));
        }
        Ok(())
    }

    /// Those that wait, each with its place.
    pub(super) fn all_waiting(&self) -> Vec<(u64, ObjectId)> {
        let state = self.state.lock();
        let waiting = state.waiting.iter();
        waiting.map(|(place, batch)| (*place, batch.id())).collect()
    }

    /// The place behind the last one that was taken.
    pub(super) fn first(&self) -> u64 {
        self.state.lock().first
    }

    /// Says that nothing more will be entered.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify();
    }
}
