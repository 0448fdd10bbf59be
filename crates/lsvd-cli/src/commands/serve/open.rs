//! From the arguments to a volume that is open and a socket that is bound.
//!
//! What is wrong with the arguments is found before anything is touched. A volume that lasts is
//! locked first, so that a second server hears who the first one is, and nothing is made or claimed
//! before the socket is there.

use std::sync::Arc;

use lsvd::bytes::superblock::{Change, Superblock};
use lsvd::doors::store::ObjectStore;
use lsvd::words::name::VolumeUuid;
use lsvd::words::text::Size;
use lsvd::{CreateOptions, EphemeralOptions, ErrorKind, OpenOptions, Volume};
use lsvd_nbd::Listener;
use lsvd_store::{Missing, Occupied, StoreUrl};
use tokio::runtime::Handle;

use super::Arguments;
use super::endpoint::Endpoint;
use crate::commands::volume::lasting::{self, LocalState};
use crate::commands::volume::{
    engine_runtime, no_volume, open_ephemeral, place_failure, refuse_new_name, volume_failure,
};
use crate::failure::Failure;

/// What the arguments ask for.
#[derive(Debug)]
pub(super) enum Plan {
    Ephemeral(EphemeralOptions),
    ReadOnly,
    Lasting {
        create: Option<CreateOptions>,
        open: OpenOptions,
    },
}

/// What is served.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) listener: Listener,
    pub(super) volume: Volume,
    pub(super) kind: Kind,
}

/// What becomes of what is written.
#[derive(Debug)]
pub(super) enum Kind {
    Ephemeral,
    ReadOnly,
    Lasting(LocalState),
}

impl Plan {
    /// Refuses what cannot be, before anything is touched.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let volume = &arguments.volume;
        if volume.ephemeral {
            let size = arguments.create.ok_or_else(|| {
                Failure::usage(
                    "an ephemeral volume begins empty: say how large it is with --create SIZE",
                )
            })?;
            return volume.options(size).map(Self::Ephemeral);
        }
        if matches!(volume.url, StoreUrl::Memory) {
            return Err(Failure::usage(
                "nothing lasts in memory://: add --ephemeral for a scratch disk, or name a directory",
            ));
        }
        if arguments.lasting.read_only {
            return Ok(Self::ReadOnly);
        }
        let unsafe_no_fencing = arguments.lasting.unsafe_no_fencing;
        let create = |size| lasting::create_options(size, volume.object_size, unsafe_no_fencing);
        let create = arguments.create.map(create).transpose()?;
        let open = lasting::open_options(volume, &arguments.lasting)?;
        if let Some(options) = create {
            open.check_log(options.object_size)?;
        }
        Ok(Self::Lasting { create, open })
    }

    /// Carries it out. Dropped before its end it has done what a crash at that moment leaves, except
    /// that the socket is gone.
    pub(super) async fn open(
        self,
        arguments: &Arguments,
        endpoint: &Endpoint,
        handle: &Handle,
    ) -> Result<Opened, Failure> {
        let volume = &arguments.volume;
        match self {
            Self::Ephemeral(options) => {
                // The socket before the volume: where it is refused, nothing else was touched.
                let listener = endpoint.bind().await?;
                let store = volume.create_store(handle)?;
                Ok(Opened {
                    listener,
                    volume: open_ephemeral(store, handle, options)?,
                    kind: Kind::Ephemeral,
                })
            }
            Self::ReadOnly => {
                let store = volume.url.open_read_only();
                let store = store.map_err(|error| volume_failure(&volume.url, error))?;
                let store = volume.slowed(store, handle);
                let listener = endpoint.bind().await?;
                let opened = Volume::open_read_only_async(store, engine_runtime(handle));
                Ok(Opened {
                    listener,
                    volume: opened
                        .await
                        .map_err(|error| volume_failure(&volume.url, error))?,
                    kind: Kind::ReadOnly,
                })
            }
            Self::Lasting { create, open } => {
                open_lasting(arguments, endpoint, handle, create, &open).await
            }
        }
    }
}

