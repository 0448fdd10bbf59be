//! `lsvd create`: a volume that lasts, empty.

use std::io::Write;

use clap::Args;
use lsvd::Volume;
use lsvd::bytes::superblock::Change;
use lsvd::words::text::Size;
use lsvd_store::{Missing, Occupied, StoreUrl};

use super::volume::{self, engine_runtime, lasting, place_failure};
use crate::failure::Failure;

/// Make a volume, empty
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Directory of the volume, which must be empty or absent, or a URL: file:///DIR
    url: StoreUrl,

    /// Bytes of the volume
    #[arg(long, value_name = "SIZE")]
    size: Size,

    /// Bytes in an object, before its header [default: 8M]
    #[arg(long, value_name = "SIZE")]
    object_size: Option<Size>,

    /// Use a store that cannot keep a second writer out; two at once destroy the volume
    #[arg(long)]
    unsafe_no_fencing: bool,
}

const AFTER_HELP: &str = "\
The uuid of the new volume is printed. It takes no space until it is written. Both sizes are for
good. `lsvd serve --create` makes a volume as well, where there is none.

A place where a volume was removed can be used again.

Examples:
  lsvd create /srv/lsvd/vol --size 10G
  lsvd create /srv/lsvd/vol --size 1T --object-size 32M";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let url = &arguments.url;
    volume::refuse_new_name(url)?;
    let options = lasting::create_options(
        arguments.size,
        arguments.object_size,
        arguments.unsafe_no_fencing,
    )?;
    let runtime = volume::start_runtime()?;
    let runtime = engine_runtime(runtime.handle());
    // A volume that is being served is one that is there.
    if let Ok(store) = url.open_read_only() {
        let newest = Volume::newest_superblock(store, runtime.clone())?;
        if newest.is_some_and(|newest| newest.state.change != Change::Tombstone) {
            return Err(Failure::failed(format!(
                "there is a volume in {url} already: serve it, or remove it with `lsvd rm`"
            )));
        }
    }
    let store = url.open_volume(Missing::Make, Occupied::Refuse);
    let store = store.map_err(place_failure)?;
    // What is wrong with the settings was found before.
    let volume = Volume::create(store, runtime, options).map_err(place_failure)?;
    writeln!(std::io::stdout(), "{volume}").map_err(Failure::from_output)
}
