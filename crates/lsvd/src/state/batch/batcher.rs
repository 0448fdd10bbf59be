//! The batcher: the open batch, its entry list, and the sealed batches that wait for upload.

use std::collections::VecDeque;

use super::{Batch, BufferPool, PooledBuffer, Region};
use crate::bytes::entry::{Entry, EntryKind};
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Mutex, Signal};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{Epoch, ObjectId, VolumeUuid};
use crate::words::units::{DataOffset, LbaRange, Location};

/// Who writes the batches: goes into every object.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The volume.
    pub volume: VolumeUuid,
    /// This opening of it: random bits that make the write ids of its objects unique.
    pub session: u128,
}

/// Gives out slots in the open batch, seals it, and queues what is sealed.
///
/// Slots are taken while the caller holds its part of the extent map, so the order of overlapping
/// writes in the batch is the order of the map. Nothing here waits: where there is no room there is
/// no slot.
#[derive(Debug)]
pub struct Batcher {
    identity: Identity,
    pool: Arc<BufferPool>,
    objects: Arc<ObjectTable>,
    in_flight: Arc<InFlight>,
    entries_max: usize,
    state: Mutex<State>,
    /// Notified when a batch is opened or sealed, and when the batcher closes.
    changed: Signal,
}

#[derive(Debug)]
struct State {
    open: Option<OpenBatch>,
    /// Number of the next batch to be opened; nothing when the epoch's numbers are used up.
    next: Option<ObjectId>,
    last: Option<ObjectId>,
    sealed: VecDeque<Arc<Batch>>,
    closed: bool,
}

#[derive(Debug)]
struct OpenBatch {
    batch: Arc<Batch>,
    entries: Vec<Entry>,
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

impl Batcher {
    /// A batcher whose first batch is number 0 of `epoch`.
    #[must_use]
    pub fn new(
        identity: Identity,
        epoch: Epoch,
        pool: Arc<BufferPool>,
        objects: Arc<ObjectTable>,
        in_flight: Arc<InFlight>,
    ) -> Self {
        // A batch full of single sectors still has room for every entry.
        let entries_max = pool.buffer_sectors();
        let next = ObjectId::new(epoch, 0);
        let state = State {
            open: None,
            next,
            last: None,
            sealed: VecDeque::new(),
            closed: false,
        };
        let state = Mutex::new(state);
        Self {
            identity,
            pool,
            objects,
            in_flight,
            entries_max,
            state,
            changed: Signal::default(),
        }
    }

