//! `lsvd bench`: drives a volume inside this process, like a very small fio.
//!
//! What it measures is the engine and the store; no socket, no protocol. Random data, so that no
//! store can cheat by compressing it.

mod measured;
mod report;
mod worker;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lsvd::Volume;
use lsvd::words::text::{Size, duration};

use super::volume::lasting::Durability;
use super::volume::{self, VolumeArguments};
use crate::failure::Failure;
use measured::{Kind, Measured};
use report::Report;
use worker::{Plan, Tally};

/// Measure a volume in this process: throughput and latency without a network
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    volume: VolumeArguments,

    /// Size of the volume, all of which is used
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 30), help_heading = "Volume")]
    create: Size,

    /// Bytes of the write log
    #[arg(
        long,
        value_name = "SIZE",
        default_value_t = Size(1 << 30),
        help_heading = "Durability",
        conflicts_with = "ephemeral"
    )]
    log_size: Size,

    /// When a write is answered
    #[arg(
        long,
        value_enum,
        default_value_t = Durability::Writeback,
        help_heading = "Durability",
        conflicts_with = "ephemeral"
    )]
    durability: Durability,

    /// Flush after so many writes of a thread, which is a part of the last one's latency
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Workload"
    )]
    fsync: Option<u32>,

    /// What to do
    #[arg(long, value_enum, default_value_t = Pattern::Randwrite, help_heading = "Workload")]
    rw: Pattern,

    /// Bytes in a request
    #[arg(long, value_name = "SIZE", default_value_t = Size(4096), help_heading = "Workload")]
    bs: Size,

    /// Threads, each with one request at a time
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=1024),
        help_heading = "Workload"
    )]
    threads: u16,

    /// How long to run
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration,
        help_heading = "Workload"
    )]
    runtime: Duration,

    /// End sooner, when so many bytes are done
    #[arg(long, value_name = "SIZE", help_heading = "Workload")]
    total: Option<Size>,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,

    /// Leave the objects in the directory; otherwise those of this run are removed
    #[arg(long)]
    keep: bool,
}

const AFTER_HELP: &str = "\
The volume is made for the run, so the directory must be empty or absent: one that holds anything is
refused with exit code 1, and keeps it. At the end what the run made is removed, unless --keep is
given; the directory stays. Without --ephemeral the volume is one that lasts, with its write log in
the directory as well.

Reading patterns first write the whole volume once, which is not measured. For writing patterns
the rate `stored` counts the time until the last object is in the store; the rate `answered` does
not, and exceeds it by what fits in memory.

Examples:
  lsvd bench /mnt/ssd/scratch --ephemeral --rw randwrite --bs 4K --threads 2 --total 4G
  lsvd bench /mnt/ssd/scratch --rw randwrite --fsync 1 --threads 16 --log-size 1G
  lsvd bench memory:// --ephemeral --rw randread --runtime 5s --json
  lsvd bench /mnt/ssd/scratch --ephemeral --store-latency 5ms..10ms";

/// What the threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Write at random places
    Randwrite,
    /// Read at random places
    Randread,
    /// Write one place after the other
    Write,
    /// Read one place after the other
    Read,
}

impl Pattern {
    const fn writes(self) -> bool {
        matches!(self, Self::Randwrite | Self::Write)
    }

    const fn random(self) -> bool {
        matches!(self, Self::Randwrite | Self::Randread)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Randwrite => "randwrite",
            Self::Randread => "randread",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let kind = Kind::new(arguments)?;
    let plan = Plan::new(arguments)?;
    let runtime = volume::start_runtime()?;
    let handle = runtime.handle();
    let measured = Measured::make(kind, arguments, handle)?;
    let outcome = measure(&measured.volume, &plan, arguments);
    // Closing stores what is left even where the run failed: the error of the run is then shown.
    let closing = Instant::now();
    let closed = measured.volume.close();
    let report = outcome.map(|tally| Report::new(arguments, tally, closing.elapsed()));
    let report = report?;
    // Objects may still be stored behind a failed close, so what is there is left for people to see.
    closed?;
    if !arguments.keep {
        measured.remove(handle)?;
    }
    report.print(arguments.json)
}

fn measure(volume: &Volume, plan: &Plan, arguments: &Arguments) -> Result<Tally, Failure> {
    if !arguments.rw.writes() {
        plan.fill(volume)?;
    }
    Ok(plan.run(volume)?)
}
