//! The batcher: when a batch is opened and sealed, and the sealed batches that wait for upload.

use std::collections::VecDeque;

use futures_util::future::{Either, select};

use super::open_batch::{NewEntry, OpenBatch};
use super::slice::{BatchSlice, Recorded};
use super::slot::Slot;
use super::{Batch, BufferPool, PooledBuffer};
use crate::bytes::log::RecordBounds;
use crate::state::durable::StreamPoint;
use crate::state::extent_map::CutCount;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::progress::Progress;
use crate::state::segments::{Segment, SegmentPool};
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::sync::atomic::AtomicU32;
use crate::sync::{Arc, Mutex, Signal};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{Epoch, ObjectId, VolumeUuid};
use crate::words::units::LbaRange;

/// Who writes the batches: goes into every object.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The volume.
    pub volume: VolumeUuid,
    /// This opening of it: random bits that make the write ids of its objects unique.
    pub session: u128,
}

/// Where sealed batches go.
#[derive(Debug)]
pub enum Sink {
    /// To the uploader.
    Uploads(Arc<UploadQueue>),
    /// Into the write log first, which takes them with [`Batcher::take_slices`].
    Log(LogRoom),
}

/// The room that a batch has in the write log.
#[derive(Clone, Debug)]
pub struct LogRoom {
    /// Segments, one for each batch.
    pub segments: Arc<SegmentPool>,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// How long records get.
    pub bounds: RecordBounds,
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
    progress: Arc<Progress>,
    entries_max: usize,
    sink: Sink,
    state: Mutex<State>,
    /// Notified when a batch is opened or sealed, and when the batcher closes or fails.
    changed: Signal,
}

#[derive(Debug)]
struct State {
    open: Option<OpenBatch>,
    /// Number of the next batch to be opened; nothing when the epoch's numbers are used up.
    next: Option<ObjectId>,
    last: Option<ObjectId>,
    /// Cuts that were made between batches.
    cuts: CutCount,
    /// Sealed and not yet taken by the log, where there is one.
    sealed: VecDeque<(Arc<Batch>, Recorded)>,
    closed: bool,
    /// Why nothing is accepted any more, if that is so.
    failed: Option<Error>,
}

impl State {
    fn refusal(&self) -> Option<Error> {
        match self.closed {
            true => Some(Error::new(ErrorKind::Closed, "the volume is closed")),
            false => self.failed.clone(),
        }
    }
}

