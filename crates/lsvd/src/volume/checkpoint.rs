//! Checkpoints of a volume at work: when one is due, and the steps of making one, each of which can
//! crash and leaves the volume as it was, or with the new checkpoint.

mod removal;

use std::collections::BTreeSet;

use futures_util::future::{Either, select};

use super::Volume;
use crate::bytes::checkpoint::Checkpoint;
use crate::bytes::superblock::{CHECKPOINTS_MAX, Change, KeptCheckpoint, VolumeState};
use crate::doors::runtime::Runtime;
use crate::parts::checkpoint::{CheckpointObjects, Head, Plan, Writer, is_usable};
use crate::parts::superblocks::Fence;
use crate::state::batch::{Batcher, BufferPool};
use crate::state::extent_map::{Cut, CutCount, ExtentMap};
use crate::state::object_table::ObjectTable;
use crate::state::progress::Progress;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{
    CHECKPOINT_DATA_RATIO, CHECKPOINT_OBJECTS_MIN, CHECKPOINT_PART_BYTES, EPOCHS_BEHIND_MAX,
    EPOCHS_KEPT_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, ROLL_FORWARD_OBJECTS_MAX,
};
use crate::words::name::{Epoch, ObjectId};
use crate::words::planted::{self, Fault};
use crate::words::units::{ObjectSlot, SECTOR_BYTES};

/// Bytes of a checkpoint beside its pieces, roughly, requests included.
const CHECKPOINT_BYTES_MIN: u64 = 64 << 10;

/// Bytes that an extent takes in a checkpoint, roughly.
const EXTENT_BYTES: u64 = 6;

/// When checkpoints are made, and with how much memory. The defaults are for volumes of any size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Data objects behind the newest checkpoint at which the next one is made, at least 1: about
    /// as many, and mostly no more than twice as many, does the next opening have to read.
    pub objects: u32,
    /// Most bytes that writers copy so that a checkpoint sees what was there before them, at least 1;
    /// behind that they wait for it.
    pub copied_bytes: u64,
    /// Payload of a checkpoint object at which the next one is begun, 4 KiB to 64 MiB. Two of them
    /// are in memory while a checkpoint is made.
    pub part_bytes: u64,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self {
            // Others are stored while a checkpoint is made.
            objects: ROLL_FORWARD_OBJECTS_MAX / 4 * 3,
            copied_bytes: 64 << 20,
            part_bytes: 32 << 20,
        }
    }
}

impl CheckpointOptions {
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.objects == 0 {
            return refuse("a checkpoint after every 0 objects cannot be: at least 1".to_owned());
        }
        if self.copied_bytes == 0 {
            let message = "checkpoints for which writers copy 0 bytes cannot be: at least 1, or no \
                           write would ever have room";
            return refuse(message.to_owned());
        }
        if !CHECKPOINT_PART_BYTES.contains(&self.part_bytes) {
            return refuse(format!(
                "checkpoint objects of {} bytes cannot be: from {} to {}",
                self.part_bytes,
                CHECKPOINT_PART_BYTES.start(),
                CHECKPOINT_PART_BYTES.end()
            ));
        }
        Ok(())
    }
}

impl Volume {
    /// Makes a checkpoint of everything that was answered before, and waits until it is persisted:
    /// the next open reads it in place of the objects before it. Writes go on meanwhile. Where
    /// nothing was written since the last checkpoint there is nothing to do.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an ephemeral volume, and the store's
    /// error while it fails; the checkpoint is tried again then.
    pub fn checkpoint(&self) -> Result<()> {
        block_on(self.checkpoint_async())
    }

    /// [`checkpoint`](Self::checkpoint) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn checkpoint_async(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            let message = "cannot make a checkpoint: the volume is closed";
            return Err(Error::new(ErrorKind::Closed, message));
        }
        let Some(requests) = &self.shared.checkpoints else {
            let message = "an ephemeral volume has no checkpoints";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        // What cannot be stored is told now, as by a flush, and not when the store is back.
        self.shared.store_all().await?;
        requests.ask().await
    }
}

