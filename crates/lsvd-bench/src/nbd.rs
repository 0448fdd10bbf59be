//! NBD servers on unix sockets beside one another: ours, qemu-nbd, nbdkit.
//!
//! Each gets the same load from fio's NBD client, in turns, with a fresh server and fresh storage
//! each time: the disk is written once, then 4 KiB blocks at random places, then those are read.

pub(crate) mod load;
pub(crate) mod servers;

use std::path::PathBuf;

use clap::Args;

use crate::figures::{Figures, in_turns, print, table, verdict};
use load::Load;
use servers::{Kind, Storage};

/// 4 KiB random writes and reads over NBD beside qemu-nbd and nbdkit
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds, each of which measures every server once
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    runtime: u32,

    /// Mebibytes of the disk, all of which is written first
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    size: u64,

    /// Requests in flight
    #[arg(long, default_value_t = 32)]
    depth: u32,

    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What one server reached.
#[derive(Debug)]
struct Row {
    kind: Kind,
    /// Thousands of requests in a second.
    writes: Figures,
    reads: Figures,
    /// What the client would reach if it never had to wait, by the processor time it took.
    write_ceiling: Figures,
    read_ceiling: Figures,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut rows: Vec<Row> = Vec::new();
    for kind in Kind::ALL {
        match kind.unavailable() {
            None => rows.push(Row {
                kind,
                writes: Figures::default(),
                reads: Figures::default(),
                write_ceiling: Figures::default(),
                read_ceiling: Figures::default(),
            }),
            Some(reason) => eprintln!("{} is left out: {reason}", kind.name()),
        }
    }
    in_turns(arguments.rounds, &mut rows, |row| measure(arguments, row))?;
    report(arguments, &rows)
}

fn measure(arguments: &Arguments, row: &mut Row) -> Result<(), String> {
    let storage = Storage::new(&arguments.dir, arguments.size << 20)?;
    let server = row.kind.start(&storage)?;
    let load = Load {
        uri: storage.uri(),
        mebibytes: arguments.size,
        depth: arguments.depth,
        seconds: arguments.runtime,
    };
    load.fill()?;
    let writes = load.random("randwrite")?;
    let reads = load.random("randread")?;
    drop(server);
    row.writes.add(writes.thousands);
    row.reads.add(reads.thousands);
    row.write_ceiling.add(writes.ceiling);
    row.read_ceiling.add(reads.ceiling);
    Ok(())
}

/// The rows of several kinds, the fastest first in mind: the best median of them.
fn best(rows: &[Row], kinds: &[Kind], figures: fn(&Row) -> &Figures) -> f64 {
    rows.iter()
        .filter(|row| kinds.contains(&row.kind))
        .map(|row| figures(row).median())
        .fold(0.0, f64::max)
}

fn report(arguments: &Arguments, rows: &[Row]) -> Result<(), String> {
    let writes: fn(&Row) -> &Figures = |row| &row.writes;
    let reads: fn(&Row) -> &Figures = |row| &row.reads;
    let ours = |figures| best(rows, &[Kind::Lsvd], figures);
    let head = [
        "thousands of requests in a second",
        "write: median (min..max)",
        "lsvd / it",
        "read: median (min..max)",
        "lsvd / it",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let ratio = |figures: fn(&Row) -> &Figures| ours(figures) / figures(row).median();
        lines.push(vec![
            row.kind.name().to_owned(),
            row.writes.show(),
            format!("{:.2}", ratio(writes)),
            row.reads.show(),
            format!("{:.2}", ratio(reads)),
        ]);
    }
    let mut text = format!(
        "4 KiB, {} in flight, one connection, {} MiB, {} s each, {} rounds in turns\n\n",
        arguments.depth, arguments.size, arguments.runtime, arguments.rounds
    );
    text += &table(&lines);
    text.push('\n');
    text += &verdicts(rows, writes, reads);
    print(&text)
}

/// The targets of the design, one line each, met or not.
fn verdicts(rows: &[Row], writes: fn(&Row) -> &Figures, reads: fn(&Row) -> &Figures) -> String {
    let qemu_raw = [Kind::QemuFile, Kind::QemuFileUring];
    let against =
        |kinds: &[Kind], figures| best(rows, &[Kind::Lsvd], figures) / best(rows, kinds, figures);
    let mut text = String::new();
    text += &verdict(
        "P4",
        "writes / nbdkit file",
        against(&[Kind::NbdkitFile], writes),
        2.0,
    );
    text += &verdict(
        "P4",
        "writes / best qemu-nbd raw file",
        against(&qemu_raw, writes),
        2.0,
    );
    for (name, figures, ceiling) in [
        (
            "writes",
            writes,
            (|row| &row.write_ceiling) as fn(&Row) -> &Figures,
        ),
        ("reads", reads, |row| &row.read_ceiling),
    ] {
        let null = best(rows, &[Kind::LsvdNull], figures);
        let qemu = best(rows, &[Kind::QemuNull], figures);
        let ceiling = best(rows, &[Kind::LsvdNull], ceiling);
        text += &format!(
            "   client ceiling, {name}: about {ceiling:.0} thousand by the client's processor time\n"
        );
        // Whichever is lower is to be reached.
        let target = (1.5 * qemu).min(0.9 * ceiling);
        let what = format!("null device, {name} in thousands");
        text += &verdict("P4", &what, null, target);
    }
    text += &verdict(
        "P5",
        "reads / nbdkit file",
        against(&[Kind::NbdkitFile], reads),
        1.5,
    );
    text += &verdict(
        "P5",
        "reads / best qemu-nbd raw file",
        against(&qemu_raw, reads),
        1.5,
    );
    text
}
