//! Opening a volume that lasts: each step can crash and be repeated.

use std::time::Duration;

use super::Volume;
use super::checkpoint::{CheckpointOptions, Kept};
use super::claim::{claim, epochs_with_objects, next_epoch, open_epoch};
use super::filled_log::fill;
use super::found_log::FoundLog;
use super::open::{Durability, FlushTarget, Work};
use super::read_only::refuse_unreadable;
use super::start::{Start, StartCheckpoints};
use crate::bytes::superblock::{Change, CloseState, EpochEnd, Superblock, VolumeState};
use crate::doors::disk::LocalDisk;
use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::parts::checkpoint::CheckpointObjects;
use crate::parts::probe;
use crate::parts::stream::{End, Stream};
use crate::parts::superblocks::{Creation, OwnSuperblocks, Superblocks, fenced};
use crate::parts::write_log::{self, LogEnd, Recovered, WriteLog};
use crate::state::progress::Persists;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::WINDOW_MAX;
use crate::words::name::{Epoch, ObjectId, ObjectKind, ObjectName};
use crate::words::planted::{self, Fault};
use crate::words::text::wall_time;

/// Settings of one opening of a volume. [`OpenOptions::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Identity of this machine, for the next who opens the volume.
    pub machine: String,
    /// Whether to take the volume from a writer that did not close it; it is fenced then.
    pub take_over: bool,
    /// Whether to use a store that does not keep a second writer out.
    pub unsafe_no_fencing: bool,
    /// Whether to cut a write log that is damaged, or that the disk does not give, before that place:
    /// what was written later is given up.
    pub cut_log: bool,
    /// Size of the write log in bytes. One that is there keeps its size until the volume was closed.
    pub log_bytes: u64,
    /// When a write is answered.
    pub durability: Durability,
    /// What a flush waits for.
    pub flush: FlushTarget,
    /// Most uploads at once, 1 to 64.
    pub window: u32,
    /// How long after its first entry a batch that is not full is uploaded all the same.
    pub seal_timeout: Duration,
    /// How long a failing upload is repeated before what waits for the store, or for room that only
    /// the store can make, fails.
    pub retry_timeout: Duration,
    /// When checkpoints are made.
    pub checkpoint: CheckpointOptions,
}

impl OpenOptions {
    /// The default settings on this machine: a write log of 1 GiB, writes answered from memory,
    /// flushes when the log is durable, 8 uploads at once, a batch uploaded after 2 s at the latest,
    /// 30 s of patience with a failing store.
    #[must_use]
    pub fn new(machine: impl Into<String>) -> Self {
        Self {
            machine: machine.into(),
            take_over: false,
            unsafe_no_fencing: false,
            cut_log: false,
            log_bytes: 1 << 30,
            durability: Durability::default(),
            flush: FlushTarget::default(),
            window: 8,
            seal_timeout: Duration::from_secs(2),
            retry_timeout: Duration::from_secs(30),
            checkpoint: CheckpointOptions::default(),
        }
    }

