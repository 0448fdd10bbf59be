//! The extent map against an exact model with one entry for each sector.
//!
//! A model of a large volume does not fit, so it has islands: stretches around the places where
//! chunks, stripes, leaves, branches and the volume end. Ranges start and end on islands, and
//! nothing is ever mapped between them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::super::LEAF_CHUNKS;
use super::super::directory::BRANCH_CHUNKS;
use super::super::*;
use super::{Random, insert, location, lookup, remove};
use crate::state::extent_map::packed::advance;

/// An island is a chunk on either side of a border.
const ISLAND_SECTORS: u64 = 2 * CHUNK_SECTORS;

struct Island {
    start: u64,
    sectors: Vec<Option<Location>>,
}

impl Island {
    fn part_of(&self, range: LbaRange) -> Range<u64> {
        let end = self.start + self.sectors.len() as u64;
        range.start.0.clamp(self.start, end)..range.end.0.clamp(self.start, end)
    }
}

struct Model {
    sectors: u64,
    islands: Vec<Island>,
}

impl Model {
    /// The volume of `chunks` chunks and `tail` sectors, with islands around the given chunks'
    /// starts and at its end.
    fn new(chunks: u64, tail: u64, around: &[u64]) -> Self {
        let sectors = chunks * CHUNK_SECTORS + tail;
        let mut starts: Vec<u64> = around
            .iter()
            .map(|chunk| (chunk * CHUNK_SECTORS).saturating_sub(CHUNK_SECTORS))
            .chain([sectors.saturating_sub(ISLAND_SECTORS)])
            .collect();
        starts.sort_unstable();
        let islands = starts
            .iter()
            .enumerate()
            .map(|(at, start)| {
                let next = starts.get(at + 1).copied().unwrap_or(sectors);
                let len = ISLAND_SECTORS.min(next - start).min(sectors - start);
                Island {
                    start: *start,
                    sectors: vec![None; usize::try_from(len).unwrap()],
                }
            })
            .collect();
        Self { sectors, islands }
    }

    /// Sets `range`, and returns what was there before, sector by sector.
    fn set(&mut self, range: LbaRange, location: Option<Location>) -> BTreeMap<u64, Location> {
        let mut old = BTreeMap::new();
        for island in &mut self.islands {
            for lba in island.part_of(range) {
                let new = location
                    .map(|location| advance(location, u32::try_from(lba - range.start.0).unwrap()));
                let sector = &mut island.sectors[usize::try_from(lba - island.start).unwrap()];
                if let Some(before) = std::mem::replace(sector, new) {
                    old.insert(lba, before);
                }
            }
        }
        old
    }

    fn mapped(&self, range: LbaRange) -> BTreeMap<u64, Location> {
        self.islands
            .iter()
            .flat_map(|island| island.part_of(range).map(move |lba| (island, lba)))
            .filter_map(|(island, lba)| {
                let sector = usize::try_from(lba - island.start).unwrap();
                Some((lba, island.sectors[sector]?))
            })
            .collect()
    }

    /// A sector of an island, by numbers that may be anything.
    fn place(&self, island: usize, sector: u64) -> u64 {
        let island = &self.islands[island % self.islands.len()];
        island.start + sector % island.sectors.len() as u64
    }

    /// Number of sectors from `lba` to the end of its island.
    fn room(&self, lba: u64) -> u64 {
        let island = self
            .islands
            .iter()
            .find(|island| {
                (island.start..island.start + island.sectors.len() as u64).contains(&lba)
            })
            .unwrap();
        island.start + island.sectors.len() as u64 - lba
    }
}

#[derive(Clone, Debug)]
struct Place {
    island: usize,
    sector: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Place, u64, Location),
    Remove(Place, u64),
    RemoveUpTo(Place, Place),
    RemoveAll,
    Lookup(Place, Place),
}

