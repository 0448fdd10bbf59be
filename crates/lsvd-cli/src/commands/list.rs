//! `lsvd list`: the volumes of a store.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use lsvd::Volume;
use lsvd::bytes::superblock::{Change, Superblock};
use lsvd::words::text::Size;
use lsvd_store::StoreUrl;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::volume::{self, engine_runtime};
use crate::failure::Failure;

/// Show the volumes in the directories of a directory
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Directory whose directories are volumes, or a URL: file:///DIR
    url: StoreUrl,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
A volume is a directory with superblocks; others are passed over, and so are volumes that were
removed. `open` says that a server has the volume, or ended without closing it. A volume whose newest
superblock cannot be read is shown with the reason, and the exit code is 1 then.

Examples:
  lsvd list /srv/lsvd
  lsvd list /srv/lsvd --json";

/// A directory that holds a volume, or what should be one.
struct Found {
    path: PathBuf,
    volume: Result<Superblock, String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let StoreUrl::LocalDirectory(directory) = &arguments.url else {
        return Err(Failure::usage(format!(
            "{} holds nothing that was there before; name a directory",
            arguments.url
        )));
    };
    let runtime = volume::start_runtime()?;
    let mut found = Vec::new();
    for path in directories(directory)? {
        found.extend(look(&path, runtime.handle()));
    }
    let text = if arguments.json {
        let volumes: Vec<Value> = found.iter().map(Found::json).collect();
        format!("{}\n", json!({ "volumes": volumes }))
    } else {
        found.iter().map(Found::text).collect()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    let damaged: Vec<&Found> = found.iter().filter(|found| found.volume.is_err()).collect();
    match damaged.first() {
        None => Ok(()),
        Some(first) => Err(Failure::failed(format!(
            "{} of {} volumes in {} cannot be read, the first is {}",
            damaged.len(),
            found.len(),
            directory.display(),
            first.path.display()
        ))),
    }
}

/// The directories in `directory`, by name.
fn directories(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!(
            "cannot read directory {}: {error}; name one whose directories are volumes",
            directory.display()
        ))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A link to a directory is as good as one.
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// What is in a directory, if that is a volume.
fn look(path: &Path, runtime: &Handle) -> Option<Found> {
    let store = StoreUrl::LocalDirectory(path.to_owned()).open_read_only();
    let newest = store.and_then(|store| Volume::newest_superblock(store, engine_runtime(runtime)));
    let volume = newest.map_err(|error| error.to_string()).transpose()?;
    if matches!(&volume, Ok(newest) if newest.state.change == Change::Tombstone) {
        return None;
    }
    Some(Found {
        path: path.to_owned(),
        volume,
    })
}

impl Found {
    fn json(&self) -> Value {
        let path = self.path.display().to_string();
        match &self.volume {
            Ok(newest) => json!({
                "url": path,
                "volume": newest.volume.to_string(),
                "size": newest.state.size,
                "object_size": newest.state.object_size,
                "closed": newest.state.is_closed(),
                "error": null,
            }),
            Err(error) => json!({ "url": path, "error": error }),
        }
    }

    fn text(&self) -> String {
        let path = self.path.display();
        match &self.volume {
            Ok(newest) => {
                let size = Size(newest.state.size).to_string();
                let state = if newest.state.is_closed() {
                    "closed"
                } else {
                    "open"
                };
                format!("{} {size:>8} {state:<6} {path}\n", newest.volume)
            }
            Err(error) => format!("{:<36} {:>8} {:<6} {path}: {error}\n", "-", "-", "error"),
        }
    }
}
