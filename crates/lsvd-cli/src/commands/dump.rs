//! `lsvd dump`: any object or write log, field by field, however damaged.

mod checkpoint;
mod data;
mod header;
mod log;
mod report;
mod superblock;

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use clap::Args;
use lsvd::bytes::checkpoint::CHECKPOINT_BYTES_MAX;
use lsvd::bytes::object_header::{FIXED_HEADER_BYTES, MAGIC, ObjectHeader};
use lsvd::words::name::{ObjectKind, ObjectName};
use lsvd_store::StoreUrl;
use rustix::fs::OFlags;

use crate::failure::Failure;
use header::Header;
use report::{Problems, Report};

/// Show an object, or a file of a write log, field by field
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// File of the object or log, or a URL: file:///DIR/OBJECT
    url: StoreUrl,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Every field by its name in docs/format.md, every entry, and for every block whether its checksum
matches. Of a checkpoint every row of its object table and every extent of its map, also those in the
older checkpoint objects that it names, which are looked for in the same directory. Of what is damaged
all is shown that can be read, then what is wrong with it, and the exit code is 1.

Examples:
  lsvd dump /tmp/lsvd/superblock.00000000
  lsvd dump /tmp/lsvd/data.00000000 --json
  lsvd dump /tmp/lsvd/ckpt.00000000
  lsvd dump /tmp/lsvd/cache/log";

/// Largest object that is looked at: none is larger.
const OBJECT_BYTES_MAX: u64 = CHECKPOINT_BYTES_MAX;

/// An object that is to be shown.
struct Dumped<'a> {
    path: &'a Path,
    file: &'a File,
    /// Its length.
    len: u64,
    /// All of its bytes; of a checkpoint, its header.
    bytes: &'a [u8],
    /// What it is by the name of its file, if that is a name of ours.
    name: Option<ObjectName>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let StoreUrl::LocalDirectory(path) = &arguments.url else {
        return Err(Failure::usage(format!(
            "{} holds nothing that was there before; name a file",
            arguments.url
        )));
    };
    // Printed as it comes: of a checkpoint there may be gigabytes.
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut report = Report::new(&mut stdout, arguments.json);
    examine(path, &mut report)?;
    let Problems { told, more } = report.finish().map_err(Failure::from_output)?;
    let (path, more) = (path.display(), told.len().saturating_sub(1) + more);
    match told.first() {
        None => Ok(()),
        Some(first) if more == 0 => Err(Failure::failed(format!("{path} does not check: {first}"))),
        Some(first) => Err(Failure::failed(format!(
            "{path} does not check: {first}, and {more} more"
        ))),
    }
}

/// Says what there is to say of the file.
fn examine(path: &Path, report: &mut Report<'_>) -> Result<(), Failure> {
    let place = path.display();
    let failed =
        |error: io::Error| Failure::failed(format!("cannot read {place}: {error}; name a file"));
    let (file, len) = open(path).map_err(failed)?;
    let name = path.file_name().and_then(|name| name.to_str());
    if log::show(&file, len, name, report).map_err(failed)? {
        return Ok(());
    }
    let first = read(&file, 0, FIXED_HEADER_BYTES).map_err(failed)?;
    let name = name.and_then(ObjectName::parse);
    if !first.starts_with(&MAGIC) && name.is_none() {
        return Err(Failure::failed(format!(
            "{place} is neither an object nor a write log, by its content or by its name"
        )));
    }
    if len > OBJECT_BYTES_MAX {
        return Err(Failure::failed(format!(
            "{place} has {len} bytes, which no object has, and is no write log"
        )));
    }
    // What was damaged at its very beginning is what its name says.
    let kind = claimed_kind(&first).or_else(|| Some(name?.kind));
    let bytes = read(&file, 0, needed(kind, &first)).map_err(failed)?;
    let dumped = Dumped {
        path,
        file: &file,
        len,
        bytes: &bytes,
        name,
    };
    dumped.show(kind, report).map_err(failed)
}

/// Opens a file and says how long it is. Anything else is refused, and not waited for, as a FIFO is
/// that nobody writes to.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = File::options();
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(nonblock).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "it is no regular file"));
    }
    Ok((file, metadata.len()))
}

fn claimed_kind(bytes: &[u8]) -> Option<ObjectKind> {
    let claimed = ObjectHeader::claimed_lengths(bytes).ok()?.kind;
    let kinds = [
        ObjectKind::Data,
        ObjectKind::Checkpoint,
        ObjectKind::Superblock,
    ];
    kinds.into_iter().find(|kind| *kind as u8 == claimed)
}

/// How many bytes of an object are needed at once, by the first of them.
fn needed(kind: Option<ObjectKind>, first: &[u8]) -> usize {
    let whole = usize::try_from(OBJECT_BYTES_MAX).unwrap_or(usize::MAX);
    if kind != Some(ObjectKind::Checkpoint) {
        return whole;
    }
    let claimed = header::claimed_header_len(first);
    claimed.clamp(checkpoint::HEADER_BYTES_MIN, checkpoint::HEADER_BYTES_MAX)
}

/// Reads `len` bytes from `offset` on, fewer where the file ends.
fn read(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let there = file.metadata()?.len().saturating_sub(offset);
    let len = len.min(usize::try_from(there).unwrap_or(usize::MAX));
    let mut bytes = vec![0; len];
    let mut count = 0;
    while count < len {
        match file.read_at(&mut bytes[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(count);
    Ok(bytes)
}

impl Dumped<'_> {
    fn show(&self, kind: Option<ObjectKind>, report: &mut Report<'_>) -> io::Result<()> {
        let named = kind.map(|kind| kind.to_string());
        report.begin(named.as_deref());
        report.field_of("file", "bytes", self.len);
        let header = Header::read(self, kind, report);
        match kind {
            Some(ObjectKind::Data) => data::show(self.bytes, &header, report),
            Some(ObjectKind::Checkpoint) => checkpoint::show(self, &header, report)?,
            Some(ObjectKind::Superblock) => superblock::show(self.bytes, &header, report),
            None => report.problem("it is an object of no kind that is known here"),
        }
        Ok(())
    }
}
