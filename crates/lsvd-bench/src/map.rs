//! The extent map beside `BTreeMap`: time of a lookup and an update, memory of an extent.
//!
//! Random 4 KiB blocks of a volume are written once each, in random order, as a log-structured
//! disk would place them: one after the other in objects of 8 MiB. Then random ones of them are
//! looked up and overwritten, in turns by both maps. Every volume gets a process of its own, so
//! that memory is measured on a fresh heap.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use lsvd::state::extent_map::{CutCount, ExtentMap};
use lsvd::words::units::{DataOffset, Extent, Lba, LbaRange, Location, ObjectSlot};

use rustix::time::{ClockId, clock_gettime};
use tree::TreeMap;

use crate::random::Random;

mod tree;

const BLOCK_SECTORS: u64 = 8;
const OBJECT_BLOCKS: u64 = 2048;

/// Short rounds and many, so that both maps meet the same disturbances and the median misses most.
const ROUND_BLOCKS: usize = 200_000;
const ROUNDS: usize = 11;

/// Lookup, update and memory of the extent map beside `BTreeMap`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// 1 million extents in place of 10 million
    #[arg(long, conflicts_with = "extents")]
    quick: bool,

    /// Only a volume of this size, in place of 40 GiB, 1 TiB and 16 TiB
    #[arg(long, value_name = "GIB")]
    volume: Option<u64>,

    /// Number of extents
    #[arg(long, default_value_t = 10_000_000)]
    extents: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let extents = if arguments.quick {
        1_000_000
    } else {
        arguments.extents
    };
    if let Some(gib) = arguments.volume {
        return measure(gib, extents).map_err(|error| format!("writing the result: {error}"));
    }
    for gib in [40, 1 << 10, 16 << 10] {
        in_own_process(gib, extents)?;
    }
    Ok(())
}

fn in_own_process(gib: u64, extents: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let status = Command::new(program)
        .args([
            "map",
            "--volume",
            &gib.to_string(),
            "--extents",
            &extents.to_string(),
        ])
        .status()
        .map_err(|error| format!("starting a process for {gib} GiB: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the process for {gib} GiB ended with {status}"))
    }
}

/// Fills both maps, and measures them in turns.
fn measure(gib: u64, extents: u64) -> io::Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ gib);
    let blocks = random.distinct(gib << 18, extents);
    let mut targets = blocks.clone();
    random.shuffle(&mut targets);

    let map = ExtentMap::new(gib << 21);
    let mut tree = TreeMap::default();
    let (fill_map, map_resident) = filled(|| write_all(&blocks, 0, |r, l| insert(&map, r, l)))?;
    let (fill_tree, tree_resident) =
        filled(|| write_all(&blocks, 0, |r, l| tree.insert(r, l, discard)))?;
    let count = map.extent_count();
    assert_eq!(count, tree.extent_count(), "the maps disagree");

    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut written = extents;
    for part in targets.chunks_exact(ROUND_BLOCKS).take(ROUNDS) {
        let (of_map, in_map) = timed(|| sum_of_lookups(part, |r, visit| map.lookup(r, visit)));
        let (of_tree, in_tree) = timed(|| sum_of_lookups(part, |r, visit| tree.lookup(r, visit)));
        assert_eq!(in_map, in_tree, "the maps disagree");
        times[0].push(of_map);
        times[1].push(of_tree);
        times[2].push(timed(|| write_all(part, written, |r, l| insert(&map, r, l))).0);
        let (of_tree, ()) = timed(|| {
            write_all(part, written, |r, l| tree.insert(r, l, discard));
        });
        times[3].push(of_tree);
        written += part.len() as u64;
    }

    let [lookup_map, lookup_tree, update_map, update_tree] =
        times.map(|times| nanoseconds(median(times), ROUND_BLOCKS));
    let per_extent = |bytes: u64| ratio(bytes, count);
    let fill = |time| nanoseconds(time, blocks.len());
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{gib} GiB, {count} extents       map    BTreeMap  ratio"
    )?;
    for (what, ours, theirs) in [
        ("lookup, ns", lookup_map, lookup_tree),
        ("update, ns", update_map, update_tree),
        ("first insert, ns", fill(fill_map), fill(fill_tree)),
        (
            "resident B/extent",
            per_extent(map_resident),
            per_extent(tree_resident),
        ),
    ] {
        let ratio = theirs / ours;
        writeln!(
            out,
            "  {what:<24} {ours:>9.1}  {theirs:>10.1}  {ratio:>5.2}"
        )?;
    }
    let accounted = per_extent(map.memory_bytes());
    writeln!(out, "  {:<24} {accounted:>9.1}", "allocated B/extent")
}

/// Takes what was overwritten, so that reporting it is not optimised away.
fn discard(extent: Extent) {
    black_box(extent);
}

fn insert(map: &ExtentMap, range: LbaRange, location: Location) {
    map.lock(range)
        .insert(range, location, CutCount(0), discard);
}

/// Writes the blocks one after the other into objects, the first of them `written` blocks after
/// the start of the log.
fn write_all(blocks: &[u32], written: u64, mut insert: impl FnMut(LbaRange, Location)) {
    for (position, block) in (written..).zip(blocks) {
        insert(range_of(*block), location_at(position));
    }
}

/// Looks all blocks up, and returns a sum that depends on every answer.
fn sum_of_lookups(
    blocks: &[u32],
    lookup: impl Fn(LbaRange, &mut dyn FnMut(LbaRange, Option<Location>)),
) -> u64 {
    let mut sum = 0_u64;
    for block in blocks {
        lookup(range_of(*block), &mut |range, location| {
            let place = location.map_or(0, |location| {
                u64::from(location.object.0) << 17 | u64::from(location.offset.0)
            });
            sum = sum.rotate_left(1) ^ place ^ range.start.0;
        });
    }
    sum
}

fn range_of(block: u32) -> LbaRange {
    LbaRange::with_len(Lba(u64::from(block) * BLOCK_SECTORS), BLOCK_SECTORS)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a run writes far less than 2^32 objects"
)]
fn location_at(position: u64) -> Location {
    Location {
        object: ObjectSlot((position / OBJECT_BLOCKS) as u32),
        offset: DataOffset((position % OBJECT_BLOCKS * BLOCK_SECTORS) as u32),
    }
}

/// Time of `work`, and by how much it raised the resident memory of this process.
fn filled(work: impl FnOnce()) -> io::Result<(Duration, u64)> {
    let before = resident_bytes()?;
    let (time, ()) = timed(work);
    Ok((time, resident_bytes()?.saturating_sub(before)))
}

fn resident_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}

/// Processor time of `work`: on a machine that others use too, the time on the wall is theirs.
fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let start = processor_time();
    let result = work();
    (processor_time().saturating_sub(start), result)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn nanoseconds(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}
