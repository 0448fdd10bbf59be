//! A host for volumes that last: its threads and its local disk. Ending it is what `kill -9` does to
//! a process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::{Directory, LocalDisk};
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::ObjectStore;
use lsvd::{CreateOptions, FlushTarget, OpenOptions, Result, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::MemoryStore;
use tempfile::TempDir;

use crate::world::MIB;

/// Small enough that everything wraps and fills up soon.
pub(crate) const OBJECT_BYTES: u64 = 256 << 10;

/// Eight segments.
pub(crate) const LOG_BYTES: u64 = 3 << 20;

/// Makes a volume of 16 MiB in `store`.
pub(crate) fn create(store: &Arc<MemoryStore>) {
    let options = CreateOptions {
        object_size: OBJECT_BYTES,
        ..CreateOptions::new(16 * MIB)
    };
    Volume::create(store.clone(), crate::world::runtime(), options).unwrap();
}

/// A directory for a write log.
pub(crate) fn cache() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Settings that suit the small volume.
pub(crate) fn options() -> OpenOptions {
    OpenOptions {
        log_bytes: LOG_BYTES,
        window: 2,
        seal_timeout: Duration::from_millis(50),
        retry_timeout: Duration::from_millis(300),
        ..OpenOptions::new("this machine")
    }
}

/// Threads of its own, so that they can be ended whatever they are doing.
#[derive(Debug)]
pub(crate) struct Host {
    threads: tokio::runtime::Runtime,
    cache: PathBuf,
}

impl Host {
    pub(crate) fn new(cache: &TempDir) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            threads,
            cache: cache.path().to_owned(),
        }
    }

    pub(crate) fn open(
        &self,
        store: Arc<dyn ObjectStore>,
        options: &OpenOptions,
    ) -> Result<Volume> {
        let handle = self.threads.handle().clone();
        let disk = Directory::open(&self.cache, handle.clone()).unwrap() as Arc<dyn LocalDisk>;
        let runtime = Arc::new(TokioRuntime::on(handle)) as Arc<dyn Runtime>;
        Volume::open(store, &disk, runtime, options)
    }

    /// Ends all threads at once. The volume is of no use any more.
    pub(crate) fn kill(self, volume: Volume) {
        self.threads.shutdown_timeout(Duration::from_secs(60));
        drop(volume);
    }
}

/// Opens a volume with a log of its own, which nobody will find again; what is flushed is in the
/// store.
pub(crate) fn open_fresh(
    store: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
    options: OpenOptions,
) -> Result<Volume> {
    let disk = MemoryDisk::new(512).open().unwrap() as Arc<dyn LocalDisk>;
    let options = OpenOptions {
        flush: FlushTarget::Store,
        log_bytes: 16 << 20,
        ..options
    };
    Volume::open(store, &disk, runtime, &options)
}

/// The same with the usual settings.
pub(crate) fn open_stored(store: Arc<dyn ObjectStore>, take_over: bool) -> Result<Volume> {
    let options = OpenOptions {
        take_over,
        ..OpenOptions::new("this machine")
    };
    open_fresh(store, crate::world::runtime(), options)
}

/// Settings of a writer that takes over, and flushes to the store.
pub(crate) fn taking_over() -> OpenOptions {
    OpenOptions {
        take_over: true,
        flush: FlushTarget::Store,
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_millis(20),
        ..OpenOptions::new("a machine")
    }
}

/// Opens a volume with the log that is, or is to be, on `disk`.
pub(crate) fn open_on(
    store: Arc<dyn ObjectStore>,
    disk: &MemoryDisk,
    options: &OpenOptions,
) -> Result<Volume> {
    let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
    Volume::open(store, &disk, crate::world::runtime(), options)
}
