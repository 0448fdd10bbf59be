//! The cut against a per-sector model: what is walked is the map between two batches, whatever
//! happens meanwhile, and the regions that count as changed are those that were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::super::directory::BRANCH_CHUNKS;
use super::super::*;
use super::{Random, location, range};
use crate::state::extent_map::packed::advance;

/// What is mapped, sector by sector.
type Sectors = BTreeMap<u64, Location>;

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(LbaRange, Location),
    Detach(LbaRange),
}

impl Change {
    fn apply(self, map: &ExtentMap, cuts: CutCount) {
        match self {
            Self::Insert(range, to) => map.lock(range).insert(range, to, cuts, |_| {}),
            Self::Detach(range) => drop(map.lock(range).detach(range, cuts)),
        }
    }

    fn apply_to(self, model: &mut Sectors) {
        let (range, to) = match self {
            Self::Insert(range, to) => (range, Some(to)),
            Self::Detach(range) => (range, None),
        };
        let old: Vec<u64> = model.range(range.as_range()).map(|(lba, _)| *lba).collect();
        for lba in old {
            model.remove(&lba);
        }
        if let Some(to) = to {
            let sectors = (0..).zip(range.as_range());
            model.extend(sectors.map(|(by, lba)| (lba, advance(to, by))));
        }
    }
}

/// What a chain of checkpoints holds: each walk replaces the regions that it walked.
#[derive(Default)]
struct Chain {
    sectors: Sectors,
}

impl Chain {
    /// Walks a cut to its end, and does `meanwhile` between chunks.
    fn walk(&mut self, cut: &Cut<'_>, mut to_walk: BTreeSet<u64>, mut meanwhile: impl FnMut()) {
        let map = cut.map;
        let len = map.region_sectors();
        let mut walked = Sectors::new();
        for region in &to_walk {
            let end = ((region + 1) * len).min(map.sectors());
            Change::Detach(range(region * len, end)).apply_to(&mut self.sectors);
        }
        let all = to_walk.clone();
        while let Some(first) = to_walk.first().copied() {
            let mut end = first + 1;
            while to_walk.contains(&end) {
                end += 1;
            }
            let mut walk = cut.walk(RegionNumber(first)..RegionNumber(end));
            while let Some(current) = walk.step(|extent| add(&mut walked, extent)) {
                meanwhile();
                if let Some(wanted) = cut.most_wanted(current) {
                    let mut walk = cut.walk(wanted..RegionNumber(wanted.0 + 1));
                    while let Some(region) = walk.step(|extent| add(&mut walked, extent)) {
                        assert_eq!(region, wanted);
                        meanwhile();
                    }
                }
            }
            to_walk.retain(|region| *region >= end);
        }
        for (lba, to) in walked {
            assert!(all.contains(&(lba / len)), "{lba} was not to be walked");
            assert_eq!(self.sectors.insert(lba, to), None, "sector {lba} twice");
        }
    }
}

fn add(walked: &mut Sectors, extent: Extent) {
    for (by, lba) in (0..).zip(extent.range.as_range()) {
        let twice = walked.insert(lba, advance(extent.location, by));
        assert_eq!(twice, None, "sector {lba} was walked twice");
    }
}

/// Places around which things happen: the borders of chunks, stripes, leaves, branches.
fn places(map: &ExtentMap) -> Vec<u64> {
    let leaf = LEAF_CHUNKS * STRIPES;
    let branch = BRANCH_CHUNKS * STRIPES;
    let chunks = [1, 2, STRIPES, leaf, leaf + 3, branch, branch + leaf];
    let inside = chunks.map(|chunk| chunk * CHUNK_SECTORS);
    let end = map.sectors();
    inside.into_iter().filter(|lba| *lba + 64 < end).collect()
}

