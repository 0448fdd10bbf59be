//! The arguments that name and shape a volume, shared by the commands that open one.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lsvd::doors::runtime::TokioRuntime;
use lsvd::doors::store::ObjectStore;
use lsvd::words::text::{Size, duration};
use lsvd::{EphemeralOptions, FlushTarget, Volume};
use lsvd_store::{Latency, LatencyRange, StoreUrl};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::Failure;

/// How an ephemeral volume is made.
#[derive(Debug, Args)]
pub(crate) struct VolumeArguments {
    /// Directory of the volume, or a URL: file:///DIR, memory://
    pub(crate) url: StoreUrl,

    /// A scratch disk: it begins empty and is gone when the command ends
    #[arg(long, help_heading = "Volume")]
    ephemeral: bool,

    /// Bytes in an object, before its header
    #[arg(long, value_name = "SIZE", default_value_t = Size(8 << 20), help_heading = "Volume")]
    object_size: Size,

    /// Upload what was written after so long, even when the object is not full
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = duration,
        help_heading = "Uploads"
    )]
    seal_timeout: Duration,

    /// Most uploads at once; writes wait when all are busy and memory is full
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 8,
        help_heading = "Uploads"
    )]
    window: u32,

    /// How long a store may fail before writes and flushes fail; it is retried for ever
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration,
        help_heading = "Uploads"
    )]
    retry_timeout: Duration,

    /// What a flush waits for
    #[arg(long, value_enum, default_value_t = Flush::Local, help_heading = "Durability")]
    flush: Flush,

    /// Make every request to the store take longer, to see what a distant one would do
    #[arg(long, value_name = "TIME[..TIME]", help_heading = "Testing")]
    store_latency: Option<LatencyRange>,
}

/// What a flush waits for, as people say it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Flush {
    /// The local log. An ephemeral volume has none, so a flush answers at once
    Local,
    /// The store: all that was answered before is in objects
    Store,
}

impl From<Flush> for FlushTarget {
    fn from(flush: Flush) -> Self {
        match flush {
            Flush::Local => Self::Local,
            Flush::Store => Self::Store,
        }
    }
}

impl VolumeArguments {
    /// Refuses what this version cannot do, before anything is touched.
    pub(crate) fn require_ephemeral(&self) -> Result<(), Failure> {
        if self.ephemeral {
            return Ok(());
        }
        Err(Failure::usage(
            "volumes that last are not in this version: add --ephemeral for a scratch disk, which \
             is gone when the command ends",
        ))
    }

    /// The settings of a new volume of `size` bytes; to be asked for before anything is made, so
    /// that settings that no volume can have leave nothing behind.
    pub(crate) fn options(&self, Size(size): Size) -> Result<EphemeralOptions, Failure> {
        let options = EphemeralOptions {
            size,
            object_size: self.object_size.0,
            window: self.window,
            seal_timeout: self.seal_timeout,
            flush: self.flush.into(),
            retry_timeout: self.retry_timeout,
        };
        options.check()?;
        Ok(options)
    }

    /// Opens the store of a new volume, which must be empty.
    pub(crate) fn create_store(&self, runtime: &Handle) -> Result<Arc<dyn ObjectStore>, Failure> {
        // Whatever the reason: a place that does not serve is no wrong usage.
        let store = self.url.create_empty();
        let store = store.map_err(|error| Failure::failed(error.to_string()))?;
        let Some(latency) = self.store_latency else {
            return Ok(store);
        };
        let runtime = Arc::new(TokioRuntime::on(runtime.clone()));
        let slow = Latency::new(store, runtime).writes(latency).reads(latency);
        Ok(Arc::new(slow))
    }
}

/// Opens a new volume in `store`.
pub(crate) fn open(
    store: Arc<dyn ObjectStore>,
    runtime: &Handle,
    options: EphemeralOptions,
) -> Result<Volume, Failure> {
    let runtime = Arc::new(TokioRuntime::on(runtime.clone()));
    Ok(Volume::open_ephemeral(store, runtime, options)?)
}

/// The threads on which uploads, timers and connections run: one for each processor.
pub(crate) fn start_runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .thread_name("lsvd")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}
