//! The memory of a server whose store is far slower than its clients.
//!
//! Random writes come over NBD as fast as the server takes them, while the store lets through a
//! fraction of that. What waits for the store grows to many times the memory; the write log has it.
//! Then everything drains, and a new server is asked for every block, each of which carries its
//! address and the number of its last write.

mod load;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::disk;
use crate::figures::{print, verdict, verdict_at_most};
use crate::served::{Resident, Served, resident};
use load::{BLOCK_BYTES, Client, Model};

/// Memory that a server may have beyond its extent map, in MiB.
const TARGET_MEBIBYTES: f64 = 256.0;

/// Share of the disk's bandwidth at which writes are accepted while the store takes next to nothing.
const TARGET_ACCEPTED: f64 = 0.4;

/// How often the memory is looked at, and how often whether all is stored.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const DRAIN_INTERVAL: Duration = Duration::from_millis(500);

/// How much longer than the store needs at its bandwidth the draining may take.
const DRAIN_SLACK: u32 = 3;

/// Mebibytes for all but the data itself: headers in log and store, checkpoints.
const EXTRA_MEBIBYTES: u64 = 512;

/// Memory of a server under random writes over NBD whose store is slow, whatever the backlog
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Mebibytes that are written, and of the disk
    #[arg(long, default_value_t = 8192, value_name = "MIB")]
    size: u64,

    /// Mebibytes of the write log
    #[arg(long, default_value_t = 10240, value_name = "MIB")]
    log_size: u64,

    /// Mebibytes that the store takes in a second
    #[arg(long, default_value_t = 50, value_name = "MIB")]
    bandwidth: u32,

    /// Requests in flight
    #[arg(long, default_value_t = 32)]
    depth: u32,

    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What was measured.
#[derive(Debug)]
struct Outcome {
    disk: f64,
    /// Until the last write and a flush behind it were answered.
    accepted: Duration,
    backlog: u64,
    map_bytes: u64,
    map_extents: u64,
    at_start: Resident,
    at_backlog: Resident,
    /// The most that was seen while writes came, and until all was stored.
    loaded_peak: u64,
    drained: Resident,
    draining: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    refuse_without_room(arguments)?;
    let folder = tempfile::Builder::new()
        .prefix("lsvd-bench-")
        .tempdir_in(&arguments.dir)
        .map_err(|error| format!("{}: {error}", arguments.dir.display()))?;
    let volume = folder.path().join("vol");
    let blocks = (arguments.size << 20) / BLOCK_BYTES as u64;
    let disk = disk::sequential_write(folder.path(), arguments.size.min(2048))?;
    let (model, outcome) = measure(arguments, &volume, blocks, disk)?;
    eprintln!("reading everything back");
    let served = Served::start(&volume, ["--drain-timeout", "10m"])?;
    let client = Client::connect(&Served::socket(&volume), arguments.depth)?;
    let wrong = client.compare(&model)?;
    drop(client);
    served.stop()?;
    outcome.report(arguments, &model)?;
    match wrong {
        None => print("every block is as it was last written\n"),
        Some(wrong) => Err(format!("the volume is not what was written: {wrong}")),
    }
}

/// Log and store together take at most half of what is free.
fn refuse_without_room(arguments: &Arguments) -> Result<(), String> {
    let place = arguments.dir.display();
    let stat = rustix::fs::statvfs(&arguments.dir).map_err(|errno| format!("{place}: {errno}"))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    let needed = arguments.size + arguments.log_size + EXTRA_MEBIBYTES;
    if needed <= free / 2 {
        return Ok(());
    }
    Err(format!(
        "{needed} MiB in {place} would be more than half of the {free} MiB that are free: give a \
         smaller --size and --log-size, or another --dir"
    ))
}

