//! Opening a volume.

use std::time::Duration;

use super::write::Queue;
use super::{LastClone, Shared, Volume};
use crate::bytes::block::BLOCK_BYTES;
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::ObjectStore;
use crate::parts::{sealer, uploader::Uploader};
use crate::state::batch::{Batcher, BufferPool, Identity};
use crate::state::extent_map::ExtentMap;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::progress::Progress;
use crate::sync::atomic::AtomicBool;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{
    ATOMIC_WRITE_BYTES_MAX, BUFFERS_AT_OPEN, OBJECT_BYTES_MAX, OBJECT_BYTES_MIN, SPARE_BUFFERS,
    STORE_PATIENCE, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN, WINDOW_MAX,
};
use crate::words::name::{Epoch, ObjectId, VolumeUuid};
use crate::words::units::SECTOR_BYTES;

/// What a flush waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushTarget {
    /// The local disk. An ephemeral volume keeps nothing there, so its flush answers at once.
    #[default]
    Local,
    /// The object store: everything answered before is in objects when flush returns.
    Store,
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
        let block = BLOCK_BYTES as u64;
        let check = |holds: bool, rule: String| {
            if holds {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::InvalidArgument, rule))
            }
        };
        check(
            self.size.is_multiple_of(SECTOR_BYTES)
                && (VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX).contains(&self.size),
            format!(
                "a volume of {} bytes cannot be: the size must be a multiple of 512 from \
                 {VOLUME_BYTES_MIN} to {VOLUME_BYTES_MAX}",
                self.size
            ),
        )?;
        check(
            self.object_size.is_multiple_of(block)
                && (OBJECT_BYTES_MIN..=OBJECT_BYTES_MAX).contains(&self.object_size),
            format!(
                "objects of {} bytes cannot be: the object size must be a multiple of 4096 from \
                 {OBJECT_BYTES_MIN} to {OBJECT_BYTES_MAX}",
                self.object_size
            ),
        )?;
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
        let shared = Shared::new(store, runtime, &options);
        shared.prepare_memory();
        shared.start_background(&options);
        let shared = Arc::new(shared);
        Ok(Self {
            _last: Arc::new(LastClone(Arc::clone(&shared))),
            shared,
        })
    }
}

impl Shared {
    /// A volume on which nothing was written yet.
    fn new(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: &EphemeralOptions,
    ) -> Self {
        let uuid = VolumeUuid::from_u128(runtime.random());
        let identity = Identity {
            volume: uuid,
            session: runtime.random(),
        };
        let epoch = Epoch::default();
        let first = ObjectId::new(epoch, 0).expect("the first number of the first epoch");
        let in_flight = Arc::new(InFlight::default());
        let objects = Arc::new(ObjectTable::default());
        let buffer_bytes = usize::try_from(options.object_size).expect("checked to be small");
        let pool = BufferPool::new(buffer_bytes, (options.window + SPARE_BUFFERS) as usize);
        let batcher = Batcher::new(
            identity,
            epoch,
            Arc::clone(&pool),
            Arc::clone(&objects),
            Arc::clone(&in_flight),
        );
        let sectors = options.size / SECTOR_BYTES;
        Self {
            uuid,
            sectors,
            atomic_bytes: buffer_bytes.min(ATOMIC_WRITE_BYTES_MAX),
            flush_target: options.flush,
            map: ExtentMap::new(sectors),
            batcher: Arc::new(batcher),
            pool,
            queue: Queue::default(),
            in_flight,
            objects,
            progress: Arc::new(Progress::new(first)),
            store,
            runtime,
            closed: AtomicBool::new(false),
        }
    }

    fn prepare_memory(&self) {
        let taken: Vec<_> = (0..BUFFERS_AT_OPEN)
            .map_while(|_| self.pool.try_take())
            .collect();
        drop(taken);
    }

    fn start_background(&self, options: &EphemeralOptions) {
        let uploader = Uploader {
            batcher: Arc::clone(&self.batcher),
            pool: Arc::clone(&self.pool),
            in_flight: Arc::clone(&self.in_flight),
            objects: Arc::clone(&self.objects),
            progress: Arc::clone(&self.progress),
            store: Arc::clone(&self.store),
            runtime: Arc::clone(&self.runtime),
            window: options.window,
            retry_timeout: options.retry_timeout,
            finished: false,
        };
        self.runtime.spawn(Box::pin(uploader.run()));
        self.runtime.spawn(Box::pin(sealer::run(
            Arc::clone(&self.batcher),
            Arc::clone(&self.pool),
            Arc::clone(&self.runtime),
            options.seal_timeout,
        )));
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
