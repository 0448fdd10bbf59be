//! Opening a volume.

use std::collections::BTreeSet;
use std::time::Duration;

use super::checkpoint::Checkpointer;
use super::start::{Start, StartCheckpoints};
use super::write::Queue;
use super::{LastClone, Log, Shared, Volume};
use crate::bytes::block::BLOCK_BYTES;
use crate::doors::BoxFuture;
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::ObjectStore;
use crate::parts::sealer::Sealer;
use crate::parts::superblocks::Fence;
use crate::parts::uploader::{Restore, Uploader};
use crate::parts::write_log::{Recovered, WriteLog, Writer};
use crate::state::batch::{Batch, Batcher, BufferPool, Identity, LogRoom, Sink};
use crate::state::durable::{Durable, StreamPoint};
use crate::state::extent_map::{CutCount, ExtentMap};
use crate::state::in_flight::InFlight;
use crate::state::logged::LoggedBatch;
use crate::state::object_table::ObjectTable;
use crate::state::progress::{Answered, Persists, Progress};
use crate::state::segments::SegmentPool;
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::sync::atomic::AtomicBool;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{
    ATOMIC_WRITE_BYTES_MAX, BUFFERS_AT_OPEN, OBJECT_BYTES_MAX, OBJECT_BYTES_MIN,
    RESTORE_BUFFERS_MAX, SPARE_BUFFERS, STORE_PATIENCE, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN,
    WINDOW_MAX,
};
use crate::words::name::{Epoch, ObjectId, VolumeUuid};
use crate::words::units::{SECTOR, SECTOR_BYTES};

/// What a flush waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushTarget {
    /// The local disk. An ephemeral volume keeps nothing there, so its flush answers at once.
    #[default]
    Local,
    /// The object store: everything answered before is in objects when flush returns.
    Store,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is in memory, as with any disk that has a volatile cache: a flush makes it durable.
    #[default]
    WriteBack,
    /// When it is in the synced write log.
    WriteThrough,
}

/// Settings of an ephemeral volume. [`EphemeralOptions::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct EphemeralOptions {
    /// Size of the volume in bytes, a multiple of 512.
    pub size: u64,
    /// Size of an object's data area in bytes, a multiple of 4096 from 16 KiB to 64 MiB. Below
    /// 1 MiB a write is atomic only up to this size.
    pub object_size: u64,
    /// Most uploads at once, 1 to 64.
    pub window: u32,
    /// How long after its first entry a batch that is not full is uploaded all the same.
    pub seal_timeout: Duration,
    /// What a flush waits for.
    pub flush: FlushTarget,
    /// How long a failing upload is repeated before flushes, and writes that wait for memory, fail.
    /// It goes on being repeated, and they succeed again once it got through. A store that does not
    /// answer at all counts as failing after a minute.
    pub retry_timeout: Duration,
}

impl EphemeralOptions {
    /// The default settings for a volume of `size` bytes: objects of 8 MiB, 8 uploads at once,
    /// a batch uploaded after 2 s at the latest, flush answered at once, 30 s of patience with a
    /// failing store.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            object_size: 8 << 20,
            window: 8,
            seal_timeout: Duration::from_secs(2),
            flush: FlushTarget::Local,
            retry_timeout: Duration::from_secs(30),
        }
    }

    /// Whether a volume can be opened with these settings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], and what would be right.
    pub fn check(&self) -> Result<()> {
        check_sizes(self.size, self.object_size)?;
        check(
            (1..=WINDOW_MAX).contains(&self.window),
            format!(
                "a window of {} cannot be: it must be 1 to {WINDOW_MAX}",
                self.window
            ),
        )?;
        check(
            !self.seal_timeout.is_zero(),
            "a seal timeout of 0 cannot be: every write would become an object".to_owned(),
        )
    }
}

/// What holds of the sizes of every volume.
pub(super) fn check_sizes(size: u64, object_size: u64) -> Result<()> {
    let block = BLOCK_BYTES as u64;
    check(
        size.is_multiple_of(SECTOR_BYTES) && (VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX).contains(&size),
        format!(
            "a volume of {size} bytes cannot be: the size must be a multiple of 512 from \
             {VOLUME_BYTES_MIN} to {VOLUME_BYTES_MAX}"
        ),
    )?;
    check(
        object_size.is_multiple_of(block)
            && (OBJECT_BYTES_MIN..=OBJECT_BYTES_MAX).contains(&object_size),
        format!(
            "objects of {object_size} bytes cannot be: the object size must be a multiple of 4096 \
             from {OBJECT_BYTES_MIN} to {OBJECT_BYTES_MAX}"
        ),
    )
}

fn check(holds: bool, rule: String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::InvalidArgument, rule))
    }
}

impl Volume {
    /// Opens a scratch disk that lasts as long as it is open: it reads nothing at the start and
    /// leaves nothing but `data.*` objects.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for settings out of range, [`ErrorKind::NotEmpty`] when the
    /// store holds anything, and what the store says when it cannot be listed. Nothing is created.
    pub fn open_ephemeral(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: EphemeralOptions,
    ) -> Result<Self> {
        block_on(Self::open_ephemeral_async(store, runtime, options))
    }

