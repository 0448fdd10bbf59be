//! The volume that is measured: made for the run, and gone after it.

use std::sync::Arc;

use lsvd::doors::store::{ObjectStore, StoreError};
use lsvd::words::name::ObjectName;
use lsvd::{CreateOptions, EphemeralOptions, OpenOptions, Volume};
use lsvd_store::StoreUrl;
use tokio::runtime::Handle;

use super::Arguments;
use crate::commands::volume::lasting::{self, LastingArguments, LocalState};
use crate::commands::volume::{engine_runtime, open_ephemeral};
use crate::failure::Failure;

/// What kind of volume it is to be.
#[derive(Debug)]
pub(super) enum Kind {
    Ephemeral(EphemeralOptions),
    Lasting {
        create: CreateOptions,
        open: OpenOptions,
    },
}

/// A new volume, and all that it is made of.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) volume: Volume,
    store: Arc<dyn ObjectStore>,
    local: Option<LocalState>,
}

impl Kind {
    /// Refuses what cannot be, before anything is touched.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let volume = &arguments.volume;
        if volume.ephemeral {
            return volume.options(arguments.create).map(Self::Ephemeral);
        }
        if matches!(volume.url, StoreUrl::Memory) {
            return Err(Failure::usage(
                "nothing lasts in memory://: add --ephemeral for a scratch disk, or name a directory",
            ));
        }
        let lasting = LastingArguments {
            read_only: false,
            cache_dir: None,
            log_size: arguments.log_size,
            durability: arguments.durability,
            take_over: false,
            cut_log: false,
            unsafe_no_fencing: false,
        };
        let create = lasting::create_options(arguments.create, volume.object_size, false)?;
        let open = lasting::open_options(volume, &lasting)?;
        open.check_log(create.object_size)?;
        Ok(Self::Lasting { create, open })
    }
}

impl Measured {
    /// Makes the volume in a place that must be empty.
    pub(super) fn make(
        kind: Kind,
        arguments: &Arguments,
        handle: &Handle,
    ) -> Result<Self, Failure> {
        let store = arguments.volume.create_store(handle)?;
        let (volume, local) = match kind {
            Kind::Ephemeral(options) => {
                let volume = open_ephemeral(Arc::clone(&store), handle, options)?;
                (volume, None)
            }
            Kind::Lasting { create, open } => {
                let runtime = engine_runtime(handle);
                let uuid = Volume::create(Arc::clone(&store), runtime, create)?;
                let local = LocalState::open(&arguments.volume.url, uuid, None, handle)?;
                let opened = lasting::open(Arc::clone(&store), &local, handle, &open);
                let volume = handle.block_on(opened)?;
                (volume, Some(local))
            }
        };
        Ok(Self {
            volume,
            store,
            local,
        })
    }

    /// Removes what the run left. The place was empty when it began, so all that bears the name of
    /// an object is ours.
    pub(super) fn remove(self, handle: &Handle) -> Result<(), Failure> {
        let store = self.store;
        let removed = handle.block_on(async {
            for listed in store.list().await? {
                if ObjectName::parse(&listed.name).is_some() {
                    store.delete(&listed.name).await?;
                }
            }
            Ok(())
        });
        removed.map_err(|error: StoreError| Failure::from(error))?;
        self.local.map_or(Ok(()), LocalState::remove)
    }
}