impl Batcher {
    /// A batcher whose first batch is number 0 of `epoch` and follows the object `last`.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the state, named by its type"
    )]
    pub fn new(
        identity: Identity,
        epoch: Epoch,
        last: Option<ObjectId>,
        pool: Arc<BufferPool>,
        objects: Arc<ObjectTable>,
        in_flight: Arc<InFlight>,
        progress: Arc<Progress>,
        sink: Sink,
    ) -> Self {
        // A batch full of single sectors still has room for every entry.
        let entries_max = pool.buffer_sectors();
        let next = ObjectId::new(epoch, 0);
        let state = State {
            open: None,
            next,
            last,
            cuts: CutCount::default(),
            sealed: VecDeque::new(),
            closed: false,
            failed: None,
        };
        let state = Mutex::new(state);
        Self {
            identity,
            pool,
            objects,
            in_flight,
            progress,
            entries_max,
            sink,
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
        if let Some(error) = state.refusal() {
            return Err(error);
        }
        let mut changed = false;
        let mut slot = self.append_to_open(&mut state, range, what);
        if slot.is_none() {
            // What does not fit ends the batch even where there is no room for the next one yet:
            // that room may come only when this one is stored.
            changed = self.seal_open(&mut state);
            if let Some((buffer, segment)) = self.try_take_room() {
                match self.open_batch(&mut state, buffer, segment) {
                    Ok(open) => state.open = Some(open),
                    Err(error) => {
                        drop(state);
                        self.changed.notify();
                        return Err(error);
                    }
                }
                changed = true;
                slot = self.append_to_open(&mut state, range, what);
                assert!(
                    slot.is_some(),
                    "{} sectors do not fit an empty batch",
                    range.sectors()
                );
            }
        }
        let full = |open: &OpenBatch| open.is_full(self.entries_max);
        if state.open.as_ref().is_some_and(full) {
            changed |= self.seal_open(&mut state);
        }
        drop(state);
        if changed {
            self.changed.notify();
        }
        Ok(slot)
    }

    fn append_to_open(&self, state: &mut State, range: LbaRange, what: NewEntry) -> Option<Slot> {
        let cuts = state.cuts;
        let open = state.open.as_mut()?;
        open.append(range, what, cuts, self.entries_max, self.log_room())
    }

    const fn log_room(&self) -> Option<&LogRoom> {
        match &self.sink {
            Sink::Log(room) => Some(room),
            Sink::Uploads(_) => None,
        }
    }

    /// Memory for a batch, and a segment of the log where there is one; called with the state
    /// locked. Where either is missing the other is not even touched: whatever is given back tells
    /// those who wait that there is room, and they would try again at once, without end.
    fn try_take_room(&self) -> Option<(PooledBuffer, Option<Arc<Segment>>)> {
        let Some(room) = self.log_room() else {
            return Some((self.pool.try_take()?, None));
        };
        // Nobody else takes segments, so one that is free now is free still.
        if !room.segments.has_free() {
            return None;
        }
        let buffer = self.pool.try_take()?;
        Some((buffer, Some(room.segments.try_take()?)))
    }

    fn open_batch(
        &self,
        state: &mut State,
        buffer: PooledBuffer,
        segment: Option<Arc<Segment>>,
    ) -> Result<OpenBatch> {
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
            header: std::sync::OnceLock::new(),
            filled: Signal::default(),
            segment,
            logged: Mutex::default(),
        });
        self.in_flight.insert(Arc::clone(&batch));
        self.progress.opened(id);
        Ok(OpenBatch {
            batch,
            entries: Vec::new(),
            recorded: Recorded::default(),
        })
    }

    /// Seals the open batch, if there is one, and says which was the last to be sealed.
    pub fn seal(&self) -> Option<ObjectId> {
        let (sealed, last) = {
            let mut state = self.state.lock();
            (self.seal_open(&mut state), state.last)
        };
        if sealed {
            self.changed.notify();
        }
        last
    }

    /// Makes a cut: seals the open batch, if there is one, and calls `begin` in the same moment, so
    /// that every slot up to here has a lower count of cuts and every later one the count that
    /// `begin` gets. Says which was the last batch to be sealed, and how many cuts there are now.
    pub fn cut(&self, begin: impl FnOnce(CutCount)) -> (Option<ObjectId>, CutCount) {
        let (sealed, last, cuts) = {
            let mut state = self.state.lock();
            let sealed = self.seal_open(&mut state);
            state.cuts.0 += 1;
            begin(state.cuts);
            (sealed, state.last, state.cuts)
        };
        if sealed {
            self.changed.notify();
        }
        (last, cuts)
    }

    /// Seals the open batch if it is still this one.
    pub fn seal_if_open(&self, id: ObjectId) {
        let is_open = |state: &State| state.open.as_ref().is_some_and(|open| open.batch.id == id);
        let sealed = {
            let mut state = self.state.lock();
            is_open(&state) && self.seal_open(&mut state)
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

    /// How far the stream goes at the moment: everything that has a slot; nothing where nothing was
    /// entered since the opening.
    #[must_use]
    pub fn point(&self) -> Option<StreamPoint> {
        let state = self.state.lock();
        match &state.open {
            Some(open) => Some(StreamPoint {
                batch: open.batch.id,
                entries: u32::try_from(open.entries.len()).unwrap_or(u32::MAX),
            }),
            None => state.last.map(|batch| StreamPoint {
                batch,
                entries: u32::MAX,
            }),
        }
    }

    /// Says what is wrong with the open batch and those behind it, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn self_check(&self) -> Result<(), String> {
        let state = self.state.lock();
        let open = state.open.as_ref().map(|open| open.batch.id);
        let sealed = state.sealed.iter().map(|(batch, _)| batch.id);
        let queued: Vec<ObjectId> = sealed.chain(open).collect();
        let follows = |pair: &[ObjectId]| pair[0].next() == Some(pair[1]);
        if !queued.windows(2).all(follows) {
            return Err(format!("batches {queued:?} do not follow each other"));
        }
        let last = state.last;
        if queued.last().is_some_and(|newest| Some(*newest) != last) {
            return Err(format!(
                "batch {:?} is not the last, {last:?}",
                queued.last()
            ));
        }
        let is_next = |next: ObjectId| match last.filter(|last| last.epoch() == next.epoch()) {
            Some(last) => last.next() == Some(next),
            None => next.sequence() == 0,
        };
        if state.next.is_some_and(|next| !is_next(next)) {
            return Err(format!("batch {:?} is next behind {last:?}", state.next));
        }
        match &state.open {
            Some(open) if open.recorded.entries as usize > open.entries.len() => Err(format!(
                "the log has more of batch {:?} than it is",
                open.batch.id
            )),
            _ => Ok(()),
        }
    }

    /// The batches in memory that the log has not taken whole, and what the log has still to take
    /// of them: the sealed ones to their ends and, where `open` asks for it, the open one as far as
    /// it goes. In the order of the stream.
    #[must_use]
    pub fn take_slices(&self, open: bool) -> Vec<BatchSlice> {
        let Some(room) = self.log_room() else {
            return Vec::new();
        };
        let mut state = self.state.lock();
        let sealed = std::mem::take(&mut state.sealed);
        let mut slices: Vec<BatchSlice> = sealed
            .into_iter()
            .map(|(batch, recorded)| BatchSlice::to_the_end(batch, recorded))
            .collect();
        if open && let Some(open) = &mut state.open {
            slices.extend(BatchSlice::of_open(
                &open.batch,
                &open.entries,
                &mut open.recorded,
                room.bounds,
            ));
        }
        slices
    }

    /// Waits until [`take_slices`](Self::take_slices) gives a sealed batch, or `wanted` holds; whether there will
    /// be more.
    pub async fn wait_for_slices(&self, also: &Signal, wanted: impl Fn() -> bool) -> bool {
        let ready = || {
            if wanted() {
                return Some(true);
            }
            let state = self.state.lock();
            match (state.sealed.is_empty(), state.closed) {
                (false, _) => Some(true),
                (true, true) => Some(false),
                (true, false) => None,
            }
        };
        let sealed = Box::pin(self.changed.until(ready));
        let wanted = Box::pin(also.until(ready));
        match select(sealed, wanted).await {
            Either::Left((more, _)) | Either::Right((more, _)) => more,
        }
    }

    /// Why nothing is accepted any more, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        self.state.lock().refusal()
    }

    /// Accepts nothing any more, and tells everybody why.
    pub fn fail(&self, error: Error) {
        self.state.lock().failed.get_or_insert(error);
        self.changed.notify();
        self.wake_waiting();
    }

    /// Has those who wait for room look again: at whether there is some, or why there will be none.
    pub fn wake_waiting(&self) {
        self.pool.returned().notify();
    }

    /// Waits for the [close](Self::close).
    pub async fn until_closed(&self) {
        let closed = || self.state.lock().closed.then_some(());
        self.changed.until(closed).await;
    }

    /// Seals what is open and gives no slot any more.
    pub fn close(&self) -> Option<ObjectId> {
        let last = {
            let mut state = self.state.lock();
            state.closed = true;
            self.seal_open(&mut state);
            if let Sink::Uploads(uploads) = &self.sink {
                uploads.close();
            }
            state.last
        };
        self.changed.notify();
        self.wake_waiting();
        last
    }

    /// Ends the open batch and sends it on its way; whether there was one.
    fn seal_open(&self, state: &mut State) -> bool {
        let Some(open) = state.open.take() else {
            return false;
        };
        open.batch.seal(open.entries);
        match &self.sink {
            Sink::Uploads(uploads) => uploads.push(SealedBatch::Memory(open.batch)),
            Sink::Log(_) => state.sealed.push_back((open.batch, open.recorded)),
        }
        true
    }
}
