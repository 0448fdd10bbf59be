//! The volume: one user-visible verb a file.
//!
//! Every verb comes in up to three forms: the plain one waits as threads wait, the one with `_async`
//! as tasks do, and the one with `try_` in front does at once what can be done at once.

mod allocation;
mod background;
mod checkpoint;
mod claim;
mod close;
mod create;
mod discard;
mod filled_log;
mod flush;
mod found_log;
mod inspect;
mod local_logs;
mod open;
mod read;
mod read_only;
mod recover;
mod remove;
mod self_check;
mod start;
mod status;
mod write;

pub use checkpoint::CheckpointOptions;
pub use create::CreateOptions;
pub use inspect::{DamagedObject, KindTotals, VolumeInfo};
pub use open::{Durability, EphemeralOptions, FlushTarget};
pub use recover::OpenOptions;
pub use remove::{RemoveOptions, Removed};
pub use status::Status;

use std::fmt;
use std::time::Duration;

use crate::bytes::log::SyncedMark;
use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::parts::superblocks::Fence;
use crate::parts::write_log::WriteLog;
use crate::state::batch::{Batcher, BufferPool};
use crate::state::checkpoint_requests::CheckpointRequests;
use crate::state::durable::Durable;
use crate::state::extent_map::ExtentMap;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::pace::Pace;
use crate::state::progress::Progress;
use crate::state::segments::SegmentPool;
use crate::state::uploads::UploadQueue;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{Epoch, VolumeUuid};
use crate::words::units::{Lba, LbaRange, SECTOR_BYTES};

/// A virtual disk.
///
/// Clones are the same disk, and any number of threads and tasks may use it at once. A read sees
/// every write that returned before the read began, sector by sector, never torn.
///
/// ```
/// use lsvd::{EphemeralOptions, Volume};
/// use lsvd::doors::runtime::TokioRuntime;
/// use lsvd_store::MemoryStore;
/// use std::sync::Arc;
///
/// let runtime = Arc::new(TokioRuntime::start(2)?);
/// let store = Arc::new(MemoryStore::default());
/// let volume = Volume::open_ephemeral(store, runtime, EphemeralOptions::new(1 << 30))?;
/// volume.write(4096, &[7; 512])?;
/// let mut sector = [0; 512];
/// volume.read(4096, &mut sector)?;
/// assert_eq!(sector, [7; 512]);
/// volume.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Volume {
    shared: Arc<Shared>,
    /// Ends the background work when the last clone goes.
    _last: Arc<LastClone>,
}

/// What all clones of a volume share, laid out along the way of the data.
#[derive(Debug)]
struct Shared {
    uuid: VolumeUuid,
    sectors: u64,
    /// The epoch of this opening.
    epoch: Epoch,
    /// Largest write that is one entry, in bytes.
    atomic_bytes: usize,
    flush_target: FlushTarget,
    map: Arc<ExtentMap>,
    batcher: Arc<Batcher>,
    pool: Arc<BufferPool>,
    /// The way of writes that found no room: one at a time, in the order of their coming, and no
    /// other write goes past them, so that a large one is not starved by small ones.
    queue: write::Queue,
    in_flight: Arc<InFlight>,
    objects: Arc<ObjectTable>,
    uploads: Arc<UploadQueue>,
    /// The write log; an ephemeral volume has none.
    log: Option<Log>,
    progress: Arc<Progress>,
    pace: Arc<Pace>,
    /// The look at whether another writer took over; an ephemeral volume has none.
    fence: Option<Arc<Fence>>,
    /// Where checkpoints are asked for; nothing where there are none.
    checkpoints: Option<Arc<CheckpointRequests>>,
    durability: Durability,
    /// Span of the uploads under way.
    window: u32,
    store: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
    /// How long the store may fail before what waits for it fails.
    retry_timeout: Duration,
    background: Arc<background::Background>,
    closed: AtomicBool,
}

/// The write log of an open volume.
#[derive(Debug)]
struct Log {
    file: Arc<WriteLog>,
    /// Up to where it was durable when it was opened.
    synced: Option<SyncedMark>,
    durable: Arc<Durable>,
    segments: Arc<SegmentPool>,
}

impl Volume {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.sectors * SECTOR_BYTES
    }

    /// The identity of the volume, which all its objects carry.
    #[must_use]
    pub fn uuid(&self) -> VolumeUuid {
        self.shared.uuid
    }
}

impl Shared {
    /// Refuses what comes after the end: a close, or another writer that took over.
    fn refuse_ended(&self, verb: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let message = format!("cannot {verb}: the volume is closed");
            return Err(Error::new(ErrorKind::Closed, message));
        }
        match &self.fence {
            Some(fence) => fence.refuse_fenced_and_look(),
            None => Ok(()),
        }
    }

    /// The sectors of a request, if it keeps the rules; `verb` is for the message.
    fn sectors_of(&self, verb: &str, offset: u64, len: u64) -> Result<LbaRange> {
        self.refuse_ended(verb)?;
        let refuse = |rule: &str| {
            let message = format!("cannot {verb} {len} bytes at offset {offset}: {rule}");
            Error::new(ErrorKind::InvalidArgument, message)
        };
        if !offset.is_multiple_of(SECTOR_BYTES) || !len.is_multiple_of(SECTOR_BYTES) {
            return Err(refuse("offset and length must be multiples of 512"));
        }
        let end = offset.checked_add(len).map(|end| end / SECTOR_BYTES);
        match end.filter(|end| *end <= self.sectors) {
            Some(end) => Ok(LbaRange::new(Lba(offset / SECTOR_BYTES), Lba(end))),
            None => {
                let size = self.sectors * SECTOR_BYTES;
                Err(refuse(&format!(
                    "it goes past the end of the volume ({size} bytes)"
                )))
            }
        }
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("uuid", &self.shared.uuid)
            .field("bytes", &self.size())
            .field("store", &self.shared.store.url())
            .finish_non_exhaustive()
    }
}

/// Dropped with the last clone of a volume.
struct LastClone(Arc<Shared>);

impl Drop for LastClone {
    fn drop(&mut self) {
        // What was written goes on to the store in the background; then the tasks end. Whoever
        // wants to know that it got there closes the volume.
        self.0.closed.store(true, Ordering::Release);
        self.0.batcher.close();
        if let Some(checkpoints) = &self.0.checkpoints {
            checkpoints.close();
        }
    }
}
