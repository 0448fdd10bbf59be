//! Writing the objects of one checkpoint: the walk of a cut becomes pieces, full parts are stored
//! while the walk goes on, and what is left goes into the root.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ::bytes::Bytes;
use futures_util::future::{Either, poll_immediate, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::plan::region_of;
use super::{CheckpointObjects, Plan};
use crate::bytes::checkpoint::{
    Checkpoint, Form, ObjectRow, PIECE_EXTENTS_MAX, PIECE_ROWS_MAX, Payload, Piece, PieceStart,
};
use crate::doors::BoxFuture;
use crate::state::extent_map::{Cut, ExtentMap, RegionNumber};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::CUT_STALL_MAX;
use crate::words::name::ObjectId;
use crate::words::units::{Extent, Lba, ObjectSlot};

/// Parts that are stored at once, while the next one grows.
const PARTS_AT_ONCE: usize = 1;

/// Extents between two moments in which other tasks get their turn.
const EXTENTS_AT_ONCE: usize = 20_000;

/// Chunks, which may all be empty, between two such moments.
const CHUNKS_AT_ONCE: usize = 4_096;

/// What was walked since other tasks had their turn.
#[derive(Default)]
struct Steps {
    extents: usize,
    chunks: usize,
}

impl Steps {
    const fn are_many(&self) -> bool {
        self.extents >= EXTENTS_AT_ONCE || self.chunks >= CHUNKS_AT_ONCE
    }
}

/// What all objects of a checkpoint say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The last data object whose writes are in it.
    pub(crate) cut: ObjectId,
    /// The root of the checkpoint before it.
    pub(crate) predecessor: Option<ObjectId>,
    /// Payload at which the next object is begun.
    pub(crate) part_bytes: u64,
}