/// The checkpoints from which a volume can be opened, as its writer knows them.
#[derive(Debug)]
pub(super) struct Kept {
    /// As the newest superblock names them, the newest last.
    pub(super) checkpoints: Vec<KeptCheckpoint>,
    /// What is known of them.
    pub(super) roots: Vec<Checkpoint>,
    /// Whether the newest was damaged when the volume was opened: nothing of earlier epochs is
    /// removed then.
    pub(super) fell_back: bool,
    /// The first epoch of this volume.
    pub(super) first_epoch: Epoch,
    /// Epochs with objects that the newest superblock lists behind the newest checkpoint.
    pub(super) epochs_behind: usize,
}

/// Makes the checkpoints of one opening of a volume.
#[derive(Debug)]
pub(super) struct Checkpointer {
    pub(super) map: Arc<ExtentMap>,
    pub(super) objects: Arc<ObjectTable>,
    pub(super) batcher: Arc<Batcher>,
    pub(super) pool: Arc<BufferPool>,
    pub(super) progress: Arc<Progress>,
    pub(super) fence: Arc<Fence>,
    pub(super) store: CheckpointObjects,
    pub(super) kept: Kept,
    pub(super) options: CheckpointOptions,
    /// Number of the next checkpoint object.
    pub(super) next: ObjectId,
    /// The cuts so far.
    pub(super) cuts: CutCount,
    /// Checkpoint objects that may be there, and are not yet removed.
    pub(super) present: BTreeSet<ObjectId>,
    /// Data objects that are there and are of no stream.
    pub(super) strays: BTreeSet<ObjectId>,
    /// Whether those of earlier epochs are among them.
    pub(super) is_listed: bool,
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // Whoever waits for a checkpoint would wait for ever, and so would who waits for the walk of one
        // that was given up half way.
        let message = "the volume's background work ended before the checkpoint was made";
        self.store
            .requests
            .end(Error::new(ErrorKind::Unavailable, message));
        self.pool.returned().notify();
    }
}

