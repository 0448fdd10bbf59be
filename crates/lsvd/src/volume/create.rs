//! Creating a volume that lasts.

use super::Volume;
use super::open::check_sizes;
use crate::bytes::superblock::{Change, VolumeState};
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::ObjectStore;
use crate::parts::probe;
use crate::parts::superblocks::{Creation, Superblocks};
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::VolumeUuid;

/// What a volume is made with, once and for all.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Size of the volume in bytes, a multiple of 512.
    pub size: u64,
    /// Size of an object's data area in bytes, a multiple of 4096 from 16 KiB to 64 MiB.
    pub object_size: u64,
    /// Whether to use a store that does not keep a second writer out. Whoever then opens the volume
    /// twice at once destroys it.
    pub unsafe_no_fencing: bool,
}

impl CreateOptions {
    /// A volume of `size` bytes with objects of 8 MiB.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            object_size: 8 << 20,
            unsafe_no_fencing: false,
        }
    }

    /// Whether a volume can be made with these settings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], and what would be right.
    pub fn check(&self) -> Result<()> {
        check_sizes(self.size, self.object_size)
    }
}

impl Volume {
    /// Makes a volume in `store` and says who it is. It is there when this returns, and empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for sizes out of range, [`ErrorKind::NotEmpty`] where there is a
    /// volume or anything else and for a store that does not keep a second writer out, and what the
    /// store says. After [`ErrorKind::Unavailable`] the volume may be there all the same.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: CreateOptions,
    ) -> Result<VolumeUuid> {
        block_on(Self::create_async(store, runtime, options))
    }

    /// [`create`](Self::create) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn create_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: CreateOptions,
    ) -> Result<VolumeUuid> {
        options.check()?;
        let superblocks = Superblocks::new(Arc::clone(&store), Arc::clone(&runtime));
        let newest = superblocks.newest().await?;
        let first_epoch = match &newest {
            None => {
                refuse_objects(&*store, &*runtime).await?;
                0
            }
            // Names are never used twice, not even those of a volume that was removed.
            Some(newest) if newest.state.change == Change::Tombstone => {
                let next = newest.state.next_epoch().ok_or_else(|| {
                    let message = format!(
                        "the epochs of {} are used up: choose another place",
                        store.url()
                    );
                    Error::new(ErrorKind::NoSpace, message)
                })?;
                next.0
            }
            Some(_) => return Err(taken(&*store)),
        };
        if !options.unsafe_no_fencing {
            probe::refuse_unless_exclusive(&*store, &*runtime).await?;
        }
        let volume = VolumeUuid::from_u128(runtime.random());
        let state = VolumeState {
            predecessor: None,
            change: Change::Create,
            size: options.size,
            object_size: options.object_size,
            first_epoch,
            epochs: Vec::new(),
            checkpoints: Vec::new(),
            writer: None,
        };
        let draft = superblocks.draft(volume, newest.as_ref(), None, state)?;
        match superblocks.create(&draft).await? {
            Creation::Ours(_) => Ok(volume),
            Creation::Lost(_) => Err(taken(&*store)),
        }
    }
}

async fn refuse_objects(store: &dyn ObjectStore, runtime: &dyn Runtime) -> Result<()> {
    let place = store.url();
    let listed = within(runtime, STORE_PATIENCE, store, store.list()).await;
    let listed = listed.map_err(|error| {
        let message = format!("cannot see whether {place} is empty");
        Error::new(error.kind().for_user(), message).because(error)
    })?;
    let found = listed.iter().find(|object| !probe::is_probe(&object.name));
    match found {
        None => Ok(()),
        Some(found) => {
            let message = format!(
                "{place} is not empty (it holds {}) and has no volume: choose another place",
                found.name
            );
            Err(Error::new(ErrorKind::NotEmpty, message))
        }
    }
}

fn taken(store: &dyn ObjectStore) -> Error {
    let message = format!(
        "there is a volume in {} already: serve it, or remove it with `lsvd rm`",
        store.url()
    );
    Error::new(ErrorKind::NotEmpty, message)
}