/// One checkpoint, as it is written.
pub(crate) struct Writer<'a> {
    objects: &'a CheckpointObjects,
    map: &'a ExtentMap,
    head: Head,
    /// The number of the next object; it goes on in the next checkpoint, whatever becomes of this.
    next: &'a mut ObjectId,
    plan: Plan,
    payload: Payload,
    /// Pieces in the parts.
    placed: Vec<Piece>,
    puts: FuturesUnordered<BoxFuture<'a, Result<()>>>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        objects: &'a CheckpointObjects,
        map: &'a ExtentMap,
        head: Head,
        plan: Plan,
        next: &'a mut ObjectId,
    ) -> Self {
        Self {
            objects,
            map,
            head,
            next,
            plan,
            payload: Payload::default(),
            placed: Vec::new(),
            puts: FuturesUnordered::new(),
        }
    }

    /// Walks the cut. `went_on` is called now and then, when copies were used up.
    ///
    /// # Errors
    /// When the store took nothing for so long that writers waited, or has another's object under a
    /// name of ours. The cut is to be given up.
    pub(crate) async fn walk(&mut self, cut: &Cut<'_>, went_on: impl Fn()) -> Result<()> {
        for regions in std::mem::take(&mut self.plan.walked) {
            let mut walk = cut.walk(regions);
            let mut pieces = RegionPieces::new(self.map.region_sectors());
            let mut steps = Steps::default();
            while let Some(region) = walk.step(|extent| {
                steps.extents += 1;
                pieces.push(extent, &mut self.payload);
            }) {
                steps.chunks += 1;
                while let Some(wanted) = cut.most_wanted(region) {
                    self.walk_wanted(cut, wanted, &mut steps, &went_on).await?;
                    went_on();
                }
                self.breathe_in_time(&mut steps, &went_on).await?;
            }
            pieces.finish(&mut self.payload);
            self.breathe().await?;
        }
        Ok(())
    }

    /// Walks one region ahead of its turn, since writers saved much for it. There may be many such, and
    /// each may be large: parts are stored meanwhile as well.
    async fn walk_wanted(
        &mut self,
        cut: &Cut<'_>,
        region: RegionNumber,
        steps: &mut Steps,
        went_on: &impl Fn(),
    ) -> Result<()> {
        let mut walk = cut.walk(region..RegionNumber(region.0 + 1));
        let mut pieces = RegionPieces::new(self.map.region_sectors());
        while let Some(_region) = walk.step(|extent| {
            steps.extents += 1;
            pieces.push(extent, &mut self.payload);
        }) {
            steps.chunks += 1;
            self.breathe_in_time(steps, went_on).await?;
        }
        pieces.finish(&mut self.payload);
        self.breathe_in_time(steps, went_on).await
    }

    /// Lets others go on where it is time to, or a part is full.
    async fn breathe_in_time(&mut self, steps: &mut Steps, went_on: &impl Fn()) -> Result<()> {
        if steps.are_many() || self.is_part_full() {
            *steps = Steps::default();
            went_on();
            self.breathe().await?;
        }
        Ok(())
    }

    const fn is_part_full(&self) -> bool {
        self.payload.len() as u64 >= self.head.part_bytes
    }

    /// Lets other tasks go on, and sees to the parts.
    async fn breathe(&mut self) -> Result<()> {
        if let Some(Some(stored)) = poll_immediate(self.puts.next()).await {
            stored?;
        }
        if self.is_part_full() {
            self.finish_part()?;
            let mut stalled = Duration::ZERO;
            while self.puts.len() > PARTS_AT_ONCE {
                self.wait_for_part(&mut stalled).await?;
            }
        }
        yield_now().await;
        Ok(())
    }

    /// Waits for a part to be stored, but not for ever while writers wait for the walk.
    async fn wait_for_part(&mut self, stalled: &mut Duration) -> Result<()> {
        let tick = CUT_STALL_MAX / 10;
        let pause = self.objects.runtime.sleep(tick);
        match select(self.puts.next(), pause).await {
            Either::Left((Some(stored), _)) => return stored,
            Either::Left((None, _)) => {}
            Either::Right(_) if self.map.has_room_for_copies() => *stalled = Duration::ZERO,
            Either::Right(_) => *stalled += tick,
        }
        if *stalled >= CUT_STALL_MAX {
            let message = "the store takes no checkpoint while writes wait for it: it is given up, \
                           and begun again later";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    fn finish_part(&mut self) -> Result<()> {
        let id = self.take_id()?;
        let payload = std::mem::take(&mut self.payload);
        let (bytes, mut pieces) = payload.finish(id, 0, 0);
        pieces.sort_unstable_by_key(|piece| piece.start);
        self.placed.extend_from_slice(&pieces);
        let part = self.describe(id, Form::Part, 0, pieces, bytes.len());
        let header = encoded(&part)?;
        let put = self.objects.put(header, Bytes::from(bytes), id);
        self.puts.push(Box::pin(put));
        Ok(())
    }

    /// Writes the root, when the walk is over and all that the cut names is persisted: `rows` are
    /// the objects of the table, of which there are `object_count`.
    ///
    /// # Errors
    /// When another's object is under a name of ours.
    pub(crate) async fn finish(
        mut self,
        object_count: u32,
        rows: impl Fn(std::ops::Range<u32>) -> Vec<ObjectRow>,
        persisted: Option<ObjectId>,
    ) -> Result<Checkpoint> {
        self.push_rows(object_count, rows)?;
        let id = self.take_id()?;
        let mut pieces = std::mem::take(&mut self.plan.kept);
        pieces.append(&mut self.placed);
        let others: BTreeSet<ObjectId> = pieces.iter().map(|piece| piece.object).collect();
        let payload = std::mem::take(&mut self.payload);
        let (bytes, own) = payload.finish(id, pieces.len(), others.len());
        pieces.extend(own);
        pieces.sort_unstable_by_key(|piece| piece.start);
        let mut root = self.describe(id, Form::Root, object_count, pieces, bytes.len());
        root.persisted = persisted;
        let header = encoded(&root)?;
        let put = self.objects.put(header, Bytes::from(bytes), id);
        self.puts.push(Box::pin(put));
        while let Some(stored) = self.puts.next().await {
            stored?;
        }
        Ok(root)
    }

    /// Adds the pieces of the table that no older object has.
    fn push_rows(
        &mut self,
        object_count: u32,
        rows: impl Fn(std::ops::Range<u32>) -> Vec<ObjectRow>,
    ) -> Result<()> {
        let kept: BTreeSet<PieceStart> = self.plan.kept.iter().map(|piece| piece.start).collect();
        let starts = (0..object_count).step_by(PIECE_ROWS_MAX);
        for start in starts.filter(|start| !kept.contains(&PieceStart::Rows(ObjectSlot(*start)))) {
            let len = (PIECE_ROWS_MAX as u64).min(u64::from(object_count - start));
            let end = start + u32::try_from(len).expect("at most as many as a piece has");
            let rows = rows(start..end);
            if rows.len() as u64 != len || rows.iter().any(|row| row.header_len == 0) {
                let message = "an object before the cut is not stored: this is a bug";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            self.payload.push_rows(ObjectSlot(start), &rows);
        }
        Ok(())
    }

    fn take_id(&mut self) -> Result<ObjectId> {
        let id = *self.next;
        *self.next = id.next().ok_or_else(|| {
            let message = "the volume's checkpoint numbers are used up; open it again for new ones";
            Error::new(ErrorKind::NoSpace, message)
        })?;
        Ok(id)
    }

    fn describe(
        &self,
        id: ObjectId,
        form: Form,
        object_count: u32,
        pieces: Vec<Piece>,
        payload_len: usize,
    ) -> Checkpoint {
        let runtime = &self.objects.runtime;
        Checkpoint {
            volume: self.objects.volume,
            id,
            predecessor: self.head.predecessor,
            write_id: runtime.random(),
            wall_time_ns: u64::try_from(runtime.wall_clock().as_nanos()).unwrap_or(u64::MAX),
            persisted: None,
            form,
            object_count,
            sectors: self.map.sectors(),
            region_sectors: self.map.region_sectors(),
            cut: self.head.cut,
            pieces,
            payload_len: payload_len as u64,
        }
    }
}

fn encoded(checkpoint: &Checkpoint) -> Result<Bytes> {
    checkpoint.encode().map(Bytes::from).map_err(|error| {
        let message = format!("cannot make {}: this is a bug", checkpoint.name());
        Error::new(ErrorKind::InvalidArgument, message).because(error)
    })
}

/// The extents of one region after the other, joined where they continue each other, as pieces.
struct RegionPieces {
    region_sectors: u64,
    region: Option<RegionNumber>,
    start: Lba,
    extents: Vec<Extent>,
}

impl RegionPieces {
    const fn new(region_sectors: u64) -> Self {
        Self {
            region_sectors,
            region: None,
            start: Lba(0),
            extents: Vec::new(),
        }
    }

    fn push(&mut self, extent: Extent, payload: &mut Payload) {
        let region = region_of(extent.range.start, self.region_sectors);
        if self.region != Some(region) {
            self.finish(payload);
            self.region = Some(region);
            self.start = Lba(region.0 * self.region_sectors);
        } else if self.extents.len() == PIECE_EXTENTS_MAX {
            self.finish(payload);
            self.start = extent.range.start;
        }
        match self.extents.last_mut() {
            Some(last) if continues(last, &extent) => last.range.end = extent.range.end,
            _ => self.extents.push(extent),
        }
    }

    fn finish(&mut self, payload: &mut Payload) {
        if !self.extents.is_empty() {
            payload.push_extents(self.start, &self.extents);
            self.extents.clear();
        }
    }
}

/// Whether `next` follows without a gap, on the volume and in the same object.
fn continues(one: &Extent, next: &Extent) -> bool {
    let end = u64::from(one.location.offset.0) + one.range.sectors();
    one.range.end == next.range.start
        && one.location.object == next.location.object
        && end == u64::from(next.location.offset.0)
}

/// Lets the other tasks of this thread have a turn.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