impl Checkpointer {
    /// Works until nobody asks any more, nothing is stored any more, or this writer is fenced.
    pub(super) async fn run(mut self) {
        let progress = Arc::clone(&self.progress);
        while self.wanted().await.is_some() {
            let requests = self.store.requests.count();
            let over = Box::pin(nothing_is_stored_any_more(&progress));
            let made = match select(Box::pin(self.make()), over).await {
                Either::Left((made, _)) => made,
                // Nobody will open the volume from it, and what it has stored nobody might remove.
                Either::Right(_) => break,
            };
            match made {
                Ok(()) => self.store.requests.answer(requests),
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    self.store.requests.end(error.clone());
                    return self.fence.fence(&error);
                }
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint failed, and is tried again");
                    self.store.requests.fail(error);
                    if self.store.requests.is_closed() {
                        break;
                    }
                    self.store.runtime.sleep(RETRY_PAUSE_MAX).await;
                }
            }
        }
        if let Some(error) = self.progress.end() {
            self.store.requests.end(error);
        }
    }

    /// Waits until a checkpoint is due or asked for; nothing when there is to be no more.
    async fn wanted(&self) -> Option<()> {
        loop {
            let seen = self.progress.persisted();
            if self.is_due() && self.progress.end().is_none() {
                return Some(());
            }
            let asked = Box::pin(self.store.requests.asked());
            let moved = Box::pin(self.progress.persisted_beyond(seen));
            match select(asked, moved).await {
                Either::Left((asked, _)) => return asked,
                Either::Right((moved, _)) => moved?,
            }
        }
    }

    /// Whether rolling forward from the newest checkpoint takes much, or little beside what a new
    /// one costs.
    fn is_due(&self) -> bool {
        let newest = self.kept.roots.last();
        let before = newest.map_or(0, |root| root.object_count);
        let objects = u64::from(self.objects.slot_count().saturating_sub(before));
        if objects == 0 || self.progress.persisted() <= newest.map(|root| root.cut) {
            return false;
        }
        if objects >= u64::from(self.options.objects)
            || self.kept.epochs_behind >= EPOCHS_BEHIND_MAX
        {
            return true;
        }
        let data = self.objects.stored_sectors(ObjectSlot(before)) * SECTOR_BYTES;
        // The map is asked last: it takes all its locks.
        objects >= CHECKPOINT_OBJECTS_MIN
            && data >= CHECKPOINT_BYTES_MIN * CHECKPOINT_DATA_RATIO
            && data >= self.size() * CHECKPOINT_DATA_RATIO
    }

    /// Bytes that a checkpoint would have to write now, roughly.
    fn size(&self) -> u64 {
        let extents = self.map.extent_count() * EXTENT_BYTES;
        let changed = self.map.changed_regions(self.cuts);
        let part = u128::from(extents) * u128::from(changed) / u128::from(self.map.region_count());
        let listed = self.kept.roots.last().map_or(0, |root| root.pieces.len());
        CHECKPOINT_BYTES_MIN + 32 * listed as u64 + u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Makes a checkpoint, unless there is nothing new.
    async fn make(&mut self) -> Result<()> {
        let map = Arc::clone(&self.map);
        let Some(mut cut) = map.prepare_cut(self.options.copied_bytes) else {
            let message = "two checkpoints at once: this is a bug";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        };
        // 1. The cut: a batch is sealed, and in the same moment map and table are divided.
        let Some(edge) = self.cut(&mut cut) else {
            return Ok(());
        };
        cut.settle();

        // 2. What was changed since the newest checkpoint is walked and stored, and the root when
        // all that it names is persisted.
        let first = self.next;
        let written = self.write(&map, &cut, edge).await;
        self.note_present(first);
        let root = written?;

        // 3. The superblock says that it is there; that it could be made proves that nobody took over
        // before.
        self.name(&root).await?;
        cut.persisted();
        self.kept.roots.push(root);
        self.forget_older();

        // 4. What neither of the two needs is removed.
        self.remove_unneeded().await
    }

    /// Divides the stream, unless nothing is behind the newest checkpoint.
    fn cut(&mut self, cut: &mut Cut<'_>) -> Option<Edge> {
        let mut object_count = 0;
        let (last, cuts) = self.batcher.cut(|cuts| {
            object_count = self.objects.slot_count();
            cut.begin(cuts);
        });
        self.cuts = cuts;
        let newest = self.kept.checkpoints.last().map(|newest| newest.cut);
        let last = last.filter(|last| Some(*last) > newest)?;
        Some(Edge { last, object_count })
    }

    /// Writes the objects of a checkpoint, and gives its root.
    async fn write(&mut self, map: &ExtentMap, cut: &Cut<'_>, edge: Edge) -> Result<Checkpoint> {
        let base = self.kept.roots.last();
        let head = Head {
            cut: edge.last,
            predecessor: base.map(|base| base.id),
            part_bytes: self.options.part_bytes,
        };
        let base = base.filter(|base| is_usable(base, map));
        let plan = Plan::new(base, map, cut, head.part_bytes);
        let mut writer = Writer::new(&self.store, map, head, plan, &mut self.next);
        let copies = self.pool.returned();
        let walked = writer.walk(cut, || copies.notify()).await;
        cut.end_walk();
        copies.notify();
        walked?;
        let rows = |slots| self.objects.rows(slots);
        let persisted = if planted::is(Fault::CheckpointEarly) {
            while rows(0..edge.object_count)
                .iter()
                .any(|row| row.header_len == 0)
            {
                self.store.runtime.sleep(RETRY_PAUSE_MIN).await;
            }
            self.progress.persisted().max(Some(edge.last))
        } else {
            persisted_up_to(&self.progress, &*self.store.runtime, edge.last).await?;
            self.progress.persisted()
        };
        writer.finish(edge.object_count, rows, persisted).await
    }
}

