//! What the local directory costs beside the disk under it.
//!
//! `cargo bench -p lsvd-store --bench local_directory [-- DIRECTORY [ROUNDS]]`
//!
//! Interleaves `dd oflag=direct bs=8M` with eight concurrent puts of 8 MiB objects on the same
//! file system, and prints medians: bandwidth of both, their ratio, CPU seconds per GiB, and the
//! processor time of a 4 KiB read that is answered at once, from a gigabyte and from one object.
#![expect(
    clippy::print_stdout,
    reason = "it is a program that prints its figures"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lsvd::doors::store::ObjectStore;
use lsvd_store::LocalDirectory;
use pollster::block_on;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: usize = 8;
const OBJECTS: u32 = 128;
const BLOCKS: usize = 2048;
const GIB: f64 = (1_u64 << 30) as f64;

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let place = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds = arguments.next().map_or(Ok(7), |rounds| rounds.parse())?;
    let scratch = tempfile::tempdir_in(&place)?;
    let body = object();
    let bytes = f64::from(OBJECTS) * body.iter().map(Bytes::len).sum::<usize>() as f64;

    let mut rows = Vec::new();
    for round in 0..rounds {
        let disk = direct(scratch.path())?;
        let path = scratch.path().join(format!("volume{round}"));
        let store = LocalDirectory::create_empty(&path)?;
        let cpu_before = cpu_time()?;
        let took = put_all(&store, &body)?;
        let cpu = (cpu_time()? - cpu_before).as_secs_f64() / (bytes / GIB);
        let cold = read_at_once(&store, OBJECTS)?;
        let hot = read_at_once(&store, 1)?;
        std::fs::remove_dir_all(path)?;
        let puts = bytes / took.as_secs_f64();
        println!(
            "round {round}: dd {:.0} MB/s, puts {:.0} MB/s, {cpu:.2} CPU s/GiB, 4 KiB read at once \
             {cold:.0} ns ({hot:.0} ns hot)",
            disk / 1e6,
            puts / 1e6,
        );
        rows.push([disk / 1e6, puts / 1e6, puts / disk, cpu, cold, hot]);
    }
    let [disk, puts, ratio, cpu, cold, hot] = std::array::from_fn(|column| {
        let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    });
    println!(
        "median: dd {disk:.0} MB/s, puts {puts:.0} MB/s, ratio {ratio:.2}, {cpu:.2} CPU s/GiB, \
         4 KiB read at once {cold:.0} ns ({hot:.0} ns hot)"
    );
    Ok(())
}

/// The body as the engine sends it: 4 KiB blocks, each with its checksum behind it.
fn object() -> Vec<Bytes> {
    let data = Bytes::from(b"log-structured".repeat(BLOCKS * 4096 / 14 + 1));
    let checksums = Bytes::from(vec![0x5a; BLOCKS * 4]);
    let pair = |block: usize| {
        let data = data.slice(block * 4096..(block + 1) * 4096);
        [data, checksums.slice(block * 4..(block + 1) * 4)]
    };
    (0..BLOCKS).flat_map(pair).collect()
}

/// Bytes per second of `dd` past the page cache.
fn direct(directory: &Path) -> Result<f64> {
    let file = directory.join("dd");
    let begun = Instant::now();
    let output = Command::new("dd")
        .args(["if=/dev/zero", "bs=8M", "count=128", "oflag=direct"])
        .arg(format!("of={}", file.display()))
        .output()?;
    let took = begun.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    std::fs::remove_file(file)?;
    Ok(GIB / took.as_secs_f64())
}

fn put_all(store: &LocalDirectory, body: &[Bytes]) -> Result<Duration> {
    let next = AtomicU32::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= OBJECTS {
                return Ok(());
            }
            block_on(store.put(&format!("data.{number:08x}"), body.to_vec()))?;
        }
    };
    let begun = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(work)).collect();
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(())
    })?;
    Ok(begun.elapsed())
}

/// Nanoseconds of processor time of a read that finds its data in the page cache, somewhere in the
/// first `objects` objects: in few of them, the processor's cache has it too.
fn read_at_once(store: &LocalDirectory, objects: u32) -> Result<f64> {
    const READS: u32 = 200_000;
    let mut buffer = [0; 4096];
    let mut at_once = 0_u32;
    let before = cpu_time()?;
    for read in 0..READS {
        let name = format!("data.{:08x}", read.wrapping_mul(2_654_435_761) % objects);
        let block = u64::from(read.wrapping_mul(40_503) % 256);
        if let Some(answer) = store.try_get_range(&name, block * 8 * 4100, &mut buffer) {
            answer?;
            at_once += 1;
        }
    }
    let nanos = (cpu_time()? - before).as_nanos() as f64 / f64::from(READS);
    if at_once < READS {
        println!("only {at_once} of {READS} reads were answered at once");
    }
    Ok(nanos)
}

/// Processor time of this process so far, that of the kernel for it included.
fn cpu_time() -> Result<Duration> {
    // Fields 14 and 15, counted behind the name, which may contain anything; in hundredths.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * 10))
}