    /// [`open_ephemeral`](Self::open_ephemeral) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn open_ephemeral_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: EphemeralOptions,
    ) -> Result<Self> {
        options.check()?;
        refuse_unless_empty(&*store, &*runtime).await?;
        let start = Start {
            volume: VolumeUuid::from_u128(runtime.random()),
            sectors: options.size / SECTOR_BYTES,
            object_size: options.object_size,
            epoch: Epoch::default(),
            persisted: None,
            persists: Persists::WhenAnswered,
            log: None,
            own: None,
            checkpoints: None,
            map: ExtentMap::new(options.size / SECTOR_BYTES),
            objects: ObjectTable::default(),
        };
        Ok(Self::started(store, runtime, start, options.work()))
    }
}

/// How an opened volume works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) window: u32,
    pub(super) seal_timeout: Duration,
    pub(super) durability: Durability,
    pub(super) flush: FlushTarget,
    pub(super) retry_timeout: Duration,
}

impl EphemeralOptions {
    const fn work(&self) -> Work {
        Work {
            window: self.window,
            seal_timeout: self.seal_timeout,
            durability: Durability::WriteBack,
            flush: self.flush,
            retry_timeout: self.retry_timeout,
        }
    }
}

impl Volume {
    /// The volume, at work.
    pub(super) fn started(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        start: Start,
        work: Work,
    ) -> Self {
        let mut start = start;
        let checkpoints = start.checkpoints.take();
        let mut shared = Shared::new(store, runtime, start, work);
        shared.prepare_memory();
        shared.start_uploads(work);
        shared.start_log();
        if let Some(checkpoints) = checkpoints {
            shared.start_checkpoints(checkpoints);
        }
        let shared = Arc::new(shared);
        Self {
            _last: Arc::new(LastClone(Arc::clone(&shared))),
            shared,
        }
    }
}

