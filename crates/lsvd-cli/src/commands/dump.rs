//! `lsvd dump`: any object or write log, field by field, however damaged.

mod checkpoint;
mod data;
mod header;
mod log;
mod report;
mod superblock;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use clap::Args;
use lsvd::bytes::object_header::{MAGIC, ObjectHeader};
use lsvd::words::name::{ObjectKind, ObjectName};
use lsvd_store::StoreUrl;

use crate::failure::Failure;
use header::Header;
use report::Report;

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
matches. Of what is damaged all is shown that can be read, then what is wrong with it, and the exit
code is 1.

Examples:
  lsvd dump /tmp/lsvd/superblock.00000000
  lsvd dump /tmp/lsvd/data.00000000 --json";

/// Largest object that is looked at: far more than any has.
const OBJECT_BYTES_MAX: u64 = 4 << 30;

/// A file that is to be shown.
struct Dumped<'a> {
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
    let report = examine(path)?;
    let text = if arguments.json {
        report.json()
    } else {
        report.text()
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    let (path, more) = (path.display(), report.problems.len().saturating_sub(1));
    match report.problems.first() {
        None => Ok(()),
        Some(first) if more == 0 => Err(Failure::failed(format!("{path} does not check: {first}"))),
        Some(first) => Err(Failure::failed(format!(
            "{path} does not check: {first}, and {more} more"
        ))),
    }
}

/// What there is to say of the file.
fn examine(path: &Path) -> Result<Report, Failure> {
    let place = path.display();
    let failed =
        |error: io::Error| Failure::failed(format!("cannot read {place}: {error}; name a file"));
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if let Some(report) = log::report(&file, len).map_err(failed)? {
        return Ok(report);
    }
    if len > OBJECT_BYTES_MAX {
        return Err(Failure::failed(format!(
            "{place} has {len} bytes, which no object has, and is no write log"
        )));
    }
    let mut bytes = Vec::new();
    let mut limited = file.take(OBJECT_BYTES_MAX);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let dumped = Dumped {
        bytes: &bytes,
        name: name.and_then(ObjectName::parse),
    };
    dumped.report().ok_or_else(|| {
        Failure::failed(format!(
            "{place} is neither an object nor a write log, by its content or by its name"
        ))
    })
}

impl Dumped<'_> {
    /// What there is to say; nothing where it is nothing of ours.
    fn report(&self) -> Option<Report> {
        // What was damaged at its very beginning is what its name says.
        let said = self.name.map(|name| name.kind);
        let kind = if self.bytes.starts_with(&MAGIC) {
            self.claimed_kind().or(said)
        } else {
            Some(said?)
        };
        let mut report = Report::new(kind.map(|kind| kind.to_string()));
        report.field_of("file", "bytes", self.bytes.len());
        let header = Header::read(self, kind, &mut report);
        match kind {
            Some(ObjectKind::Data) => data::show(self.bytes, &header, &mut report),
            Some(ObjectKind::Checkpoint) => checkpoint::show(self.bytes, &header, &mut report),
            Some(ObjectKind::Superblock) => superblock::show(self.bytes, &header, &mut report),
            None => report.problem("it is an object of no kind that is known here"),
        }
        Some(report)
    }

    fn claimed_kind(&self) -> Option<ObjectKind> {
        let claimed = ObjectHeader::claimed_lengths(self.bytes).ok()?.kind;
        let kinds = [
            ObjectKind::Data,
            ObjectKind::Checkpoint,
            ObjectKind::Superblock,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == claimed)
    }
}
