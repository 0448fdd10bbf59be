//! Read-after-write under threads: overlapping ranges of all sizes, checked sector by sector.
//!
//! `LSVD_STRESS_CHECKS` sets how many sector checks one run makes, `LSVD_STRESS_SEED` repeats the
//! requests of a run (not the order in which the threads come to make them).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use lsvd::doors::store::ObjectStore;
use lsvd::{EphemeralOptions, Volume};
use lsvd_store::{Latency, LatencyRange, LocalDirectory};

use crate::world::{MIB, runtime};

const SECTORS: usize = 64 * 2048;
const SECTORS_MAX: u64 = 4096;
const THREADS: u64 = 8;
/// Below any tick: never.
const NEVER: u64 = 0;
/// Above any tick: not yet.
const NOT_YET: u64 = u64::MAX;

/// What every sector may show.
///
/// Moments are ticks of one counter. A read that began at `r` may show write `V` unless some write
/// `X` to the sector began after `V` had ended, and ended before `r`.
struct Model {
    clock: AtomicU64,
    /// For every write, by number: when it ended.
    ends: Vec<AtomicU64>,
    next_write: AtomicU64,
    /// For every sector: the latest beginning of all writes that have ended.
    floors: Vec<AtomicU64>,
    /// For every sector: the latest end of a discard, and the number of those under way.
    zero_ends: Vec<AtomicU64>,
    zeroing: Vec<AtomicU8>,
    checks_left: AtomicU64,
}

fn column<T>(rows: usize, value: impl Fn() -> T) -> Vec<T> {
    (0..rows).map(|_| value()).collect()
}

impl Model {
    fn new(checks: u64) -> Self {
        // A read checks what it reads, a write is about as frequent: far fewer than one a sector.
        let writes = usize::try_from(checks / 100).unwrap() + 10_000;
        Self {
            clock: AtomicU64::new(1),
            ends: column(writes, || AtomicU64::new(NOT_YET)),
            next_write: AtomicU64::new(1),
            floors: column(SECTORS, || AtomicU64::new(NEVER)),
            zero_ends: column(SECTORS, || AtomicU64::new(NEVER)),
            zeroing: column(SECTORS, || AtomicU8::new(0)),
            checks_left: AtomicU64::new(checks),
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    fn write(&self, volume: &Volume, start: usize, sectors: usize, buffer: &mut Vec<u8>) {
        let number = self.next_write.fetch_add(1, SeqCst);
        buffer.clear();
        for sector in start..start + sectors {
            stamp(buffer, sector, number);
        }
        let began = self.tick();
        volume.write(start as u64 * 512, buffer).unwrap();
        self.ends[usize::try_from(number).unwrap()].store(self.tick(), SeqCst);
        for floor in &self.floors[start..start + sectors] {
            floor.fetch_max(began, SeqCst);
        }
    }

    fn discard(&self, volume: &Volume, start: usize, sectors: usize) {
        let range = start..start + sectors;
        for count in &self.zeroing[range.clone()] {
            count.fetch_add(1, SeqCst);
        }
        let began = self.tick();
        volume
            .discard(start as u64 * 512, sectors as u64 * 512)
            .unwrap();
        let ended = self.tick();
        for sector in range {
            self.zero_ends[sector].fetch_max(ended, SeqCst);
            self.zeroing[sector].fetch_sub(1, SeqCst);
            self.floors[sector].fetch_max(began, SeqCst);
        }
    }

    fn read(&self, volume: &Volume, start: usize, sectors: usize, buffer: &mut Vec<u8>) {
        let floors: Vec<u64> = self.floors[start..start + sectors]
            .iter()
            .map(|floor| floor.load(SeqCst))
            .collect();
        buffer.resize(sectors * 512, 0xee);
        volume.read(start as u64 * 512, buffer).unwrap();
        for ((sector, floor), data) in (start..).zip(floors).zip(buffer.chunks(512)) {
            self.check(sector, floor, data);
        }
    }

    fn check(&self, sector: usize, floor: u64, data: &[u8]) {
        let number = u64::from_le_bytes(data[8..16].try_into().unwrap());
        let mut expected = Vec::with_capacity(512);
        if number == 0 {
            assert_eq!(data, [0; 512], "sector {sector} is torn");
            // In this order: a discard says when it ended before it is no longer under way.
            let allowed = self.zeroing[sector].load(SeqCst) > 0
                || self.zero_ends[sector].load(SeqCst) >= floor;
            assert!(
                allowed,
                "sector {sector} shows zeroes that were overwritten"
            );
            return;
        }
        stamp(&mut expected, sector, number);
        assert_eq!(data, expected, "sector {sector} is torn or not its own");
        let ended = self.ends[usize::try_from(number).unwrap()].load(SeqCst);
        assert!(
            ended >= floor,
            "sector {sector} shows write {number}, which was overwritten"
        );
    }
}

/// 512 bytes that tell sector and write, and differ in every word.
fn stamp(buffer: &mut Vec<u8>, sector: usize, number: u64) {
    let sector = sector as u64;
    let base = (sector << 32 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    buffer.extend_from_slice(&sector.to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    for word in 2..64 {
        buffer.extend_from_slice(&base.rotate_left(word).to_le_bytes());
    }
}

fn hammer(model: &Model, volume: &Volume, seed: u64) {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut buffer = Vec::new();
    loop {
        // As many small requests as large ones: the exponent is drawn, not the length.
        let below = 1 << random(u64::from(SECTORS_MAX.ilog2()) + 1);
        let sectors = 1 + random(below);
        let start = usize::try_from(random(SECTORS as u64 - sectors + 1)).unwrap();
        let sectors = usize::try_from(sectors).unwrap();
        match random(20) {
            0 => model.discard(volume, start, sectors),
            1..=8 => model.write(volume, start, sectors, &mut buffer),
            _ => {
                model.read(volume, start, sectors, &mut buffer);
                let checked = sectors as u64;
                let left = model
                    .checks_left
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(checked));
                if left.is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn a_read_sees_every_write_that_returned_before() {
    let checks = match std::env::var("LSVD_STRESS_CHECKS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 3_000_000,
    };
    let directory = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let latency: LatencyRange = "5ms..10ms".parse().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(Latency::new(local, runtime()).writes(latency));
    let mut options = EphemeralOptions::new(SECTORS as u64 * 512);
    options.object_size = 2 * MIB;
    options.window = 4;
    options.seal_timeout = std::time::Duration::from_millis(20);
    let volume = Volume::open_ephemeral(store, runtime(), options).unwrap();
    let model = Model::new(checks);
    let seed = match std::env::var("LSVD_STRESS_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => u64::from(std::process::id()),
    };
    println!("seed {seed}, {checks} sector checks");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (model, volume) = (&model, &volume);
            scope.spawn(move || hammer(model, volume, seed << 8 | thread));
        }
    });
    let writes = model.next_write.load(SeqCst) - 1;
    println!(
        "{writes} writes, {} sector checks, no mismatch",
        checks - model.checks_left.load(SeqCst)
    );
}
