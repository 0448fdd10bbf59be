//! `lsvd rm`: a volume, gone for good.

use std::path::{Path, PathBuf};

use clap::Args;
use lsvd::bytes::superblock::{Superblock, Writer};
use lsvd::{ErrorKind, RemoveOptions, Volume};
use lsvd_store::{Missing, StoreUrl};
use tokio::runtime::Handle;

use super::volume::lasting::{self, LocalState};
use super::volume::{self, engine_runtime, no_volume, volume_failure};
use crate::failure::Failure;
use crate::machine;

/// Remove a volume for good, with its local state on this machine
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Directory of the volume, or a URL: file:///DIR
    url: StoreUrl,

    /// Remove a volume that its writer did not close; a server that still has it is fenced
    #[arg(long)]
    take_over: bool,
}

const AFTER_HELP: &str = "\
Nobody can open the volume any more from the first moment on. Where the removal is cut short, do it
again: it goes on. What stays are a few small superblocks, which keep late writers out and let the
next volume at this place count on from there.

Examples:
  lsvd rm /srv/lsvd/vol
  lsvd rm /srv/lsvd/vol --take-over";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let url = &arguments.url;
    let runtime = volume::start_runtime()?;
    let handle = runtime.handle();
    let occupied = lasting::occupied(arguments.take_over);
    let store = url.open_volume(Missing::Refuse, occupied);
    let store = store.map_err(|error| volume_failure(url, error))?;
    let newest = Volume::newest_superblock(store.clone(), engine_runtime(handle))?;
    let newest = newest.ok_or_else(|| no_volume(url))?;
    let default = machine::local_state(url, newest.volume)?;
    let local = local_states(url, &newest, &default, handle)?;
    let options = RemoveOptions {
        machine: machine::identity(),
        take_over: arguments.take_over,
    };
    match Volume::remove(store, engine_runtime(handle), options) {
        Ok(removed) => {
            tracing::info!(volume = %removed.volume, removed.objects, removed.bytes, "removed");
        }
        // A removal that was cut short behind the last object goes on with what this machine has.
        Err(error) if error.kind() == ErrorKind::NotFound && !local.is_empty() => {}
        Err(error) => return Err(volume_failure(url, error)),
    }
    for local in local {
        if local.path() == default {
            local.remove()?;
        } else {
            // Named by the user, so there may be more in it.
            local.remove_logs(newest.volume)?;
        }
    }
    Ok(())
}

/// What this machine has of the volume, held against whoever may be using it.
fn local_states(
    url: &StoreUrl,
    newest: &Superblock,
    default: &Path,
    handle: &Handle,
) -> Result<Vec<LocalState>, Failure> {
    let mut places = vec![default.to_owned()];
    places.extend(local_log(newest.state.writer.as_ref()).filter(|log| log != default));
    places.retain(|place| place.is_dir());
    places
        .iter()
        .map(|place| LocalState::open(url, newest.volume, Some(place), handle))
        .collect()
}

/// Where the last writer has its log, if that was on this machine.
fn local_log(writer: Option<&Writer>) -> Option<PathBuf> {
    let writer = writer.filter(|writer| writer.machine == machine::identity())?;
    Some(writer.log.as_ref()?.path.clone().into())
}