fn place() -> impl Strategy<Value = Place> {
    let sector = prop_oneof![
        4 => CHUNK_SECTORS - 40..CHUNK_SECTORS + 40,
        1 => prop_oneof![0..40_u64, ISLAND_SECTORS - 40..ISLAND_SECTORS],
        1 => 0..ISLAND_SECTORS,
    ];
    (0..8_usize, sector).prop_map(|(island, sector)| Place { island, sector })
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1..40_u64, 2 => 1..3000_u64, 1 => 1..2 * CHUNK_SECTORS]
}

/// Few objects and offsets, so that extents often continue each other.
fn place_in_object() -> impl Strategy<Value = Location> {
    prop_oneof![
        (0..2_u32, (0..64_u32).prop_map(|offset| offset * 8)),
        (any::<u32>(), 0..100_000_u32),
    ]
    .prop_map(|(object, offset)| location(object, offset))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (place(), len(), place_in_object()).prop_map(|(at, len, to)| Step::Insert(at, len, to)),
        6 => (place(), len()).prop_map(|(at, len)| Step::Remove(at, len)),
        2 => (place(), place()).prop_map(|(one, two)| Step::RemoveUpTo(one, two)),
        1 => Just(Step::RemoveAll),
        3 => (place(), place()).prop_map(|(one, two)| Step::Lookup(one, two)),
    ]
}

fn by_sector(extents: &[Extent]) -> BTreeMap<u64, Location> {
    let mut sectors = BTreeMap::new();
    for extent in extents {
        assert!(!extent.range.is_empty(), "{extent:?}");
        for (by, lba) in (0..).zip(extent.range.as_range()) {
            let twice = sectors.insert(lba, advance(extent.location, by));
            assert_eq!(twice, None, "sector {lba} was reported twice");
        }
    }
    sectors
}

fn check_lookup(map: &ExtentMap, model: &Model, within: LbaRange) {
    let found = lookup(map, within);
    let mut at = within.start;
    for (range, _) in &found {
        assert_eq!(range.start, at, "a gap or an overlap");
        assert!(!range.is_empty());
        at = range.end;
    }
    assert_eq!(at, within.end, "the end of the range is missing");
    for pair in found.windows(2) {
        assert!(
            pair[0].1.is_some() || pair[1].1.is_some(),
            "a hole in two parts"
        );
    }
    let extents: Vec<Extent> = found
        .iter()
        .filter_map(|(range, location)| {
            location.map(|location| Extent {
                range: *range,
                location,
            })
        })
        .collect();
    assert_eq!(by_sector(&extents), model.mapped(within));
}

fn between(model: &Model, one: &Place, two: &Place) -> LbaRange {
    let one = model.place(one.island, one.sector);
    let two = model.place(two.island, two.sector);
    LbaRange::new(Lba(one.min(two)), Lba(one.max(two) + 1))
}

fn run(step: &Step, map: &ExtentMap, model: &mut Model) {
    let sized = |model: &Model, at: &Place, len: u64| {
        let start = model.place(at.island, at.sector);
        LbaRange::with_len(Lba(start), len.min(model.room(start)))
    };
    let touched = match step {
        Step::Insert(at, len, to) => {
            let range = sized(model, at, *len);
            let displaced = insert(map, range, *to);
            assert!(displaced.is_sorted_by_key(|extent| extent.range.start));
            assert_eq!(by_sector(&displaced), model.set(range, Some(*to)));
            range
        }
        Step::Remove(at, len) => {
            let range = sized(model, at, *len);
            let displaced = remove(map, range);
            assert_eq!(by_sector(&displaced), model.set(range, None));
            range
        }
        Step::RemoveUpTo(one, two) => {
            let range = between(model, one, two);
            let displaced = remove(map, range);
            assert_eq!(by_sector(&displaced), model.set(range, None));
            range
        }
        Step::RemoveAll => {
            let range = LbaRange::new(Lba(0), Lba(model.sectors));
            assert_eq!(by_sector(&remove(map, range)), model.set(range, None));
            range
        }
        Step::Lookup(one, two) => between(model, one, two),
    };
    check_lookup(map, model, touched);
    map.self_check().unwrap();
}