fn change(random: &mut Random, places: &[u64], end: u64, number: u32) -> Change {
    let mut place = || {
        let at = usize::try_from(random.below(places.len() as u64)).unwrap();
        places[at] + random.below(64) - 32
    };
    let (one, two) = (place(), place());
    match random.below(40) {
        0 => Change::Detach(range(0, end)),
        1..4 => Change::Detach(range(one.min(two), one.max(two) + 1)),
        4..10 => Change::Detach(range(one, one + 1 + random.below(16))),
        _ => Change::Insert(
            range(one, one + 1 + random.below(16)),
            location(number, number % 1000),
        ),
    }
}

/// One thread does everything in turns, so every interleaving repeats.
fn run(seed: u64, chunks: u64, copied_bytes_max: u64) {
    let mut random = Random(seed | 1);
    let map = ExtentMap::new(chunks * CHUNK_SECTORS);
    let places = places(&map);
    let (mut model, mut chain) = (Sectors::new(), Chain::default());
    let mut touched = BTreeSet::new();
    let mut number = 0;
    let mut step = |random: &mut Random, model: &mut Sectors, cuts: CutCount| {
        let change = change(random, &places, map.sectors(), number);
        number += 1;
        change.apply(&map, cuts);
        change.apply_to(model);
        map.self_check().unwrap();
        change
    };
    let regions_of = |change: Change| {
        let (Change::Insert(range, _) | Change::Detach(range)) = change;
        let len = map.region_sectors();
        range.start.0 / len..=(range.end.0 - 1) / len
    };
    for cuts in 1..6 {
        for _ in 0..random.below(30) {
            touched.extend(regions_of(step(
                &mut random,
                &mut model,
                CutCount(cuts - 1),
            )));
        }
        let mut cut = map.prepare_cut(copied_bytes_max).unwrap();
        assert!(map.prepare_cut(1).is_none(), "two cuts at once");
        cut.begin(CutCount(cuts));
        let at_cut = model.clone();
        let mut touched_behind = BTreeSet::new();
        for _ in 0..random.below(4) {
            touched_behind.extend(regions_of(step(&mut random, &mut model, CutCount(cuts))));
        }
        cut.settle();
        let mut to_walk: BTreeSet<u64> = (0..map.region_count())
            .filter(|region| cut.is_changed(RegionNumber(*region)))
            .collect();
        assert_eq!(to_walk, touched, "the regions that were changed");
        if random.below(4) == 0 {
            cut.include(RegionNumber(0));
            to_walk.insert(0);
            touched.insert(0);
        }
        cut.start_walk();
        let mut random_behind = Random(random.0);
        chain.walk(&cut, to_walk, || {
            for _ in 0..random_behind.below(3) {
                let change = step(&mut random_behind, &mut model, CutCount(cuts));
                touched_behind.extend(regions_of(change));
            }
        });
        assert_eq!(
            map.cut.copied_bytes.load(Ordering::Relaxed),
            0,
            "copies are left"
        );
        assert!(chain.sectors == at_cut, "cut {cuts} differs");
        // A cut that is given up leaves all to the next one, also what only came behind it.
        if random.below(3) == 0 {
            drop(cut);
            touched.append(&mut touched_behind);
        } else {
            cut.end_walk();
            cut.persisted();
            touched = touched_behind;
        }
    }
    map.self_check().unwrap();
}

/// A volume with a chunk a region, one with a few, and one with more than there are stripes.
const VOLUMES: [u64; 3] = [
    STRIPES + 8,
    5 * LEAF_CHUNKS * STRIPES,
    2 * BRANCH_CHUNKS * STRIPES,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_walk_sees_the_map_at_the_cut(seed: u64, volume in 0..3_usize, tight: bool) {
        run(seed, VOLUMES[volume], if tight { 200 } else { u64::MAX });
    }
}

