//! `lsvd info`: what a volume consists of, read from its objects, and how it is at this moment,
//! asked of its server.

mod summary;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use lsvd::bytes::superblock::Superblock;
use lsvd::{ErrorKind, Volume, VolumeInfo};
use lsvd_store::StoreUrl;

use super::volume::{self, engine_runtime, place_failure};
use crate::control::client;
use crate::failure::Failure;
use crate::machine;
use summary::{Served, Summary};

/// Show what a volume consists of, and how it is while it is served
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Directory of the volume, or a URL: file:///DIR
    url: StoreUrl,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Every object names its volume, its number and its length, and carries checksums; all headers are
read and checked, and so is that all objects are of one volume; the data is not read. What does not
check is listed, and the exit code is 1 then. Nothing is changed, so the directory need not be
writable, and the volume may be in use meanwhile.

Where the volume is served on this machine, its server is asked as well: for what is at risk, that is
written and not stored yet, in bytes and seconds; for how full the write log is; and for why requests
fail, if they do.

Examples:
  lsvd info /tmp/lsvd
  lsvd info /tmp/lsvd --json";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = volume::start_runtime()?;
    let store = arguments.url.open_read_only().map_err(place_failure)?;
    let info = Volume::inspect(store, engine_runtime(runtime.handle()));
    let info = info.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::failed(format!(
            "{} holds no object of a volume: name the directory that lsvd serve was given",
            arguments.url
        )),
        _ => place_failure(error),
    })?;
    let served = match &info.superblock {
        Some(newest) => ask(&arguments.url, newest)?,
        None => Served::No,
    };
    let summary = Summary {
        info: &info,
        served: &served,
    };
    let text = if arguments.json {
        summary.json()
    } else {
        summary.text()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    refuse_damage(&info)
}

/// What the server of the volume says, if one runs on this machine.
fn ask(url: &StoreUrl, newest: &Superblock) -> Result<Served, Failure> {
    let writer = newest.state.writer.as_ref();
    let ours = writer.filter(|writer| writer.machine == machine::identity());
    let log = ours.and_then(|writer| writer.log.as_ref());
    let log = log.map(|log| PathBuf::from(&log.path));
    let default = machine::local_state(url, newest.volume)?;
    let mut places = log.into_iter().chain([default]).collect::<Vec<_>>();
    // A server that is stopped is waited for, and once is enough, by whichever path it is reached.
    places.dedup_by_key(|place| place.canonicalize().unwrap_or_else(|_| place.clone()));
    let mut silent = Served::No;
    for place in places {
        match client::status(&place) {
            Ok(Some(status)) if status.volume == newest.volume.to_string() => {
                return Ok(Served::By(Box::new(status)));
            }
            // Nobody is there, or whoever is there serves another volume.
            Ok(_) => {}
            Err(reason) => silent = Served::Silent(reason),
        }
    }
    Ok(silent)
}

fn refuse_damage(info: &VolumeInfo) -> Result<(), Failure> {
    let Some(first) = info.damaged.first() else {
        return Ok(());
    };
    let sound = info.data.objects + info.checkpoints.objects + info.superblocks.objects;
    let damaged = info.damaged.len() as u64;
    Err(Failure::failed(format!(
        "{damaged} of {} objects in {} do not check, the first is {}: {}",
        sound + damaged,
        info.location,
        first.name,
        first.reason
    )))
}