async fn open_lasting(
    arguments: &Arguments,
    endpoint: &Endpoint,
    handle: &Handle,
    create: Option<CreateOptions>,
    open: &OpenOptions,
) -> Result<Opened, Failure> {
    let url = &arguments.volume.url;
    let found = look(url, handle).await?;
    match (&found, create) {
        (Some(found), create) => {
            refuse_another_shape(arguments, found, create)?;
            open.check_log(found.state.object_size)?;
        }
        (None, Some(_)) => refuse_new_name(url)?,
        (None, None) => return Err(no_volume(url)),
    }
    // Whoever has the volume keeps its locks until all else that is needed is there.
    let taken = found.as_ref().filter(|_| open.take_over);
    let (listener, store, local) = if let Some(taken) = taken {
        let listener = endpoint.bind().await?;
        let local = local_state(arguments, taken.volume, handle)?;
        let store = lock_store(arguments, Missing::Refuse, Occupied::TakeOver, handle)?;
        (listener, store, local)
    } else {
        let missing = match found {
            Some(_) => Missing::Refuse,
            None => Missing::Make,
        };
        let store = lock_store(arguments, missing, Occupied::Refuse, handle)?;
        let listener = endpoint.bind().await?;
        let local = match (found, create) {
            (None, Some(options)) => create_volume(arguments, &store, options, handle).await?,
            (Some(found), _) => local_state(arguments, found.volume, handle)?,
            (None, None) => return Err(no_volume(url)),
        };
        (listener, store, local)
    };
    let volume = lasting::open(store, &local, handle, open).await?;
    Ok(Opened {
        listener,
        volume,
        kind: Kind::Lasting(local),
    })
}

/// Makes the volume, and opens its local state. The volume is the last to be made: a write log of
/// another volume, or a directory that is in use, is found before.
async fn create_volume(
    arguments: &Arguments,
    store: &Arc<dyn ObjectStore>,
    options: CreateOptions,
    handle: &Handle,
) -> Result<LocalState, Failure> {
    let cache_dir = arguments.lasting.cache_dir.as_deref();
    let known = LocalState::open_for_new(&arguments.volume.url, cache_dir, handle)?;
    if let Some(known) = &known {
        known.refuse_log().await?;
    }
    let created = Volume::create_async(Arc::clone(store), engine_runtime(handle), options);
    let uuid = created.await.map_err(place_failure)?;
    match known {
        Some(known) => Ok(known),
        None => local_state(arguments, uuid, handle),
    }
}

/// The newest superblock of the volume that is there, if one is.
async fn look(url: &StoreUrl, runtime: &Handle) -> Result<Option<Superblock>, Failure> {
    let store = match url.open_read_only() {
        Ok(store) => store,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(place_failure(error)),
    };
    let newest = Volume::newest_superblock_async(store, engine_runtime(runtime)).await?;
    Ok(newest.filter(|newest| newest.state.change != Change::Tombstone))
}

fn lock_store(
    arguments: &Arguments,
    missing: Missing,
    occupied: Occupied,
    runtime: &Handle,
) -> Result<Arc<dyn ObjectStore>, Failure> {
    let store = arguments.volume.url.open_volume(missing, occupied);
    let store = store.map_err(place_failure)?;
    Ok(arguments.volume.slowed(store, runtime))
}

fn local_state(
    arguments: &Arguments,
    volume: VolumeUuid,
    runtime: &Handle,
) -> Result<LocalState, Failure> {
    let cache_dir = arguments.lasting.cache_dir.as_deref();
    LocalState::open(&arguments.volume.url, volume, cache_dir, runtime)
}

/// Whoever says how large the volume is and finds another has mistaken one for the other.
fn refuse_another_shape(
    arguments: &Arguments,
    newest: &Superblock,
    create: Option<CreateOptions>,
) -> Result<(), Failure> {
    let place = &arguments.volume.url;
    if let Some(options) = create
        && options.size != newest.state.size
    {
        let (found, asked) = (Size(newest.state.size), Size(options.size));
        return Err(Failure::failed(format!(
            "the volume in {place} is there already, with a size of {found} and not {asked}: leave \
             --create out to serve it, or name another place"
        )));
    }
    match arguments.volume.object_size {
        Some(asked) if asked.0 != newest.state.object_size => {
            let found = Size(newest.state.object_size);
            Err(Failure::failed(format!(
                "the volume in {place} was made with objects of {found} and not {asked}, which stays \
                 so: leave --object-size out"
            )))
        }
        _ => Ok(()),
    }
}