#[test]
fn regions_are_at_most_so_many_and_cover_the_volume() {
    for chunks in [1, 255, 1 << 16, (1 << 16) + 1, 1 << 20, 1 << 34] {
        let map = ExtentMap::new(chunks * CHUNK_SECTORS - 5);
        assert!((1..=1 << 16).contains(&map.region_count()), "{chunks}");
        let covered = map.region_count() * map.region_sectors();
        assert!(covered >= map.sectors());
        assert!(covered - map.region_sectors() < map.sectors());
    }
}

/// Discarding everything during a cut copies nothing, and what was there is walked all the same.
#[test]
fn a_discard_of_everything_is_handed_over_and_not_copied() {
    let map = ExtentMap::new(64 * STRIPES * CHUNK_SECTORS);
    let all = range(0, map.sectors());
    let mut before = Sectors::new();
    for chunk in (0..64 * STRIPES).step_by(3) {
        let change = Change::Insert(
            range(chunk * CHUNK_SECTORS + 7, chunk * CHUNK_SECTORS + 9),
            location(u32::try_from(chunk).unwrap(), 0),
        );
        change.apply(&map, CutCount(0));
        change.apply_to(&mut before);
    }
    let mut cut = map.prepare_cut(u64::MAX).unwrap();
    cut.begin(CutCount(1));
    cut.settle();
    cut.start_walk();
    let mut displaced = 0;
    let detached = map.lock(all).detach(all, CutCount(1));
    assert_eq!(map.cut.copied_bytes.load(Ordering::Relaxed), 0);
    assert!(map.is_empty());
    let to_walk = (0..map.region_count()).filter(|region| cut.is_changed(RegionNumber(*region)));
    let mut chain = Chain::default();
    chain.walk(&cut, to_walk.collect(), || {});
    assert!(chain.sectors == before);
    detached.for_each(|extent| displaced += extent.range.sectors());
    assert_eq!(
        displaced,
        before.len() as u64,
        "it is reported all the same"
    );
}

#[test]
fn what_is_filled_in_is_no_change_and_is_merged() {
    let map = ExtentMap::new(3 * CHUNK_SECTORS);
    let mut filler = map.fill();
    let border = CHUNK_SECTORS;
    for (start, end, object, offset) in [
        (0, 4, 1, 0),
        (4, 8, 1, 4),
        (9, 10, 1, 9),
        (border - 4, border + 4, 2, 0),
        (border + 4, border + 5, 2, 8),
        (border + 5, border + 6, 2, 0),
    ] {
        filler.push(super::extent(start, end, object, offset));
    }
    filler.finish();
    assert_eq!(map.changed_regions(CutCount(0)), 0);
    assert_eq!(map.extent_count(), 5);
    map.self_check().unwrap();
    // Between what is there already, at both ends and in the middle.
    let mut filler = map.fill();
    for (start, end, object, offset) in [
        (8, 9, 1, 8),
        (20, 21, 7, 0),
        (border + 100, border + 101, 7, 1),
    ] {
        filler.push(super::extent(start, end, object, offset));
    }
    filler.finish();
    assert_eq!(map.extent_count(), 6, "joined with both neighbours");
    map.self_check().unwrap();
}

#[test]
fn filling_the_map_is_inserting_into_it() {
    let mut random = Random(3);
    for round in 0..40 {
        let chunks = [2, STRIPES * 2, STRIPES * LEAF_CHUNKS + 1][round % 3];
        let (filled, inserted) = (
            ExtentMap::new(chunks * CHUNK_SECTORS),
            ExtentMap::new(chunks * CHUNK_SECTORS),
        );
        let mut filler = filled.fill();
        let mut at = random.below(100);
        let mut number = 0;
        while at + 9000 < filled.sectors() && number < 3000 {
            number += 1;
            let end = at + 1 + random.below([8, 8, 8, 9000][round % 4]);
            let to = location(number % 3, u32::try_from(at % 100_000).unwrap());
            let range = range(at, end);
            filler.push(Extent {
                range,
                location: to,
            });
            inserted.lock(range).insert(range, to, CutCount(0), |_| {});
            at = end + random.below(2) * random.below(filled.sectors() / 2000);
        }
        filler.finish();
        filled.self_check().unwrap();
        let all = range(0, filled.sectors());
        assert_eq!(super::lookup(&filled, all), super::lookup(&inserted, all));
        assert_eq!(filled.extent_count(), inserted.extent_count());
    }
}