fn run_all(steps: &[Step], mut model: Model) {
    let map = ExtentMap::new(model.sectors);
    for step in steps {
        run(step, &map, &mut model);
    }
    let all = LbaRange::new(Lba(0), Lba(model.sectors));
    check_lookup(&map, &model, all);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::SourceParallel(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

/// So many extents in a chunk that every way through the search, and growth and shrinking, are
/// taken; spread evenly, and crowded at one place.
#[test]
fn crowded_chunks_agree_with_the_model() {
    for crowded_at in [
        None,
        Some(0),
        Some(CHUNK_SECTORS / 2),
        Some(CHUNK_SECTORS - 1500),
    ] {
        let mut model = Model::new(1, CHUNK_SECTORS / 2, &[]);
        let map = ExtentMap::new(model.sectors);
        let mut random = Random(7);
        let mut most = 0;
        for number in 0..12_000_u32 {
            let sector = match crowded_at {
                Some(start) if random.below(100) != 0 => start + random.below(1500),
                _ => random.below(CHUNK_SECTORS * 3 / 2),
            };
            let at = Place { island: 0, sector };
            // Ends with more removals than insertions.
            let removals = if number < 8_000 { 1 } else { 9 };
            let len = 1 + random.below(3);
            let step = if random.below(10) < removals {
                Step::Remove(at, len * 4)
            } else {
                Step::Insert(at, len, location(number, 0))
            };
            run(&step, &map, &mut model);
            most = most.max(map.extent_count());
        }
        assert!(most > 400, "only {most} extents");
        check_lookup(&map, &model, LbaRange::new(Lba(0), Lba(model.sectors)));
    }
}

/// So many extents in a leaf that its chunks stop sharing one array, and data that goes on in the
/// object where the next chunk of the leaf begins, which is not the next one on the volume.
#[test]
fn crowded_leaves_agree_with_the_model() {
    let around: Vec<u64> = (0..LEAF_CHUNKS + 2).map(|n| n * STRIPES + 1).collect();
    for kept in [3, LEAF_CHUNKS + 2] {
        let mut model = Model::new((LEAF_CHUNKS + 2) * STRIPES, 0, &around);
        let map = ExtentMap::new(model.sectors);
        let mut random = Random(11);
        let mut most = 0;
        for number in 0..9000_u32 {
            let island = usize::try_from(random.below(kept)).unwrap();
            let near = |random: &mut Random| Place {
                island: usize::try_from(random.below(kept)).unwrap(),
                sector: random.below(ISLAND_SECTORS),
            };
            let sector = match random.below(4) {
                0 => random.below(20),
                1 => CHUNK_SECTORS - 1 - random.below(20),
                _ => random.below(ISLAND_SECTORS),
            };
            let at = Place { island, sector };
            let len = 1 + random.below(20);
            let removals = if number < 6_000 { 1 } else { 9 };
            let step = match random.below(1000) {
                0 => Step::RemoveUpTo(near(&mut random), near(&mut random)),
                chance if chance % 10 < removals => Step::Remove(at, len * 4),
                _ => {
                    let in_leaf = (island as u64 % LEAF_CHUNKS) * CHUNK_SECTORS + sector;
                    let offset = u32::try_from(in_leaf % 100_000).unwrap();
                    Step::Insert(at, len, location(number % 2, offset))
                }
            };
            run(&step, &map, &mut model);
            most = most.max(map.extent_count());
        }
        assert!(most > 700, "only {most} extents");
        let all = LbaRange::new(Lba(0), Lba(model.sectors));
        check_lookup(&map, &model, all);
        run(&Step::RemoveAll, &map, &mut model);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_small_volume_agrees_with_the_model(
        tail in 1..CHUNK_SECTORS,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run_all(&steps, Model::new(2, tail, &[1]));
    }

    #[test]
    fn a_large_volume_agrees_with_the_model(
        tail in 0..CHUNK_SECTORS,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let leaf = LEAF_CHUNKS * STRIPES;
        let branch = BRANCH_CHUNKS * STRIPES;
        let around = [1, STRIPES, leaf, branch, branch + leaf + 4, 3 * branch];
        run_all(&steps, Model::new(4 * branch + STRIPES / 2, tail, &around));
    }
}
