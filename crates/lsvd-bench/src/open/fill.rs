//! Filling the write log of a volume to the brim, and dying with it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use lsvd::doors::disk::{Directory, LocalDisk};
use lsvd::doors::runtime::TokioRuntime;
use lsvd::{OpenOptions, Volume};
use lsvd_store::{Fault, Faulty, LocalDirectory, Missing, Occupied, Verb};
use rustix::process::{Signal, kill_process};

/// Who the next opener is told had the volume before.
const MACHINE: &str = "lsvd-bench";

/// A log that took nothing for so long, with all its segments in use, is full.
const FULL_AFTER: Duration = Duration::from_millis(500);

/// A log that is not full and took nothing for so long never will.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What is written of: more than one request, so that not all of them look the same.
const SOURCE_BYTES: usize = 8 << 20;

/// Fill the write log of a volume, of which the store takes nothing, and die by SIGKILL
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory of the volume
    volume: PathBuf,

    /// Bytes in a request
    #[arg(long)]
    write: usize,
}

/// Does it in a process of its own, which dies as the process of a server would.
pub(crate) fn in_own_process(volume: &Path, write: usize) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut fill = Command::new(program);
    fill.arg("fill-log").arg(volume);
    let status = fill
        .args(["--write", &write.to_string()])
        .status()
        .map_err(|error| format!("cannot start {fill:?}: {error}"))?;
    if status.signal() == Some(Signal::KILL.as_raw()) {
        Ok(())
    } else {
        Err(format!("{fill:?} ended with {status}, not by its own hand"))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let text = |error: lsvd::Error| error.to_string();
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let runtime = Arc::new(TokioRuntime::on(threads.handle().clone()));
    let store = LocalDirectory::open_volume(&arguments.volume, Missing::Refuse, Occupied::Refuse);
    let store = Faulty::new(Arc::new(store.map_err(text)?));
    store.fail_next_of("data.", Verb::Put, u64::MAX, Fault::Hang);
    let place = arguments.volume.join("cache");
    let disk: Arc<dyn LocalDisk> =
        Directory::open(place, threads.handle().clone()).map_err(|error| error.to_string())?;
    let volume = Volume::open(Arc::new(store), &disk, runtime, &OpenOptions::new(MACHINE));
    let volume = volume.map_err(text)?;
    fill(&volume, arguments.write)?;
    volume.flush().map_err(text)?;
    kill_process(rustix::process::getpid(), Signal::KILL)
        .map_err(|errno| format!("cannot kill this process: {errno}"))
}

/// Writes at random places until nothing fits any more. The places are the same each time, so that
/// the volume does not grow from round to round.
fn fill(volume: &Volume, write: usize) -> Result<(), String> {
    let places = volume.size() / write as u64;
    let mut random = fastrand::Rng::with_seed(1);
    let mut source = vec![0; SOURCE_BYTES + write];
    random.fill(&mut source);
    let mut waiting_since: Option<Instant> = None;
    let mut place = random.u64(0..places);
    loop {
        let from = random.usize(0..SOURCE_BYTES);
        let done = volume.try_write(place * write as u64, &source[from..from + write]);
        if let Some(done) = done {
            done.map_err(|error| error.to_string())?;
            place = random.u64(0..places);
            waiting_since = None;
            continue;
        }
        let status = volume.status();
        let waited = waiting_since.get_or_insert_with(Instant::now).elapsed();
        if status.log_used_bytes == status.log_bytes && waited > FULL_AFTER {
            return Ok(());
        }
        if waited > STUCK_AFTER {
            return Err(format!("the log takes nothing and is not full: {status:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