    /// Whether a volume can be opened with these settings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], and what would be right.
    pub fn check(&self) -> Result<()> {
        if !(1..=WINDOW_MAX).contains(&self.window) {
            let window = self.window;
            let message = format!("a window of {window} cannot be: it must be 1 to {WINDOW_MAX}");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if self.seal_timeout.is_zero() {
            let message = "a seal timeout of 0 cannot be: every write would become an object";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.checkpoint.check()
    }

    /// Whether a volume with objects of `object_size` bytes can have a write log of this size.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], and what would be right.
    pub fn check_log(&self, object_size: u64) -> Result<()> {
        write_log::check_size(self.log_bytes, object_size)
    }

    const fn work(&self) -> Work {
        Work {
            window: self.window,
            seal_timeout: self.seal_timeout,
            durability: self.durability,
            flush: self.flush,
            retry_timeout: self.retry_timeout,
        }
    }
}

impl Volume {
    /// Opens the volume in `store` for writing, with the write log in `disk`: everything that was
    /// flushed is there, if the log is the one that the last writer used; with any other, what was
    /// stored.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::InUse`] where another writer did
    /// not close it, [`ErrorKind::Damaged`], and what store and disk say. Before the claim nothing is
    /// changed in the store, and in `disk` a log that nobody needs may be replaced, and another's be set
    /// aside; after it the volume can be opened again.
    ///
    /// `disk` serves one open volume at a time: whoever opens a second one with the same value, or the
    /// same one again before the first is gone, damages the log of both.
    pub fn open(
        store: Arc<dyn ObjectStore>,
        disk: &Arc<dyn LocalDisk>,
        runtime: Arc<dyn Runtime>,
        options: &OpenOptions,
    ) -> Result<Self> {
        block_on(Self::open_async(store, disk, runtime, options))
    }

    /// [`open`](Self::open) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn open_async(
        store: Arc<dyn ObjectStore>,
        disk: &Arc<dyn LocalDisk>,
        runtime: Arc<dyn Runtime>,
        options: &OpenOptions,
    ) -> Result<Self> {
        options.check()?;
        let superblocks = Superblocks::new(Arc::clone(&store), Arc::clone(&runtime));
        let newest = find(&superblocks, &*store).await?;
        let found = FoundLog::look(&**disk, &newest).await?;
        refuse_unclosed(&newest, &found, options, &*store)?;
        refuse_unfit(&superblocks, &newest, &found, options, (&store, &runtime)).await?;
        let (log, is_own) = found.usable(&**disk, &newest, &*runtime, options).await?;
        let checkpoints = CheckpointObjects {
            store: Arc::clone(&store),
            runtime: Arc::clone(&runtime),
            volume: newest.volume,
            requests: Arc::default(),
            retry_timeout: options.retry_timeout,
        };
        let early = match planted::is(Fault::EndBeforeClaim) {
            true => {
                let epoch = next_epoch(&newest, &*store)?;
                let mut before = newest.clone();
                before.state.epochs = epochs_with_objects(&newest);
                before.state.epochs.push(open_epoch(epoch));
                Some(roll_forward(&checkpoints, &before, epoch, newest.state.window()).await?)
            }
            false => None,
        };
        let (newest, epoch, claim) =
            claim(&superblocks, newest, (&log, is_own), options, &*store).await?;
        let window = newest.state.window();
        let (mut start, kept, mut end) = match early {
            Some(early) => early,
            None => roll_forward(&checkpoints, &claim, epoch, window).await?,
        };
        if planted::is(Fault::OpenerRemoves) {
            remove_behind(&checkpoints, end.last).await?;
        }
        let stream = stream_of(&checkpoints, &claim, window);
        let mut log_end = match is_own && !newest.state.is_closed() {
            true => Some(log.find_end(end.last).await?),
            false => None,
        };
        if let Some(log_end) = &mut log_end {
            fill(log_end, &stream, epochs_before(&claim)).await?;
            Start::extend(&mut end, epochs_before(&claim), log_end)?;
        }
        stream.refuse_damage(&end, epochs_before(&claim)).await?;
        tell_loss(&claim, &end, &*store);
        let backlog = match log_end {
            Some(log_end) => start.replay(close_log(&log, log_end, options, &*runtime).await?)?,
            None => Vec::new(),
        };
        start.log = Some((Arc::new(log), backlog));
        let since = runtime.now();
        let own = fix_ends(&superblocks, &claim, end, &start, &*store).await?;
        start.own = Some(OwnSuperblocks::new(
            superblocks,
            Arc::clone(&runtime),
            own,
            since,
        ));
        start.checkpoints = Some(StartCheckpoints {
            objects: checkpoints,
            kept,
            options: options.checkpoint,
        });
        Ok(Self::started(store, runtime, start, options.work()))
    }
}

pub(super) async fn find(superblocks: &Superblocks, store: &dyn ObjectStore) -> Result<Superblock> {
    let newest = superblocks.newest().await?;
    newest
        .filter(|newest| newest.state.change != Change::Tombstone)
        .ok_or_else(|| {
            let message = format!(
                "there is no volume in {}: make one with `lsvd create`",
                store.url()
            );
            Error::new(ErrorKind::NotFound, message)
        })
}

/// The stream of a volume as its superblock knows it.
fn stream_of<'a>(objects: &'a CheckpointObjects, claim: &Superblock, window: u32) -> Stream<'a> {
    Stream {
        store: &*objects.store,
        runtime: &*objects.runtime,
        volume: claim.volume,
        window,
        persisted: claim.persisted,
        growing: false,
    }
}

/// The epochs before the one that is claimed.
fn epochs_before(claim: &Superblock) -> &[EpochEnd] {
    let (_own, before) = claim.state.epochs.split_last().unzip();
    before.unwrap_or_default()
}

/// The newest sound checkpoint, rolled forward to the end of the store's stream.
async fn roll_forward(
    objects: &CheckpointObjects,
    claim: &Superblock,
    epoch: Epoch,
    window: u32,
) -> Result<(Start, Kept, End)> {
    let (mut start, kept) = Start::load(claim, epoch, Persists::WhenChecked, objects).await?;
    let stream = stream_of(objects, claim, window);
    let end = start
        .roll_forward(&stream, claim, epochs_before(claim), &kept)
        .await?;
    Ok((start, kept, end))
}

