//! `lsvd info`: what a volume consists of, read from its objects and nothing else.

mod summary;

use std::io::Write;

use clap::Args;
use lsvd::bytes::data_object::{DataHeader, FIXED_HEADER_BYTES, ObjectError};
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use lsvd::words::name::{ObjectName, VolumeUuid};
use lsvd_store::StoreUrl;

use super::volume;
use crate::failure::Failure;
use summary::Summary;

/// Show what a volume consists of: objects, bytes, identity
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
writable, and the volume may be in use meanwhile: what is not in the store yet is not seen.

Examples:
  lsvd info /tmp/lsvd
  lsvd info /tmp/lsvd --json";

/// First read of an object. Holds the header of an object with 250 writes; a longer one costs a
/// second read.
const FIRST_READ_BYTES: u64 = 4096;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime = volume::start_runtime()?;
    let store = arguments.url.open_read_only();
    let store = store.map_err(|error| Failure::failed(error.to_string()))?;
    let summary = runtime.block_on(summarize(store.as_ref()))?;
    let text = if arguments.json {
        summary.json()
    } else {
        summary.text()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    match summary.damaged.first() {
        None if summary.objects == 0 => Err(Failure::failed(format!(
            "{} holds no object of a volume: name the directory that lsvd serve was given",
            summary.location,
        ))),
        None => Ok(()),
        Some(first) => Err(Failure::failed(format!(
            "{} of {} objects in {} do not check, the first is {first}",
            summary.damaged.len(),
            summary.objects + summary.damaged.len() as u64,
            summary.location,
        ))),
    }
}

async fn summarize(store: &dyn ObjectStore) -> Result<Summary, Failure> {
    let mut summary = Summary::new(store.url());
    let mut objects = Vec::new();
    for listed in store.list().await.map_err(Failure::from)? {
        match ObjectName::parse(&listed.name) {
            Some(name) => objects.push((name, listed)),
            None => summary.foreign += 1,
        }
    }
    // Names never sort as text.
    objects.sort_unstable_by_key(|(name, _)| name.id);
    for (name, listed) in objects {
        match read_header(store, summary.volume, name, &listed).await {
            Ok(header) => summary.add(&header, listed.bytes),
            Err(reason) => summary.damaged.push(format!("{name}: {reason}")),
        }
    }
    Ok(summary)
}

/// The header of an object of `volume`, or of any where that is not known yet; or what is wrong
/// with it.
async fn read_header(
    store: &dyn ObjectStore,
    volume: Option<VolumeUuid>,
    name: ObjectName,
    listed: &ListedObject,
) -> Result<DataHeader, String> {
    let show = |error: StoreError| Failure::from(error).to_string();
    if listed.bytes < FIXED_HEADER_BYTES as u64 {
        return Err(format!("{} bytes are no object", listed.bytes));
    }
    let first = listed.bytes.min(FIRST_READ_BYTES);
    let mut bytes = store
        .get_range(&listed.name, 0..first)
        .await
        .map_err(show)?;
    let mut decoded = DataHeader::decode(&bytes);
    if let Err(ObjectError::Truncated { needed }) = decoded
        && needed as u64 <= listed.bytes
    {
        let all = 0..needed as u64;
        bytes = store.get_range(&listed.name, all).await.map_err(show)?;
        decoded = DataHeader::decode(&bytes);
    }
    let header = decoded.map_err(|error| error.to_string())?;
    header
        .check_identity(volume.unwrap_or(header.volume), name)
        .map_err(|error| error.to_string())?;
    let expected = header
        .layout()
        .map_err(|error| error.to_string())?
        .object_len();
    if expected != listed.bytes {
        let found = listed.bytes;
        return Err(ObjectError::ObjectLength { expected, found }.to_string());
    }
    Ok(header)
}
