//! Volumes that last, as the engine wants them opened: the one place where the settings of the
//! command line become the engine's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use lsvd::doors::disk::{Directory, LocalDisk};
use lsvd::doors::store::ObjectStore;
use lsvd::words::name::VolumeUuid;
use lsvd::words::text::Size;
use lsvd::{CreateOptions, Error, OpenOptions, Volume};
use lsvd_store::{Occupied, StoreUrl};
use tokio::runtime::Handle;

use super::{VolumeArguments, engine_runtime, place_failure};
use crate::failure::Failure;
use crate::machine;

/// How a volume that lasts is opened.
#[derive(Debug, Args)]
pub(crate) struct LastingArguments {
    /// Serve what is stored at this moment, also beside a writer; nothing is written anywhere
    #[arg(
        long,
        help_heading = "Volume",
        conflicts_with_all = ["ephemeral", "create", "object_size"]
    )]
    pub(crate) read_only: bool,

    /// Where the write log lies, on a disk of this machine [default: cache in the volume's directory]
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Durability",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Bytes of the write log: what can wait for a slow store; one that is there keeps its size
    /// until the volume was closed
    #[arg(
        long,
        value_name = "SIZE",
        default_value_t = Size(1 << 30),
        help_heading = "Durability",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) log_size: Size,

    /// When a write is answered
    #[arg(
        long,
        value_enum,
        default_value_t = Durability::Writeback,
        help_heading = "Durability",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) durability: Durability,

    /// Take the volume from a writer that did not close it: it is fenced, and what it has not
    /// stored stays on its machine
    #[arg(
        long,
        help_heading = "Other writers",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) take_over: bool,

    /// Cut a write log that is damaged, or cannot be read in some place, before that place: what was
    /// written later is lost, but for what the store has
    #[arg(
        long,
        help_heading = "Durability",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) cut_log: bool,

    /// Use a store that cannot keep a second writer out; two at once destroy the volume
    #[arg(
        long,
        help_heading = "Other writers",
        conflicts_with_all = ["ephemeral", "read_only"]
    )]
    pub(crate) unsafe_no_fencing: bool,
}

/// When a write is answered, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// When every read sees it, as a disk with a volatile cache does; a flush makes it durable
    Writeback,
    /// When it is durable in the write log
    Writethrough,
}

impl From<Durability> for lsvd::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Writeback => Self::WriteBack,
            Durability::Writethrough => Self::WriteThrough,
        }
    }
}

/// What is done where another process has the store.
pub(crate) const fn occupied(take_over: bool) -> Occupied {
    if take_over {
        Occupied::TakeOver
    } else {
        Occupied::Refuse
    }
}

/// The settings of a new volume.
pub(crate) fn create_options(
    Size(size): Size,
    object_size: Option<Size>,
    unsafe_no_fencing: bool,
) -> Result<CreateOptions, Failure> {
    let options = CreateOptions {
        size,
        object_size: object_size.unwrap_or(super::OBJECT_SIZE).0,
        unsafe_no_fencing,
    };
    options.check()?;
    Ok(options)
}

/// The settings of an opening for writing.
pub(crate) fn open_options(
    volume: &VolumeArguments,
    lasting: &LastingArguments,
) -> Result<OpenOptions, Failure> {
    if let Some(cache_dir) = &lasting.cache_dir {
        refuse_no_text(cache_dir)?;
    }
    let options = OpenOptions {
        take_over: lasting.take_over,
        unsafe_no_fencing: lasting.unsafe_no_fencing,
        cut_log: lasting.cut_log,
        log_bytes: lasting.log_size.0,
        durability: lasting.durability.into(),
        flush: volume.flush.into(),
        window: volume.window,
        seal_timeout: volume.seal_timeout,
        retry_timeout: volume.retry_timeout,
        ..OpenOptions::new(machine::identity())
    };
    options.check()?;
    Ok(options)
}

/// The path goes into the superblock, for the next who opens, asks or removes the volume, and that is
/// text: of a path that is none he would be told another.
fn refuse_no_text(cache_dir: &Path) -> Result<(), Failure> {
    let path = machine::absolute(cache_dir)?;
    if path.to_str().is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the path of the write log must be UTF-8, and {:?} is not: name another directory with \
         --cache-dir",
        path.display().to_string()
    )))
}

/// This machine's part of a volume: the directory of its write log.
#[derive(Debug)]
pub(crate) struct LocalState {
    path: PathBuf,
    /// Locked.
    disk: Arc<dyn LocalDisk>,
}

impl LocalState {
    /// Opens it for `volume`, in `cache_dir` if that is said. Whoever has it keeps it: a write log
    /// has one owner, also where the volume is taken over.
    pub(crate) fn open(
        url: &StoreUrl,
        volume: VolumeUuid,
        cache_dir: Option<&Path>,
        runtime: &Handle,
    ) -> Result<Self, Failure> {
        let path = match cache_dir {
            Some(path) => machine::absolute(path)?,
            None => machine::local_state(url, volume)?,
        };
        Self::open_at(path, runtime)
    }

    /// The same for a volume that is not made yet; nothing where the place bears its uuid, so that
    /// nobody else can have it.
    pub(crate) fn open_for_new(
        url: &StoreUrl,
        cache_dir: Option<&Path>,
        runtime: &Handle,
    ) -> Result<Option<Self>, Failure> {
        let beside = url.local_state();
        let Some(path) = cache_dir.or(beside.as_deref()) else {
            return Ok(None);
        };
        Self::open_at(machine::absolute(path)?, runtime).map(Some)
    }

    fn open_at(path: PathBuf, runtime: &Handle) -> Result<Self, Failure> {
        let disk = Directory::open(&path, runtime.clone()).map_err(|error| {
            let place = path.display();
            let message = format!("cannot use {place} for the write log (--cache-dir)");
            Error::new(error.kind().for_user(), message).because(error)
        })?;
        Ok(Self { path, disk })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a place where a write log is, for a volume that is not made yet.
    pub(crate) async fn refuse_log(&self) -> Result<(), Failure> {
        let refused = Volume::refuse_log_async(&*self.disk).await;
        refused.map_err(place_failure)
    }

    /// Removes the write logs of a volume that is gone; what else is there stays.
    pub(crate) fn remove_logs(&self, volume: VolumeUuid) -> Result<(), Failure> {
        Volume::remove_logs(&*self.disk, volume).map_err(|error| {
            let path = self.path.display();
            Failure::failed(format!(
                "the volume is removed, but not its write log in {path}: {error}; remove the file \
                 log there by hand"
            ))
        })
    }

    /// Removes it with all that is in it: the volume is gone.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        std::fs::remove_dir_all(&self.path).map_err(|error| {
            let path = self.path.display();
            Failure::failed(format!(
                "the volume is removed, but not its local state in {path}: {error}; remove that \
                 directory by hand"
            ))
        })
    }
}

/// Opens the volume in `store` for writing. What is wrong with the settings was found before, so
/// whatever fails here is no wrong usage.
pub(crate) async fn open(
    store: Arc<dyn ObjectStore>,
    local: &LocalState,
    runtime: &Handle,
    options: &OpenOptions,
) -> Result<Volume, Failure> {
    let runtime = engine_runtime(runtime);
    let opened = Volume::open_async(store, &local.disk, runtime, options).await;
    opened.map_err(place_failure)
}