/// Removes the data objects behind the end of the stream: the planted fault.
async fn remove_behind(objects: &CheckpointObjects, last: Option<ObjectId>) -> Result<()> {
    let listed = objects.list().await?;
    let data = listed
        .into_iter()
        .filter(|name| name.kind == ObjectKind::Data);
    for name in data.filter(|name| Some(name.id) > last) {
        objects.remove(name).await?;
    }
    Ok(())
}

/// The batches of the log, from now on its last word; a damaged one is cut where that is wanted.
async fn close_log(
    log: &WriteLog,
    end: LogEnd,
    options: &OpenOptions,
    runtime: &dyn Runtime,
) -> Result<Vec<Recovered>> {
    let mut end = end;
    if !options.cut_log {
        log.refuse_damage(&end)?;
    }
    log.mark_stored(&end).await?;
    if options.cut_log {
        log.cut(&mut end).await?;
    }
    log.close(end, runtime).await
}

/// Refuses a store that keeps no second writer out, and one that does not give the volume: the claim
/// fences a writer that may be at work, and behind it there would be none.
async fn refuse_unfit(
    superblocks: &Superblocks,
    newest: &Superblock,
    found: &FoundLog,
    options: &OpenOptions,
    (store, runtime): (&Arc<dyn ObjectStore>, &Arc<dyn Runtime>),
) -> Result<()> {
    let is_own = matches!(found, FoundLog::Own(_));
    if !is_own && !newest.state.is_closed() {
        refuse_unreadable(superblocks, store, runtime).await?;
    }
    if newest.state.writer.is_none() && !options.unsafe_no_fencing {
        probe::refuse_unless_exclusive(&**store, &**runtime).await?;
    }
    Ok(())
}

/// All refusals that need no claim come before the claim.
fn refuse_unclosed(
    newest: &Superblock,
    found: &FoundLog,
    options: &OpenOptions,
    store: &dyn ObjectStore,
) -> Result<()> {
    let Some(writer) = &newest.state.writer else {
        return Ok(());
    };
    let has_log = matches!(found, FoundLog::Own(_));
    if has_log || options.take_over || newest.state.is_closed() {
        return Ok(());
    }
    let alone = match writer.close {
        Some(CloseState::Unclean { log_bytes }) => format!(", with {log_bytes} bytes in it alone"),
        _ => String::new(),
    };
    let log = match &writer.log {
        Some(log) => format!("{} there", log.path),
        None => "nowhere".to_owned(),
    };
    let message = format!(
        "the volume in {} was not closed by machine {} (epoch {}), whose write log is {log}{alone}: end that \
         server and use its log (--cache-dir), or, where it is gone for good, take the volume over \
         (--take-over); what it had not stored is lost then",
        store.url(),
        writer.machine,
        writer.epoch
    );
    Err(Error::new(ErrorKind::InUse, message))
}

/// Says what a take-over gave up.
fn tell_loss(claim: &Superblock, end: &End, store: &dyn ObjectStore) {
    let writer = claim.state.writer.as_ref();
    let Some(lost) = writer.and_then(|writer| writer.given_up.as_ref()) else {
        return;
    };
    let last = end.last.map(|last| ObjectName::data(last).to_string());
    let made = end
        .wall_time_ns
        .map(|ns| wall_time(Duration::from_nanos(ns)));
    let what = match end.last {
        None => "nothing was ever stored, so the volume is empty and all that was written is gone",
        Some(_) => {
            "the volume is as it was when the last object was stored, and what was written later is \
             not in it"
        }
    };
    tracing::warn!(
        volume = store.url(),
        machine = lost.machine,
        log = lost.log.as_ref().map(|log| log.path.as_str()),
        log_bytes = lost.log_bytes,
        last,
        made,
        "taken over without the write log of the last writer: {what}"
    );
}

fn has_objects(epoch: &EpochEnd) -> bool {
    epoch.objects != Some(0)
}

/// Says where the epochs before ours end. That it could be created proves that nobody took over, so
/// all that the store had of the stream is persisted.
async fn fix_ends(
    superblocks: &Superblocks,
    claim: &Superblock,
    end: End,
    start: &Start,
    store: &dyn ObjectStore,
) -> Result<Superblock> {
    let mut epochs = end.epochs;
    epochs.retain(has_objects);
    epochs.push(open_epoch(start.epoch));
    let state = VolumeState {
        change: Change::FixEnds,
        epochs,
        ..claim.state.clone()
    };
    let draft = superblocks.draft(claim.volume, Some(claim), start.persisted, state)?;
    match superblocks.create(&draft).await? {
        Creation::Ours(own) => Ok(*own),
        Creation::Lost(winner) => Err(fenced(&store.url(), &winner)),
    }
}