/// Waits until a checkpoint is of no use: a store that takes nothing would be tried for ever.
async fn nothing_is_stored_any_more(progress: &Progress) {
    if planted::is(Fault::FencedRemoves) {
        std::future::pending::<()>().await;
    }
    progress.over().await;
}

/// Whether this is the error of a writer that was taken over, and it is to go on: a planted fault.
fn goes_on_fenced(error: &Error) -> bool {
    error.kind() == ErrorKind::Fenced && planted::is(Fault::FencedRemoves)
}

/// Where a cut divides the stream.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// The last data object before it.
    last: ObjectId,
    /// Rows of the object table before it.
    object_count: u32,
}

/// Waits until object `last` and all before it are persisted, however long that takes, as long as they
/// may be.
async fn persisted_up_to(progress: &Progress, runtime: &dyn Runtime, last: ObjectId) -> Result<()> {
    loop {
        match progress.reached(last).await {
            Ok(()) => return Ok(()),
            Err(error) if progress.end().is_some() || progress.never_stores(last) => {
                return Err(error);
            }
            // Uploads are stuck: those who flush are told, and they are tried again.
            Err(_) => runtime.sleep(RETRY_PAUSE_MAX).await,
        }
    }
}

impl Checkpointer {
    /// Makes the superblock that names the new checkpoint beside the one before it.
    async fn name(&mut self, root: &Checkpoint) -> Result<()> {
        let new = KeptCheckpoint {
            object: root.id,
            cut: root.cut,
        };
        let mut kept = self.kept.checkpoints.clone();
        kept.push(new);
        kept.drain(..kept.len().saturating_sub(CHECKPOINTS_MAX));
        let named = kept.clone();
        let change = move |state: &mut VolumeState| {
            state.change = Change::Checkpoint;
            // The stream is walked from the older one on, unless both are damaged.
            if let [older, _newest] = named[..]
                && state.epochs.len() > EPOCHS_KEPT_MAX
            {
                let from = older.cut.epoch().0;
                state.epochs.retain(|epoch| epoch.epoch >= from);
            }
            state.checkpoints = named;
        };
        let mut persisted = self.progress.persisted();
        if planted::is(Fault::CheckpointEarly) {
            persisted = persisted.max(Some(root.cut));
        }
        let named = Box::pin(self.fence.own().advance(persisted, change));
        let patience = self.store.runtime.sleep(self.store.retry_timeout);
        let named = match select(named, patience).await {
            Either::Left((named, _)) => named,
            Either::Right(((), named)) => {
                let message = "the superblock that names the checkpoint is not there yet; it is \
                               tried again";
                let error = Error::new(ErrorKind::Unavailable, message);
                self.store.requests.fail(error);
                named.await
            }
        };
        match named {
            Err(error) if !goes_on_fenced(&error) => return Err(error),
            _ => {}
        }
        self.kept.checkpoints = kept;
        self.kept.epochs_behind = 0;
        Ok(())
    }

    /// Forgets the roots of checkpoints that are not kept.
    fn forget_older(&mut self) {
        let kept = &self.kept.checkpoints;
        let is_kept = |root: &Checkpoint| kept.iter().any(|kept| kept.object == root.id);
        self.kept.roots.retain(is_kept);
    }

    /// Notes that the objects from number `first` on may be there.
    fn note_present(&mut self, first: ObjectId) {
        let epoch = first.epoch();
        let numbers = first.sequence()..self.next.sequence();
        let ids = numbers.filter_map(|sequence| ObjectId::new(epoch, sequence));
        self.present.extend(ids);
    }
}
