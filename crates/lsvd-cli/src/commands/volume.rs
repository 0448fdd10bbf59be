//! The arguments that name and shape a volume, shared by the commands that open one.

pub(crate) mod lasting;

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lsvd::doors::runtime::TokioRuntime;
use lsvd::doors::store::ObjectStore;
use lsvd::words::text::{Size, duration};
use lsvd::{EphemeralOptions, ErrorKind, FlushTarget, Volume};
use lsvd_store::{Bandwidth, Latency, LatencyRange, StoreUrl};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::Failure;

/// Bytes in an object of a new volume unless somebody says otherwise.
pub(crate) const OBJECT_SIZE: Size = Size(8 << 20);

/// What holds of any volume, and how it is written.
#[derive(Debug, Args)]
pub(crate) struct VolumeArguments {
    /// Directory of the volume, or a URL: file:///DIR, memory://
    pub(crate) url: StoreUrl,

    /// A scratch disk: it begins empty and is gone when the command ends
    #[arg(long, help_heading = "Volume")]
    pub(crate) ephemeral: bool,

    /// Bytes in an object of a new volume, before its header [default: 8M]
    #[arg(long, value_name = "SIZE", help_heading = "Volume")]
    pub(crate) object_size: Option<Size>,

    /// Upload what was written after so long, even when the object is not full
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = duration,
        help_heading = "Uploads"
    )]
    pub(crate) seal_timeout: Duration,

    /// Most uploads at once; writes wait when all are busy and there is no room left
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 8,
        help_heading = "Uploads"
    )]
    pub(crate) window: u32,

    /// How long a store may fail before what has to wait for it fails: writes without room left, and
    /// flushes with --flush store; it is retried for ever
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration,
        help_heading = "Uploads"
    )]
    pub(crate) retry_timeout: Duration,

    /// What a flush waits for
    #[arg(long, value_enum, default_value_t = Flush::Local, help_heading = "Durability")]
    pub(crate) flush: Flush,

    /// Make every request to the store take longer, to see what a distant one would do
    #[arg(long, value_name = "TIME[..TIME]", help_heading = "Testing")]
    store_latency: Option<LatencyRange>,

    /// Let so many bytes a second through to the store and as many back, as a slow line would
    #[arg(long, value_name = "SIZE", value_parser = bandwidth, help_heading = "Testing")]
    store_bandwidth: Option<NonZeroU64>,
}

/// What a flush waits for, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flush {
    /// The write log on the local disk. An ephemeral volume has none, so a flush answers at once
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
    /// The settings of a new ephemeral volume of `size` bytes; to be asked for before anything is made, so
    /// that settings that no volume can have leave nothing behind.
    pub(crate) fn options(&self, Size(size): Size) -> Result<EphemeralOptions, Failure> {
        refuse_new_name(&self.url)?;
        let options = EphemeralOptions {
            size,
            object_size: self.object_size.unwrap_or(OBJECT_SIZE).0,
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
        let store = self.url.create_empty().map_err(place_failure)?;
        Ok(self.slowed(store, runtime))
    }

    /// The store, as slow as it is to be.
    pub(crate) fn slowed(
        &self,
        store: Arc<dyn ObjectStore>,
        runtime: &Handle,
    ) -> Arc<dyn ObjectStore> {
        let mut store = store;
        if let Some(bytes_per_second) = self.store_bandwidth {
            let runtime = engine_runtime(runtime);
            store = Arc::new(Bandwidth::new(store, runtime, bytes_per_second));
        }
        if let Some(latency) = self.store_latency {
            let slow = Latency::new(store, engine_runtime(runtime));
            store = Arc::new(slow.writes(latency).reads(latency));
        }
        store
    }
}

/// Refuses a name that no new volume may have. One that is there keeps its name and is served.
pub(crate) fn refuse_new_name(url: &StoreUrl) -> Result<(), Failure> {
    let StoreUrl::LocalDirectory(path) = url else {
        return Ok(());
    };
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    if !name.contains(&b'@') {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{url} cannot be the name of a new volume: '@' will separate a snapshot's name; choose one \
         without it"
    )))
}

/// Bytes a second, as people write them.
fn bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let Size(bytes) = text
        .parse()
        .map_err(|error: lsvd::Error| error.to_string())?;
    NonZeroU64::new(bytes).ok_or_else(|| "nothing would ever be stored: write more than 0".into())
}

/// A place that does not serve is no wrong usage, whatever the reason.
pub(crate) fn place_failure(error: lsvd::Error) -> Failure {
    Failure::failed(error.to_string())
}

/// The same where a volume was to be there.
pub(crate) fn volume_failure(url: &StoreUrl, error: lsvd::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => no_volume(url),
        _ => place_failure(error),
    }
}

/// What is said where there is no volume.
pub(crate) fn no_volume(url: &StoreUrl) -> Failure {
    Failure::failed(format!(
        "there is no volume in {url}: make one with `lsvd create`, or name the directory of one"
    ))
}

/// The engine's view of these threads.
pub(crate) fn engine_runtime(runtime: &Handle) -> Arc<TokioRuntime> {
    Arc::new(TokioRuntime::on(runtime.clone()))
}

/// Opens a new ephemeral volume in `store`.
pub(crate) fn open_ephemeral(
    store: Arc<dyn ObjectStore>,
    runtime: &Handle,
    options: EphemeralOptions,
) -> Result<Volume, Failure> {
    Ok(Volume::open_ephemeral(
        store,
        engine_runtime(runtime),
        options,
    )?)
}

/// The threads on which uploads, timers and connections run: one for each processor.
pub(crate) fn start_runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .thread_name("lsvd")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}
