//! What the local disk's door costs beside the disk behind it.
//!
//! `cargo bench -p lsvd --bench local_disk [-- DIRECTORY [ROUNDS]]`
//!
//! Interleaves synced writes of 4.5 KiB, one at a time: a plain loop of `pwrite` and `fdatasync` in
//! one thread, the same through a [`Directory`] from a task, and from a thread that waits. Prints
//! the medians of writes per second and their ratios to the plain loop.
#![expect(
    clippy::print_stdout,
    reason = "it is a program that prints its figures"
)]

use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use lsvd::doors::disk::{Directory, DiskFile, DiskWrite, LocalDisk, WriteDurability};
use pollster::block_on;
use rustix::fs::{Mode, OFlags};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A record of one block: a header and 4 KiB.
const WRITE_BYTES: usize = 4608;
const FILE_BYTES: u64 = 1 << 20;
/// Writes of one turn; few, as other users of the disk come and go.
const TURN: u32 = 64;

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let place = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds = arguments.next().map_or(Ok(301), |rounds| rounds.parse())?;
    let scratch = tempfile::tempdir_in(&place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;

    let disk = Directory::open(scratch.path(), runtime.handle().clone())?;
    let file = block_on(disk.create("segment", FILE_BYTES))?;
    block_on(disk.create("plain", FILE_BYTES))?;
    let plain = open_plain(&scratch.path().join("plain"))?;
    let memory = aligned();

    let mut rows = Vec::new();
    for _ in 0..rounds {
        let plain = plain_writes(&plain, &memory)?;
        let task = task_writes(&runtime, &file, &memory)?;
        let thread = block_on(door_writes(Arc::clone(&file), memory.clone()))?;
        rows.push([plain, task, thread, task / plain, thread / plain]);
    }
    let [plain, task, thread, task_ratio, thread_ratio] = std::array::from_fn(|column| {
        let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    });
    println!(
        "median of {rounds}: plain {plain:.0}/s, from a task {task:.0}/s ({task_ratio:.2}), from a \
         thread {thread:.0}/s ({thread_ratio:.2})"
    );
    Ok(())
}

/// Memory that is written as it is.
fn aligned() -> Bytes {
    let memory = Bytes::from(vec![0x5a; WRITE_BYTES + 4096]);
    let start = memory.as_ptr().align_offset(4096);
    memory.slice(start..start + WRITE_BYTES)
}

fn open_plain(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
        Ok(file) => Ok(file),
        Err(_) => Ok(rustix::fs::open(path, flags, Mode::empty())?),
    }
}

/// Offsets one behind the other.
fn offsets() -> impl Iterator<Item = u64> {
    (0..u64::from(TURN)).map(|number| number * WRITE_BYTES as u64)
}

fn plain_writes(file: &OwnedFd, memory: &Bytes) -> Result<f64> {
    let begun = Instant::now();
    for offset in offsets() {
        rustix::io::pwrite(file, memory, offset)?;
        rustix::fs::fdatasync(file)?;
    }
    Ok(f64::from(TURN) / begun.elapsed().as_secs_f64())
}

fn task_writes(runtime: &Runtime, file: &Arc<dyn DiskFile>, memory: &Bytes) -> Result<f64> {
    let task = runtime.spawn(door_writes(Arc::clone(file), memory.clone()));
    block_on(task)?
}

async fn door_writes(file: Arc<dyn DiskFile>, memory: Bytes) -> Result<f64> {
    let begun = Instant::now();
    for offset in offsets() {
        let parts = vec![memory.clone()];
        let writes = vec![DiskWrite { offset, parts }];
        file.write(writes, WriteDurability::Synced).await?;
    }
    Ok(f64::from(TURN) / begun.elapsed().as_secs_f64())
}