impl Shared {
    /// The volume as it is before any of its tasks runs.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        start: Start,
        work: Work,
    ) -> Self {
        let identity = Identity {
            volume: start.volume,
            session: runtime.random(),
        };
        let in_flight = Arc::new(InFlight::default());
        let objects = Arc::new(start.objects);
        let uploads = Arc::new(UploadQueue::default());
        let progress = Arc::new(Progress::new(start.persisted, start.persists));
        let buffer_bytes = usize::try_from(start.object_size).expect("checked to be small");
        let pool = BufferPool::new(buffer_bytes, (work.window + SPARE_BUFFERS) as usize);
        let mut last = start.persisted;
        let mut synced = None;
        let mut sink = Sink::Uploads(Arc::clone(&uploads));
        let log = start.log.map(|(file, backlog)| {
            let used: Vec<u32> = backlog.iter().map(|(_, batch)| batch.segment()).collect();
            let (segments, held) = SegmentPool::new(file.segments(), &used, Arc::clone(&pool));
            for ((slot, batch), segment) in backlog.into_iter().zip(held) {
                let header = batch.header();
                let id = header.id;
                last = Some(id);
                synced = Some(batch.end());
                let made = Duration::from_nanos(header.wall_time_ns);
                progress.found(id, runtime.wall_clock().saturating_sub(made));
                let batch = match batch {
                    Recovered::Logged(batch) => batch,
                    Recovered::Stored(_, header) => {
                        let answered = Answered {
                            id,
                            bytes: header.data_len,
                            segment: Some(segment),
                        };
                        progress.answered(uploads.pass(), answered);
                        continue;
                    }
                };
                let logged =
                    LoggedBatch::new(id, slot, segment, batch.slices, batch.sums, batch.end);
                let logged = Arc::new(logged);
                in_flight.insert_logged(Arc::clone(&logged));
                uploads.push(SealedBatch::Logged(logged));
            }
            sink = Sink::Log(LogRoom {
                segments: Arc::clone(&segments),
                segment_bytes: file.segment_bytes(),
                bounds: file.bounds(),
            });
            let durable = Durable::default();
            if let Some(batch) = last {
                durable.advance(StreamPoint {
                    batch,
                    entries: u32::MAX,
                });
            }
            Log {
                file,
                synced,
                durable: Arc::new(durable),
                segments,
            }
        });
        let batcher = Arc::new(Batcher::new(
            identity,
            start.epoch,
            last,
            Arc::clone(&pool),
            Arc::clone(&objects),
            Arc::clone(&in_flight),
            Arc::clone(&progress),
            sink,
        ));
        let fence = start.own.map(|own| {
            Arc::new(Fence::new(
                Arc::new(own),
                Arc::clone(&runtime),
                Arc::clone(&progress),
                Arc::clone(&batcher),
                work.retry_timeout,
            ))
        });
        Self {
            uuid: start.volume,
            sectors: start.sectors,
            epoch: start.epoch,
            atomic_bytes: buffer_bytes.min(ATOMIC_WRITE_BYTES_MAX),
            flush_target: work.flush,
            durability: work.durability,
            window: work.window,
            map: Arc::new(start.map),
            batcher,
            pool,
            queue: Queue::default(),
            in_flight,
            objects,
            uploads,
            log,
            progress,
            pace: Arc::default(),
            fence,
            checkpoints: None,
            store,
            runtime,
            retry_timeout: work.retry_timeout,
            background: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(&*self.runtime, Box::pin(task));
    }

    fn prepare_memory(&self) {
        let taken: Vec<_> = (0..BUFFERS_AT_OPEN)
            .map_while(|_| self.pool.try_take())
            .collect();
        drop(taken);
    }

    fn start_uploads(&self, work: Work) {
        let restore = self.log.as_ref().map(|log| {
            let buffers = work.window.min(RESTORE_BUFFERS_MAX) as usize;
            let log_buffers = BufferPool::new(self.pool.buffer_sectors() * SECTOR, buffers);
            let restore = RestoreFromLog {
                file: Arc::clone(&log.file),
                buffers: log_buffers,
            };
            Arc::new(restore) as Arc<dyn Restore>
        });
        let uploader = Uploader {
            queue: Arc::clone(&self.uploads),
            restore,
            pool: Arc::clone(&self.pool),
            in_flight: Arc::clone(&self.in_flight),
            objects: Arc::clone(&self.objects),
            progress: Arc::clone(&self.progress),
            pace: Arc::clone(&self.pace),
            store: Arc::clone(&self.store),
            runtime: Arc::clone(&self.runtime),
            window: work.window,
            retry_timeout: work.retry_timeout,
            finished: false,
        };
        self.spawn(uploader.run());
        let sealer = Sealer {
            batcher: Arc::clone(&self.batcher),
            pool: Arc::clone(&self.pool),
            uploads: Arc::clone(&self.uploads),
            progress: Arc::clone(&self.progress),
            runtime: Arc::clone(&self.runtime),
            timeout: work.seal_timeout,
        };
        self.spawn(sealer.run());
    }

    /// Starts what only a volume that lasts has: the log's writer, and the fence check.
    fn start_log(&self) {
        if let Some(log) = &self.log {
            let writer = Writer {
                log: Arc::clone(&log.file),
                batcher: Arc::clone(&self.batcher),
                durable: Arc::clone(&log.durable),
                uploads: Arc::clone(&self.uploads),
                in_flight: Arc::clone(&self.in_flight),
                progress: Arc::clone(&self.progress),
                pace: Arc::clone(&self.pace),
                runtime: Arc::clone(&self.runtime),
                synced: log.synced,
                unmarked: None,
                finished: false,
            };
            self.spawn(writer.run());
        }
        if let Some(fence) = &self.fence {
            self.spawn(Arc::clone(fence).run());
        }
    }
}

impl Shared {
    /// Starts the making of checkpoints.
    fn start_checkpoints(&mut self, start: StartCheckpoints) {
        let Some(fence) = &self.fence else { return };
        self.checkpoints = Some(Arc::clone(&start.objects.requests));
        let checkpointer = Checkpointer {
            map: Arc::clone(&self.map),
            objects: Arc::clone(&self.objects),
            batcher: Arc::clone(&self.batcher),
            pool: Arc::clone(&self.pool),
            progress: Arc::clone(&self.progress),
            fence: Arc::clone(fence),
            store: start.objects,
            kept: start.kept,
            options: start.options,
            next: ObjectId::new(self.epoch, 0).expect("the first number of an epoch"),
            cuts: CutCount::default(),
            present: BTreeSet::new(),
            strays: BTreeSet::new(),
            is_listed: false,
        };
        self.spawn(checkpointer.run());
    }
}

/// Batches that left memory, back from the log.
#[derive(Debug)]
struct RestoreFromLog {
    file: Arc<WriteLog>,
    /// Memory of their own: who waits for an upload must not wait for who waits for it.
    buffers: Arc<BufferPool>,
}

impl Restore for RestoreFromLog {
    fn restore(&self, batch: Arc<LoggedBatch>) -> BoxFuture<'_, Result<Arc<Batch>>> {
        Box::pin(async move { self.file.restore(&batch, &self.buffers).await })
    }
}

async fn refuse_unless_empty(store: &dyn ObjectStore, runtime: &dyn Runtime) -> Result<()> {
    let place = store.url();
    let listed = within(runtime, STORE_PATIENCE, store, store.list()).await;
    let listed = listed.map_err(|error| {
        let message = format!("cannot see whether {place} is empty");
        Error::new(error.kind().for_user(), message).because(error)
    })?;
    match listed.first() {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "{place} is not empty (it holds {}): an ephemeral volume needs an empty place; \
                 choose another or remove what is there",
                found.name
            );
            Err(Error::new(ErrorKind::NotEmpty, message))
        }
    }
}