/// Stands for the batcher: whoever has it takes the next place in the stream.
#[derive(Default)]
struct Stream {
    changes: Vec<Change>,
    cuts: CutCount,
}

/// Writers that discard everything now and then, while one cut after the other is made and walked:
/// each is exactly what the stream says up to it, and the checkpoints of all of them chain.
#[test]
fn a_cut_beside_running_writers_is_exact() {
    for (seed, chunks) in (1..).zip(VOLUMES) {
        let map = ExtentMap::new(chunks * CHUNK_SECTORS);
        let places = places(&map);
        let stream = Mutex::new(Stream::default());
        let running = AtomicU64::new(3);
        thread::scope(|scope| {
            for writer in 0..3 {
                let (map, places, stream, running) = (&map, &places, &stream, &running);
                scope.spawn(move || {
                    let mut random = Random(seed * 100 + writer);
                    for _ in 0..4_000 {
                        let wanted = change(&mut random, places, map.sectors(), 0);
                        let (Change::Insert(range, _) | Change::Detach(range)) = wanted;
                        let mut locked = map.lock(range);
                        let mut stream = stream.lock().unwrap();
                        let number = u32::try_from(stream.changes.len()).unwrap();
                        let to = location(number, 0);
                        let cuts = stream.cuts;
                        stream.changes.push(match wanted {
                            Change::Insert(range, _) => Change::Insert(range, to),
                            Change::Detach(_) => wanted,
                        });
                        drop(stream);
                        // Long enough for a cut to begin between the place and the change.
                        if random.below(16) == 0 {
                            thread::sleep(Duration::from_micros(20));
                        }
                        match wanted {
                            Change::Insert(..) => locked.insert(range, to, cuts, |_| {}),
                            Change::Detach(_) => {
                                let detached = locked.detach(range, cuts);
                                drop(locked);
                                detached.for_each(|_| {});
                            }
                        }
                    }
                    running.fetch_sub(1, Ordering::Relaxed);
                });
            }
            check_cuts(&map, &stream, &running, seed);
        });
        map.self_check().unwrap();
    }
}

fn check_cuts(map: &ExtentMap, stream: &Mutex<Stream>, running: &AtomicU64, seed: u64) {
    let mut random = Random(seed);
    let (mut model, mut done) = (Sectors::new(), 0);
    let mut chain = Chain::default();
    let mut last = false;
    while !last {
        last = running.load(Ordering::Relaxed) == 0;
        let copied_bytes_max = [2000, u64::MAX][usize::from(random.below(2) == 0)];
        let mut cut = map.prepare_cut(copied_bytes_max).unwrap();
        let at_cut: Vec<Change> = {
            let mut stream = stream.lock().unwrap();
            stream.cuts.0 += 1;
            cut.begin(stream.cuts);
            stream.changes[done..].to_vec()
        };
        done += at_cut.len();
        cut.settle();
        let to_walk: BTreeSet<u64> = (0..map.region_count())
            .filter(|region| cut.is_changed(RegionNumber(*region)))
            .collect();
        cut.start_walk();
        chain.walk(&cut, to_walk, || {
            if random.below(4) == 0 {
                thread::yield_now();
            }
        });
        cut.end_walk();
        for change in at_cut {
            change.apply_to(&mut model);
        }
        assert!(chain.sectors == model, "the cut differs from the stream");
        if random.below(4) > 0 {
            cut.persisted();
        }
    }
    assert_eq!(done, 12_000);
}