    /// Enters what is to be done to `range`, in a new batch where the open one is full; nothing
    /// where there is no memory for a new one at the moment.
    ///
    /// # Errors
    /// When the batcher is closed or the object numbers are used up.
    ///
    /// # Panics
    /// When a write is larger than a batch.
    pub fn append(&self, range: LbaRange, what: NewEntry) -> Result<Option<Slot>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the volume is closed"));
        }
        let mut changed = false;
        let mut slot = state
            .open
            .as_mut()
            .and_then(|open| open.append(range, what, self.entries_max));
        if slot.is_none() {
            let Some(buffer) = self.pool.try_take() else {
                return Ok(None);
            };
            // First what can fail: a batch that is sealed must be announced.
            let mut open = self.open_batch(&mut state, buffer)?;
            state.seal();
            slot = open.append(range, what, self.entries_max);
            assert!(
                slot.is_some(),
                "{} sectors do not fit an empty batch",
                range.sectors()
            );
            state.open = Some(open);
            changed = true;
        }
        if state
            .open
            .as_ref()
            .is_some_and(|open| open.is_full(self.entries_max))
        {
            state.seal();
            changed = true;
        }
        drop(state);
        if changed {
            self.changed.notify();
        }
        Ok(slot)
    }

    fn open_batch(&self, state: &mut State, buffer: PooledBuffer) -> Result<OpenBatch> {
        let used_up = || {
            let message = "the volume's object numbers are used up; open it again for new ones";
            Error::new(ErrorKind::NoSpace, message)
        };
        let id = state.next.ok_or_else(used_up)?;
        let slot = self.objects.insert(id).ok_or_else(used_up)?;
        state.next = id.next();
        let predecessor = state.last.replace(id);
        let batch = Arc::new(Batch {
            identity: self.identity,
            id,
            predecessor,
            slot,
            buffer,
            writers: AtomicU32::new(0),
            entries: std::sync::OnceLock::new(),
            filled: Signal::default(),
        });
        self.in_flight.insert(Arc::clone(&batch));
        Ok(OpenBatch {
            batch,
            entries: Vec::new(),
        })
    }

    /// Seals the open batch, if there is one, and says which was the last to be sealed.
    pub fn seal(&self) -> Option<ObjectId> {
        let (sealed, last) = {
            let mut state = self.state.lock();
            (state.seal(), state.last)
        };
        if sealed {
            self.changed.notify();
        }
        last
    }

    /// Seals the open batch if it is still this one.
    pub fn seal_if_open(&self, id: ObjectId) {
        let is_open = |state: &State| state.open.as_ref().is_some_and(|open| open.batch.id == id);
        let sealed = {
            let mut state = self.state.lock();
            is_open(&state) && state.seal()
        };
        if sealed {
            self.changed.notify();
        }
    }

    /// Waits for a batch other than `seen` to be open, and gives its number; nothing when closed.
    pub async fn opened(&self, seen: Option<ObjectId>) -> Option<ObjectId> {
        self.changed
            .until(|| {
                let state = self.state.lock();
                let open = state.open.as_ref().map(|open| open.batch.id);
                match open {
                    Some(id) if Some(id) != seen => Some(Some(id)),
                    _ => state.closed.then_some(None),
                }
            })
            .await
    }

    /// The next sealed batch, in order, if its number is below `end`.
    #[must_use]
    pub fn take_sealed(&self, end: ObjectId) -> Option<Arc<Batch>> {
        let mut state = self.state.lock();
        if state.sealed.front()?.id >= end {
            return None;
        }
        state.sealed.pop_front()
    }

    /// Waits until [`take_sealed`](Self::take_sealed) gives a batch; nothing when the batcher is
    /// closed and empty.
    pub async fn sealed(&self, end: ObjectId) -> Option<Arc<Batch>> {
        self.changed
            .until(|| {
                if let Some(batch) = self.take_sealed(end) {
                    return Some(Some(batch));
                }
                let state = self.state.lock();
                (state.closed && state.sealed.is_empty()).then_some(None)
            })
            .await
    }

    /// Seals what is open and gives no slot any more.
    pub fn close(&self) -> Option<ObjectId> {
        let last = {
            let mut state = self.state.lock();
            state.closed = true;
            state.seal();
            state.last
        };
        self.changed.notify();
        last
    }
}

impl State {
    fn seal(&mut self) -> bool {
        let Some(OpenBatch { batch, entries }) = self.open.take() else {
            return false;
        };
        batch.seal(entries);
        self.sealed.push_back(batch);
        true
    }
}

impl OpenBatch {
    fn append(&mut self, range: LbaRange, what: NewEntry, entries_max: usize) -> Option<Slot> {
        if self.entries.len() >= entries_max {
            return None;
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
        self.batch.writers.fetch_add(1, Ordering::SeqCst);
        Some(Slot {
            batch: Arc::clone(&self.batch),
            region,
        })
    }

    fn is_full(&self, entries_max: usize) -> bool {
        self.entries.len() >= entries_max || self.batch.buffer.is_full()
    }
}

/// A place in a batch that is entered in its list and waits for its data.
///
/// The batch is not stored before the slot is gone, so it is held only for the time of a copy.
#[derive(Debug)]
pub struct Slot {
    batch: Arc<Batch>,
    region: Option<Region>,
}

impl Slot {
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
