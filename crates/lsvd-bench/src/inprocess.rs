//! Random writes inside the process, beside what the disk itself can do.
//!
//! `lsvd bench` writes through a whole volume into a directory; fio writes one file on the same
//! disk past the page cache, one byte after the other. They take turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::figures::{Figures, print, table, verdict};
use crate::process::{json_of, own_program};

/// Share of the disk's bandwidth that random writes are to reach.
const TARGET: f64 = 0.8;

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
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        disk.add(sequential(arguments, folder.path())?);
        plain.add(random(arguments, &lsvd, folder.path(), None)?);
        slow.add(random(arguments, &lsvd, folder.path(), Some("5ms..10ms"))?);
    }
    report(arguments, &disk, &plain, &slow)
}

/// The disk alone, in MB/s.
fn sequential(arguments: &Arguments, folder: &Path) -> Result<f64, String> {
    let mut fio = Command::new("fio");
    fio.args([
        "--name=disk",
        "--ioengine=libaio",
        "--direct=1",
        "--rw=write",
    ]);
    fio.args(["--bs=8m", "--iodepth=8", "--end_fsync=1", "--unlink=1"]);
    fio.arg(format!("--size={}m", arguments.size));
    fio.arg(format!("--directory={}", folder.display()));
    fio.arg("--output-format=json");
    let report = json_of(&mut fio)?;
    let write = &report["jobs"][0]["write"];
    let bytes_per_second = write["bw_bytes"].as_f64();
    bytes_per_second
        .filter(|bandwidth| *bandwidth > 0.0)
        .map(|bandwidth| bandwidth / 1e6)
        .ok_or_else(|| format!("fio measured nothing: {report}"))
}

/// A volume on the same disk, in MB/s until the last byte is stored.
fn random(
    arguments: &Arguments,
    lsvd: &Path,
    folder: &Path,
    latency: Option<&str>,
) -> Result<f64, String> {
    let mut bench = Command::new(lsvd);
    bench.arg("bench").arg(folder.join("vol"));
    bench.args(["--ephemeral", "--rw", "randwrite", "--bs", "4K", "--json"]);
    bench.args(["--create", "4G", "--runtime", "1h"]);
    bench.args(["--threads", &arguments.threads.to_string()]);
    bench.args(["--total", &format!("{}M", arguments.size)]);
    if let Some(latency) = latency {
        bench.args(["--store-latency", latency]);
    }
    let report = json_of(&mut bench)?;
    report["stored_mb_per_second"]
        .as_f64()
        .ok_or_else(|| format!("lsvd bench measured nothing: {report}"))
}

fn report(
    arguments: &Arguments,
    disk: &Figures,
    plain: &Figures,
    slow: &Figures,
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
    print(&text)
}
