//! Random writes inside the process, beside what the disk itself can do.
//!
//! `lsvd bench` writes through a whole volume into a directory, once without and once with a write
//! log in the same directory; fio writes one file on the same disk past the page cache, one byte
//! after the other. They take turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::disk;
use crate::figures::{Figures, print, table, verdict};
use crate::process::{json_of, own_program};

/// Share of the disk's bandwidth that random writes are to reach.
const TARGET: f64 = 0.8;

/// The same where every byte is written twice, to the log and to the store.
const TARGET_LASTING: f64 = 0.4;

/// 4 KiB random writes in this process beside the disk's own sequential O_DIRECT bandwidth
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// Mebibytes written by each measurement
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    size: u64,

    /// Threads that write
    #[arg(long, default_value_t = 2)]
    threads: u16,

    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let lsvd = own_program("lsvd")?;
    let folder = tempfile::Builder::new()
        .prefix("lsvd-bench-")
        .tempdir_in(&arguments.dir)
        .map_err(|error| format!("{}: {error}", arguments.dir.display()))?;
    let mut disk = Figures::default();
    let mut plain = Figures::default();
    let mut slow = Figures::default();
    let mut lasting = Figures::default();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        disk.add(disk::sequential_write(folder.path(), arguments.size)?);
        let ephemeral: &[_] = &["--ephemeral"];
        plain.add(random(arguments, &lsvd, folder.path(), ephemeral)?);
        let distant: &[_] = &["--ephemeral", "--store-latency", "5ms..10ms"];
        slow.add(random(arguments, &lsvd, folder.path(), distant)?);
        lasting.add(random(arguments, &lsvd, folder.path(), &[])?);
    }
    report(arguments, &disk, [&plain, &slow, &lasting])
}

/// A volume on the same disk, in MB/s until the last byte is stored.
fn random(arguments: &Arguments, lsvd: &Path, folder: &Path, kind: &[&str]) -> Result<f64, String> {
    let mut bench = Command::new(lsvd);
    bench.arg("bench").arg(folder.join("vol"));
    bench.args(["--rw", "randwrite", "--bs", "4K", "--json"]);
    bench.args(["--create", "4G", "--runtime", "1h"]);
    bench.args(["--threads", &arguments.threads.to_string()]);
    bench.args(["--total", &format!("{}M", arguments.size)]);
    let report = json_of(bench.args(kind))?;
    report["stored_mb_per_second"]
        .as_f64()
        .ok_or_else(|| format!("lsvd bench measured nothing: {report}"))
}

fn report(
    arguments: &Arguments,
    disk: &Figures,
    [plain, slow, lasting]: [&Figures; 3],
) -> Result<(), String> {
    let share = |figures: &Figures| figures.median() / disk.median();
    let row = |name: &str, figures: &Figures| {
        let share = format!("{:.2}", share(figures));
        vec![name.to_owned(), figures.show(), share]
    };
    let rows = [
        ["", "MB/s: median (min..max)", "of the disk"]
            .map(str::to_owned)
            .to_vec(),
        row("disk, sequential, O_DIRECT", disk),
        row("volume, random 4 KiB", plain),
        row("volume, random 4 KiB, store latency 5..10 ms", slow),
        row("volume that lasts, random 4 KiB", lasting),
    ];
    let mut text = format!(
        "{} MiB each, {} threads, {} rounds in turns\n\n",
        arguments.size, arguments.threads, arguments.rounds
    );
    text += &table(&rows);
    text.push('\n');
    text += &verdict("P2", "random writes / disk", share(plain), TARGET);
    text += &verdict(
        "P2",
        "random writes with latency / disk",
        share(slow),
        TARGET,
    );
    let what = "random writes with a log on the same disk / disk";
    text += &verdict("P3", what, share(lasting), TARGET_LASTING);
    print(&text)
}
