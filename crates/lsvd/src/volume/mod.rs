//! The volume: one user-visible verb a file.
//!
//! Every verb comes in up to three forms: the plain one waits as threads wait, the one with `_async`
//! as tasks do, and the one with `try_` in front does at once what can be done at once.

mod allocation;
mod close;
mod discard;
mod flush;
mod open;
mod read;
mod write;

pub use open::{EphemeralOptions, FlushTarget};

use std::fmt;

use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::state::batch::{Batcher, BufferPool};
use crate::state::extent_map::ExtentMap;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::progress::Progress;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::VolumeUuid;
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
    /// Largest write that is one entry, in bytes.
    atomic_bytes: usize,
    flush_target: FlushTarget,
    map: ExtentMap,
    batcher: Arc<Batcher>,
    pool: Arc<BufferPool>,
    /// The way of writes that found no room: one at a time, in the order of their coming, and no
    /// other write goes past them, so that a large one is not starved by small ones.
    queue: write::Queue,
    in_flight: Arc<InFlight>,
    objects: Arc<ObjectTable>,
    progress: Arc<Progress>,
    store: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
    closed: AtomicBool,
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
    /// The sectors of a request, if it keeps the rules; `verb` is for the message.
    fn sectors_of(&self, verb: &str, offset: u64, len: u64) -> Result<LbaRange> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Closed,
                format!("cannot {verb}: the volume is closed"),
            ));
        }
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
    }
}
