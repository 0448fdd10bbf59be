//! The opening of a volume with many extents whose server died with its write log full.
//!
//! A volume is written full of 512-byte extents and closed, so that a checkpoint has them. Then its
//! write log is filled while the store takes nothing, the process that did it kills itself, and a
//! server is timed from its start to the moment when clients can connect. Nothing of the volume is
//! in the page cache then. Beside it stands the time that it takes to read checkpoint and log from
//! the disk, past the page cache. The first time is not counted: only behind it are there two
//! checkpoints, as every volume has them that was used for a while.

pub(crate) mod fill;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use lsvd::Volume;
use lsvd::bytes::checkpoint::Checkpoint;
use lsvd::doors::runtime::TokioRuntime;
use lsvd_store::LocalDirectory;

use crate::disk;
use crate::figures::{Figures, print, table, verdict_at_most};
use crate::process::{json_of, own_program};
use crate::served::Served;

/// What the opening may take of the time to read the same bytes, and on top of it.
const TARGET: f64 = 1.5;
const TARGET_SECONDS: f64 = 1.0;

/// Size of the volume: so large that hardly two of its extents touch.
const VOLUME: &str = "1T";

/// The opening of a volume with many extents and a full write log, beside reading the same bytes
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds, each of which fills the log and opens once
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Extents of 512 bytes in the checkpoint
    #[arg(long, default_value_t = 10_000_000)]
    extents: u64,

    /// Mebibytes of the write log
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    log_size: u64,

    /// Bytes of the writes that fill the log
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    log_write: usize,

    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// The figures of all rounds, in seconds, and what was read in them.
#[derive(Debug, Default)]
struct Rounds {
    opening: Figures,
    empty: Figures,
    reading: Figures,
    checkpoint_mebibytes: Figures,
    log_mebibytes: Figures,
    extents: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let folder = tempfile::Builder::new()
        .prefix("lsvd-bench-")
        .tempdir_in(&arguments.dir)
        .map_err(|error| format!("{}: {error}", arguments.dir.display()))?;
    let volume = folder.path().join("vol");
    let log = volume.join("cache").join("log");
    make(arguments, &volume)?;
    let mut rounds = Rounds::default();
    for round in 0..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        if round == 1 {
            rounds = Rounds::default();
        }
        // The least that any opening takes: process, locks, superblocks, a log with nothing in it.
        let none = Served::start(&volume, serve())?;
        rounds.empty.add(none.ready_after.as_secs_f64());
        none.stop()?;
        fill::in_own_process(&volume, arguments.log_write)?;
        let checkpoint = checkpoint(&volume)?;
        rounds.measure_reading(&checkpoint, &log)?;
        disk::forget(&volume)?;
        let served = Served::start(&volume, serve())?;
        rounds.opening.add(served.ready_after.as_secs_f64());
        rounds.extents = served.figures()?.map_extents;
        // All that waits in the log goes on to the store, and into a checkpoint.
        served.stop()?;
    }
    rounds.report(arguments)
}

/// Makes the volume with all its extents, closed.
fn make(arguments: &Arguments, volume: &Path) -> Result<(), String> {
    eprintln!("writing {} extents", arguments.extents);
    let mut bench = Command::new(own_program("lsvd")?);
    bench.arg("bench").arg(volume);
    bench.args(["--create", VOLUME, "--rw", "randwrite", "--bs", "512"]);
    bench.args(["--runtime", "1h", "--keep", "--json"]);
    bench
        .arg("--total")
        .arg((arguments.extents * 512).to_string());
    bench
        .arg("--log-size")
        .arg(format!("{}M", arguments.log_size));
    json_of(&mut bench).map(drop)
}

/// How the volume is served: an end in order may take as long as all of the log takes to be stored.
const fn serve() -> [&'static str; 2] {
    ["--drain-timeout", "10m"]
}

/// The files of the volume's newest checkpoint: its root, and the older objects that this names.
fn checkpoint(volume: &Path) -> Result<Vec<PathBuf>, String> {
    let text = |error: lsvd::Error| error.to_string();
    let runtime =
        TokioRuntime::start(1).map_err(|error| format!("cannot start threads: {error}"))?;
    let store = LocalDirectory::open_read_only(volume).map_err(text)?;
    let newest = Volume::newest_superblock(Arc::new(store), Arc::new(runtime)).map_err(text)?;
    let newest = newest.ok_or_else(|| format!("no volume in {}", volume.display()))?;
    let kept = newest.state.checkpoints.last();
    let kept =
        kept.ok_or_else(|| format!("the volume in {} has no checkpoint", volume.display()))?;
    let path = |id| volume.join(Checkpoint::name_of(id).to_string());
    let root = path(kept.object);
    let bytes = fs::read(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    let checkpoint = Checkpoint::decode(&bytes, newest.volume, kept.object)
        .map_err(|error| format!("{}: {error}", root.display()))?;
    let mut files = vec![root];
    files.extend(checkpoint.references().into_iter().map(path));
    Ok(files)
}

impl Rounds {
    /// Reads the same bytes, past the page cache.
    fn measure_reading(&mut self, checkpoint: &[PathBuf], log: &Path) -> Result<(), String> {
        let mut seconds = disk::sequential_read(log)?;
        for file in checkpoint {
            seconds += disk::sequential_read(file)?;
        }
        self.reading.add(seconds);
        self.log_mebibytes.add(mebibytes(log)?);
        let mut sum = 0.0;
        for file in checkpoint {
            sum += mebibytes(file)?;
        }
        self.checkpoint_mebibytes.add(sum);
        Ok(())
    }

    fn report(&self, arguments: &Arguments) -> Result<(), String> {
        let row = |name: &str, figures: &Figures| {
            let (median, min, max) = (figures.median(), figures.min(), figures.max());
            let shown = format!("{median:.3} ({min:.3}..{max:.3})");
            vec![name.to_owned(), shown]
        };
        let lines = [
            vec![String::new(), "seconds: median (min..max)".to_owned()],
            row("reading checkpoint and log, O_DIRECT", &self.reading),
            row("opening with an empty log, warm", &self.empty),
            row("opening with a full log, cold", &self.opening),
        ];
        let mut text = format!(
            "{} extents, almost all of 512 bytes; checkpoint {:.0} MiB, log {:.0} MiB full of writes \
             of {} bytes; {} rounds\n\n",
            self.extents,
            self.checkpoint_mebibytes.median(),
            self.log_mebibytes.median(),
            arguments.log_write,
            arguments.rounds
        );
        text += &table(&lines);
        text.push('\n');
        let target = TARGET * self.reading.median() + TARGET_SECONDS;
        let what = "opening, in seconds";
        text += &verdict_at_most("P8", what, self.opening.median(), target);
        print(&text)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(file: &Path) -> Result<f64, String> {
    let metadata = fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(metadata.len() as f64 / f64::from(1 << 20))
}
