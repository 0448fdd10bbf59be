//! Checkpoints of large maps: their size, how long they take, what writers notice, and opening from
//! them beside reading the same bytes past the page cache.
//!
//! Of the data objects only the headers are kept, in memory, so that ten million extents of 4 KiB
//! need no 40 GiB of disk; checkpoints and superblocks lie in a directory.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;

use lsvd::doors::BoxFuture;
use lsvd::doors::disk::{Directory, LocalDisk};
use lsvd::doors::runtime::TokioRuntime;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use lsvd::{CreateOptions, FlushTarget, OpenOptions as VolumeOptions, Volume};
use lsvd_store::LocalDirectory;

use crate::figures::{Figures, print, table, verdict};
use crate::random::Random;

const BLOCK: usize = 4096;

/// Checkpoint and opening of a volume with many extents
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Size of the volume
    #[arg(long, default_value_t = 40, value_name = "GIB")]
    volume: u64,

    /// Number of extents, random blocks of 4 KiB
    #[arg(long, default_value_t = 10_000_000)]
    extents: u64,

    /// Openings, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// A directory on the disk for the checkpoints
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    measure(arguments).map_err(|error| error.to_string())
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn measure(arguments: &Arguments) -> Outcome<()> {
    let folder = tempfile::Builder::new()
        .prefix("lsvd-bench-")
        .tempdir_in(&arguments.dir)?;
    let store = Arc::new(HeadersAlone::open(folder.path())?);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let runtime = Arc::new(TokioRuntime::on(threads.handle().clone()));
    let size = arguments.volume << 30;
    Volume::create(store.clone(), runtime.clone(), CreateOptions::new(size))?;
    let openings = std::cell::Cell::new(0_u32);
    let open = || -> Outcome<Volume> {
        let mut options = VolumeOptions::new("bench");
        options.take_over = true;
        options.flush = FlushTarget::Store;
        // A log of its own each time: what is measured is what the store has.
        openings.set(openings.get() + 1);
        let cache = folder.path().join(format!("cache-{}", openings.get()));
        let disk: Arc<dyn LocalDisk> = Directory::open(cache, threads.handle().clone())?;
        Ok(Volume::open(
            store.clone(),
            &disk,
            runtime.clone(),
            &options,
        )?)
    };

    let volume = open()?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let blocks = random.distinct(size / BLOCK as u64, arguments.extents);
    let (filled, ()) = timed(|| write(&volume, &blocks))?;
    volume.flush()?;
    // On top of whatever was made on the way: everything changes.
    write(&volume, &blocks[..blocks.len().min(1_000_000)])?;
    let quiet = latencies(&volume, &mut random, size, || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let before = checkpoints(folder.path())?;
    let (full, ()) = timed(|| volume.checkpoint().map_err(Into::into))?;
    let full_bytes = bytes_of(&checkpoints(folder.path())?, &before)?;
    write(&volume, &blocks[..blocks.len().min(1_000_000)])?;
    let mut beside = Duration::ZERO;
    let busy = latencies(&volume, &mut random, size, || {
        beside = timed(|| volume.checkpoint().map_err(Into::into))?.0;
        Ok(())
    })?;
    volume.checkpoint()?;
    write(&volume, &blocks[..10])?;
    let (small, ()) = timed(|| volume.checkpoint().map_err(Into::into))?;
    drop(volume);

    let (mut opened, mut read) = (Figures::default(), Figures::default());
    let mut bytes = 0;
    for _ in 0..arguments.rounds {
        let (time, volume) = timed(open)?;
        opened.add(time.as_secs_f64());
        drop(volume);
        let (time, sum) = timed(|| read_all(folder.path()))?;
        read.add(time.as_secs_f64());
        bytes = sum;
    }
    let rows = [
        ["", ""].map(str::to_owned),
        row("filled, writes a second", rate(blocks.len(), filled)),
        row("checkpoint of everything, s", seconds(full)),
        row("its size, bytes an extent", per(full_bytes, blocks.len())),
        row("the same, beside a writer, s", seconds(beside)),
        row("checkpoint of ten blocks, s", seconds(small)),
        row("a write without checkpoint, us: median, 99.9 %, max", quiet),
        row("a write beside a checkpoint, us", busy),
        row("opening, s", opened.show()),
        row("reading the same bytes, O_DIRECT, s", read.show()),
        row("the same bytes, MiB", per(bytes, 1 << 20)),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    let mut text = format!("{} GiB, {} extents\n\n", arguments.volume, blocks.len());
    text += &table(&rows);
    text.push('\n');
    let allowed = read.median() * 1.5 + 1.0;
    text += &verdict(
        "P8",
        "1.5 * reading + 1 s / opening",
        allowed / opened.median(),
        1.0,
    );
    print(&text)?;
    Ok(())
}

fn row(name: &str, figure: String) -> [String; 2] {
    [name.to_owned(), figure]
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: usize, time: Duration) -> String {
    format!("{:.0}", count as f64 / time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per(bytes: u64, count: usize) -> String {
    format!("{:.2}", bytes as f64 / count as f64)
}

fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(Duration, T)> {
    let started = Instant::now();
    let result = work()?;
    Ok((started.elapsed(), result))
}

fn write(volume: &Volume, blocks: &[u32]) -> Outcome<()> {
    let data = [7; BLOCK];
    for block in blocks {
        volume.write(u64::from(*block) * BLOCK as u64, &data)?;
    }
    Ok(())
}

/// How long random writes take while `work` goes on.
fn latencies(
    volume: &Volume,
    random: &mut Random,
    size: u64,
    work: impl FnOnce() -> Outcome<()>,
) -> Outcome<String> {
    let over = AtomicBool::new(false);
    let mut times = std::thread::scope(|scope| -> Outcome<Vec<Duration>> {
        let writer = scope.spawn(|| {
            let mut times = Vec::new();
            let data = [9; BLOCK];
            while !over.load(Ordering::Relaxed) {
                let block = random.below(size / BLOCK as u64);
                let started = Instant::now();
                let written = volume.write(u64::from(block) * BLOCK as u64, &data);
                times.push(started.elapsed());
                written?;
            }
            Ok::<_, lsvd::Error>(times)
        });
        let worked = work();
        over.store(true, Ordering::Relaxed);
        let times = writer.join().map_err(|_| "the writer panicked")?;
        worked?;
        Ok(times?)
    })?;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied();
    let show = |time: Option<Duration>| time.unwrap_or_default().as_micros().to_string();
    let max = times.last().copied();
    Ok(format!(
        "{}, {}, {}",
        show(at(500)),
        show(at(999)),
        show(max)
    ))
}

/// The checkpoint objects of a directory.
fn checkpoints(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let is_checkpoint = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("ckpt."))
    };
    Ok(paths?.into_iter().filter(is_checkpoint).collect())
}

/// The bytes of those that were not there before.
fn bytes_of(paths: &[PathBuf], before: &[PathBuf]) -> io::Result<u64> {
    let new = paths.iter().filter(|path| !before.contains(path));
    new.map(|path| Ok(fs::metadata(path)?.len())).sum()
}

/// Reads all checkpoint objects past the page cache; gives their bytes.
fn read_all(folder: &Path) -> Outcome<u64> {
    const PIECE: usize = 8 << 20;
    let mut memory = vec![0; PIECE + BLOCK];
    let skip = memory.as_ptr().align_offset(BLOCK);
    let buffer = &mut memory[skip..skip + PIECE];
    let direct = rustix::fs::OFlags::DIRECT.bits();
    let direct = i32::try_from(direct)?;
    let mut sum = 0;
    for path in checkpoints(folder)? {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(direct)
            .open(path)?;
        loop {
            let read = file.read(buffer)?;
            sum += read as u64;
            if read < PIECE {
                break;
            }
        }
    }
    Ok(sum)
}

/// A directory, of data objects the headers alone.
#[derive(Debug)]
struct HeadersAlone {
    directory: LocalDirectory,
    headers: Mutex<HashMap<String, Bytes>>,
}

impl HeadersAlone {
    fn open(folder: &Path) -> Outcome<Self> {
        Ok(Self {
            directory: LocalDirectory::open(folder)?,
            headers: Mutex::default(),
        })
    }

    fn header(&self, name: &str) -> Result<Bytes, StoreError> {
        let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let header = headers.get(name).cloned();
        header.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "read", name))
    }
}

fn is_data(name: &str) -> bool {
    name.starts_with("data.")
}

impl ObjectStore for HeadersAlone {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        if !is_data(name) {
            return self.directory.put(name, body);
        }
        Box::pin(async move {
            let header = body.into_iter().next().unwrap_or_default();
            let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
            headers.insert(name.to_owned(), header);
            Ok(())
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        if is_data(name) {
            return Box::pin(async move { self.header(name) });
        }
        self.directory.get(name)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        if !is_data(name) {
            return self.directory.get_range(name, range);
        }
        Box::pin(async move {
            let header = self.header(name)?;
            let bound = |at| usize::try_from(at).unwrap_or(usize::MAX);
            let range = bound(range.start)..bound(range.end);
            let found = (range.end <= header.len()).then(|| header.slice(range));
            found.ok_or_else(|| StoreError::new(StoreErrorKind::Truncated, "read", name))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        self.directory.list()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.directory.delete(name)
    }

    fn url(&self) -> String {
        self.directory.url()
    }
}
