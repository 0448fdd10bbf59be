//! Writes that are flushed one by one, over NBD: what databases and file systems wait for.
//!
//! Ours with its write log beside qemu-nbd on a raw file that is all there, in turns, with a fresh
//! server and fresh storage each time. The disk itself, past the page cache and without a server,
//! shows what both could reach.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::disk;
use crate::figures::{Figures, in_turns, print, table, verdict};
use crate::nbd::load::Load;
use crate::nbd::servers::{Kind, Storage};
use crate::process::json_of;

/// Connections at once, each with one request after the other.
const CONNECTIONS: [u32; 2] = [1, 16];

/// What ours is to reach of the best of qemu-nbd, with so many connections.
const TARGETS: [f64; 2] = [0.9, 3.0];

/// 4 KiB random writes over NBD, each followed by a flush, beside qemu-nbd
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds, each of which measures every server once
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    runtime: u32,

    /// Mebibytes of the disk, all of which is written first
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    size: u64,

    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Disk,
    Server(Kind),
}

/// What one of them reached: thousands of flushed writes in a second, for each of [`CONNECTIONS`].
#[derive(Debug)]
struct Row {
    subject: Subject,
    writes: [Figures; 2],
}

impl Subject {
    const ALL: [Self; 4] = [
        Self::Server(Kind::LsvdLasting),
        Self::Server(Kind::QemuFile),
        Self::Server(Kind::QemuFileUring),
        Self::Disk,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Disk => "the disk, O_DIRECT and fdatasync",
            Self::Server(kind) => kind.name(),
        }
    }

    fn unavailable(self) -> Option<String> {
        match self {
            Self::Disk => None,
            Self::Server(kind) => kind.unavailable(),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut rows: Vec<Row> = Vec::new();
    for subject in Subject::ALL {
        match subject.unavailable() {
            None => rows.push(Row {
                subject,
                writes: Default::default(),
            }),
            Some(reason) => eprintln!("{} is left out: {reason}", subject.name()),
        }
    }
    in_turns(arguments.rounds, &mut rows, |row| measure(arguments, row))?;
    report(arguments, &rows)
}

fn measure(arguments: &Arguments, row: &mut Row) -> Result<(), String> {
    let storage = Storage::new(&arguments.dir, arguments.size << 20)?;
    match row.subject {
        Subject::Disk => {
            let file = storage.file()?;
            fill_file(&file, arguments.size)?;
            for (connections, figures) in CONNECTIONS.into_iter().zip(&mut row.writes) {
                figures.add(disk::synced_writes(&file, connections, arguments.runtime)?);
            }
        }
        Subject::Server(kind) => {
            let _server = kind.start(&storage)?;
            let load = Load {
                uri: storage.uri(),
                mebibytes: arguments.size,
                depth: 1,
                seconds: arguments.runtime,
            };
            load.fill()?;
            for (connections, figures) in CONNECTIONS.into_iter().zip(&mut row.writes) {
                figures.add(load.flushed_writes(connections)?);
            }
        }
    }
    Ok(())
}

fn fill_file(file: &Path, mebibytes: u64) -> Result<(), String> {
    let mut fio = Command::new("fio");
    fio.args(["--name=fill", "--ioengine=psync", "--output-format=json"]);
    fio.args(["--rw=write", "--bs=1m", "--end_fsync=1"]);
    fio.arg(format!("--filename={}", file.display()));
    fio.arg(format!("--size={mebibytes}m"));
    json_of(&mut fio).map(drop)
}

/// The best median of these kinds of servers.
fn best(rows: &[Row], kinds: &[Kind], which: usize) -> f64 {
    rows.iter()
        .filter(|row| matches!(row.subject, Subject::Server(kind) if kinds.contains(&kind)))
        .map(|row| row.writes[which].median())
        .fold(0.0, f64::max)
}

fn report(arguments: &Arguments, rows: &[Row]) -> Result<(), String> {
    let ours = |which| best(rows, &[Kind::LsvdLasting], which);
    let mut head = vec!["thousands of flushed writes in a second".to_owned()];
    for connections in CONNECTIONS {
        head.push(format!("{connections} at once: median (min..max)"));
        head.push("lsvd / it".to_owned());
    }
    let mut lines = vec![head];
    for row in rows {
        let mut line = vec![row.subject.name().to_owned()];
        for (which, figures) in row.writes.iter().enumerate() {
            line.push(figures.show());
            line.push(format!("{:.2}", ours(which) / figures.median()));
        }
        lines.push(line);
    }
    let mut text = format!(
        "4 KiB random writes with a flush behind each, {} MiB, {} s each, {} rounds in turns\n\n",
        arguments.size, arguments.runtime, arguments.rounds
    );
    text += &table(&lines);
    text.push('\n');
    let qemu_raw = [Kind::QemuFile, Kind::QemuFileUring];
    for (which, connections) in CONNECTIONS.into_iter().enumerate() {
        let what = format!("flushed writes, {connections} at once / best qemu-nbd raw file");
        let ratio = ours(which) / best(rows, &qemu_raw, which);
        text += &verdict("P6", &what, ratio, TARGETS[which]);
    }
    print(&text)
}