fn measure(
    arguments: &Arguments,
    volume: &Path,
    blocks: u64,
    disk: f64,
) -> Result<(Model, Outcome), String> {
    eprintln!("making the volume");
    let served = Served::start(
        volume,
        [
            "--create",
            &format!("{}M", arguments.size),
            "--log-size",
            &format!("{}M", arguments.log_size),
            "--store-bandwidth",
            &format!("{}M", arguments.bandwidth),
            "--drain-timeout",
            "1h",
        ],
    )?;
    let at_start = resident(served.pid())?;
    let client = Client::connect(&Served::socket(volume), arguments.depth)?;
    eprintln!("writing {} MiB", arguments.size);
    let started = Instant::now();
    let (model, loaded_peak) = watched(served.pid(), || client.write(blocks, blocks))?;
    let accepted = started.elapsed();
    let at_backlog = resident(served.pid())?;
    let status = served.figures()?;
    eprintln!("draining {} MiB", status.at_risk >> 20);
    let draining = drain(arguments, &served)?;
    let drained = resident(served.pid())?;
    drop(client);
    served.stop()?;
    let outcome = Outcome {
        disk,
        accepted,
        backlog: status.at_risk,
        map_bytes: status.map_bytes,
        map_extents: status.map_extents,
        at_start,
        at_backlog,
        loaded_peak,
        drained,
        draining,
    };
    Ok((model, outcome))
}

/// Does `work`, and gives the most memory that a process was seen to have meanwhile.
fn watched<T: Send>(
    pid: u32,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<(T, u64), String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::Acquire) {
                peak = peak.max(resident(pid)?.now);
                std::thread::sleep(SAMPLE_INTERVAL);
            }
            Ok::<u64, String>(peak)
        });
        let done = work();
        over.store(true, Ordering::Release);
        let peak = watcher
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done?, peak?))
    })
}

/// Waits until everything is in the store.
fn drain(arguments: &Arguments, served: &Served) -> Result<Duration, String> {
    let started = Instant::now();
    let needed = arguments.size / u64::from(arguments.bandwidth).max(1);
    let limit = Duration::from_secs(needed + 60) * DRAIN_SLACK;
    loop {
        let left = served.figures()?.at_risk;
        if left == 0 {
            return Ok(started.elapsed());
        }
        if started.elapsed() > limit {
            return Err(format!("{left} bytes are not stored after {limit:?}"));
        }
        std::thread::sleep(DRAIN_INTERVAL);
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
impl Outcome {
    fn report(&self, arguments: &Arguments, model: &Model) -> Result<(), String> {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let accepted = model.bytes_written() as f64 / 1e6 / self.accepted.as_secs_f64();
        let beyond = mebibytes(self.drained.peak.saturating_sub(self.map_bytes));
        let mut text = format!(
            "{} MiB of 4 KiB random writes over NBD, {} in flight; log {} MiB, store {} MiB/s\n\n",
            arguments.size, arguments.depth, arguments.log_size, arguments.bandwidth
        );
        let mut line = |name: &str, figure: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<42}{figure:>12}");
        };
        line(
            "disk, sequential, O_DIRECT, MB/s",
            format!("{:.1}", self.disk),
        );
        line("accepted and flushed, MB/s", format!("{accepted:.1}"));
        line(
            "backlog behind the last write, MiB",
            format!("{:.0}", mebibytes(self.backlog)),
        );
        line(
            "draining it, s",
            format!("{:.1}", self.draining.as_secs_f64()),
        );
        line("extents", self.map_extents.to_string());
        for (name, bytes) in [
            ("memory of the map, MiB", self.map_bytes),
            ("resident: before the first write", self.at_start.now),
            ("resident: most while writes came", self.loaded_peak),
            ("resident: behind the last write", self.at_backlog.now),
            ("resident: drained", self.drained.now),
            ("resident: most of all", self.drained.peak),
        ] {
            line(name, format!("{:.1}", mebibytes(bytes)));
        }
        text.push('\n');
        let what = "accepted / disk, with a store that is far slower";
        text += &verdict("P9", what, accepted / self.disk, TARGET_ACCEPTED);
        let what = "resident memory beyond the map, in MiB";
        text += &verdict_at_most("P9", what, beyond, TARGET_MEBIBYTES);
        print(&text)
    }
}
