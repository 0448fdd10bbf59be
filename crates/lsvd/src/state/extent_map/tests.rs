//! The extent map against the traps that others fell into, one named test each.

use std::panic::AssertUnwindSafe;

use allocator_api2::vec::Vec as AllocVec;

use crate::words::limits::VOLUME_BYTES_MAX;
use crate::words::units::{DataOffset, ObjectSlot};

use super::large_pages::{BLOCK_BYTES_MAX, LargePages};
use super::*;

mod cut;
mod model;
mod threads;

/// A generator that needs no crate and repeats its sequence.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

pub(super) fn location(object: u32, offset: u32) -> Location {
    Location {
        object: ObjectSlot(object),
        offset: DataOffset(offset),
    }
}

pub(super) fn range(start: u64, end: u64) -> LbaRange {
    LbaRange::new(Lba(start), Lba(end))
}

fn extent(start: u64, end: u64, object: u32, offset: u32) -> Extent {
    Extent {
        range: range(start, end),
        location: location(object, offset),
    }
}

pub(super) fn insert(map: &ExtentMap, range: LbaRange, location: Location) -> Vec<Extent> {
    let mut displaced = Vec::new();
    map.lock(range)
        .insert(range, location, CutCount(0), |extent| {
            displaced.push(extent)
        });
    displaced
}

pub(super) fn remove(map: &ExtentMap, range: LbaRange) -> Vec<Extent> {
    let mut displaced = Vec::new();
    let detached = map.lock(range).detach(range, CutCount(0));
    detached.for_each(|extent| displaced.push(extent));
    displaced
}

pub(super) fn lookup(map: &ExtentMap, range: LbaRange) -> Vec<(LbaRange, Option<Location>)> {
    let mut found = Vec::new();
    map.lookup(range, |range, location| found.push((range, location)));
    found
}

#[track_caller]
fn assert_map(map: &ExtentMap, within: LbaRange, expected: &[(LbaRange, Option<Location>)]) {
    assert_eq!(lookup(map, within), expected);
    map.self_check().unwrap();
}

const LARGEST: u64 = VOLUME_BYTES_MAX / SECTOR_BYTES;

#[test]
fn removing_from_an_empty_map_inserts_and_allocates_nothing() {
    let map = ExtentMap::new(LARGEST);
    let before = map.memory_bytes();
    for range in [range(0, 1), range(100, 9000), range(0, LARGEST)] {
        assert_eq!(remove(&map, range), []);
        map.lock(range)
            .detach(range, CutCount(0))
            .for_each(|extent| panic!("{extent:?}"));
    }
    assert_eq!(map.extent_count(), 0);
    assert_eq!(map.memory_bytes(), before);
    assert_map(&map, range(0, LARGEST), &[(range(0, LARGEST), None)]);
}

#[test]
fn walking_an_empty_map_finds_one_hole() {
    let map = ExtentMap::new(LARGEST);
    assert!(map.is_empty());
    assert_map(&map, range(0, LARGEST), &[(range(0, LARGEST), None)]);
    assert_map(&map, range(7, 8), &[(range(7, 8), None)]);
    assert_map(&map, range(7, 7), &[]);
}

/// An array that several chunks share has at most so many extents.
#[test]
fn an_array_that_a_removal_makes_too_long_is_split() {
    let map = ExtentMap::new(LARGEST);
    for extent in 0..128_u32 {
        let start = u64::from(extent) * 16;
        insert(&map, range(start, start + 8), location(extent, 0));
    }
    map.self_check().unwrap();
    let hole = range(34, 36);
    assert_eq!(remove(&map, hole), [extent(34, 36, 2, 2)]);
    assert_eq!(map.extent_count(), 129);
    assert_map(&map, hole, &[(hole, None)]);
}

#[test]
fn the_first_insert_into_an_empty_map_counts() {
    let map = ExtentMap::new(100);
    assert_eq!(insert(&map, range(3, 5), location(1, 9)), []);
    assert_eq!(map.extent_count(), 1);
    assert!(!map.is_empty());
    map.self_check().unwrap();
}

#[test]
fn an_extent_that_is_overwritten_whole_is_reported() {
    let map = ExtentMap::new(1000);
    insert(&map, range(10, 20), location(1, 0));
    insert(&map, range(30, 40), location(1, 50));
    assert_eq!(
        insert(&map, range(5, 50), location(2, 0)),
        [extent(10, 20, 1, 0), extent(30, 40, 1, 50)]
    );
    assert_eq!(
        insert(&map, range(5, 50), location(3, 0)),
        [extent(5, 50, 2, 0)],
        "replaced in its place"
    );
    assert_eq!(remove(&map, range(0, 1000)), [extent(5, 50, 3, 0)]);
    assert!(map.is_empty());
}

#[test]
fn an_overlap_inside_one_object_is_reported() {
    let map = ExtentMap::new(1000);
    insert(&map, range(10, 20), location(1, 0));
    assert_eq!(
        insert(&map, range(15, 25), location(1, 10)),
        [extent(15, 20, 1, 5)]
    );
    assert_map(
        &map,
        range(10, 25),
        &[
            (range(10, 15), Some(location(1, 0))),
            (range(15, 25), Some(location(1, 10))),
        ],
    );
}

#[test]
fn the_rest_of_a_split_extent_is_shifted_once() {
    let map = ExtentMap::new(1000);
    insert(&map, range(100, 200), location(1, 1000));
    assert_eq!(
        insert(&map, range(130, 140), location(2, 0)),
        [extent(130, 140, 1, 1030)]
    );
    assert_map(
        &map,
        range(90, 210),
        &[
            (range(90, 100), None),
            (range(100, 130), Some(location(1, 1000))),
            (range(130, 140), Some(location(2, 0))),
            (range(140, 200), Some(location(1, 1040))),
            (range(200, 210), None),
        ],
    );
    assert_eq!(
        remove(&map, range(150, 160)),
        [extent(150, 160, 1, 1050)],
        "a remainder is cut again from its own start"
    );
    assert_map(
        &map,
        range(155, 165),
        &[
            (range(155, 160), None),
            (range(160, 165), Some(location(1, 1060))),
        ],
    );
}

#[test]
fn extents_that_continue_each_other_are_merged() {
    let map = ExtentMap::new(1000);
    insert(&map, range(0, 8), location(1, 0));
    insert(&map, range(16, 24), location(1, 16));
    insert(&map, range(8, 16), location(1, 8));
    assert_eq!(map.extent_count(), 1);
    insert(&map, range(24, 32), location(2, 24));
    insert(&map, range(32, 40), location(2, 33));
    assert_eq!(map.extent_count(), 3, "another object, another offset");
    insert(&map, range(8, 16), location(1, 8));
    assert_eq!(map.extent_count(), 3, "rewritten with what was there");
    map.self_check().unwrap();
}

#[test]
fn the_last_sector_of_the_largest_volume_is_a_sector() {
    let map = ExtentMap::new(LARGEST);
    let last = range(LARGEST - 1, LARGEST);
    insert(&map, last, location(u32::MAX, 131_071));
    assert_map(
        &map,
        range(0, LARGEST),
        &[
            (range(0, LARGEST - 1), None),
            (last, Some(location(u32::MAX, 131_071))),
        ],
    );
    assert_eq!(
        remove(&map, range(0, LARGEST)),
        [extent(LARGEST - 1, LARGEST, u32::MAX, 131_071)]
    );
    assert!(map.is_empty());
}

#[test]
fn a_volume_may_end_inside_a_chunk_and_inside_a_leaf() {
    for sectors in [1, 8191, 8192, 8193, 300 * CHUNK_SECTORS + 5] {
        let map = ExtentMap::new(sectors);
        insert(&map, range(sectors - 1, sectors), location(1, 0));
        assert_eq!(
            lookup(&map, range(sectors - 1, sectors)),
            [(range(sectors - 1, sectors), Some(location(1, 0)))]
        );
        map.self_check().unwrap();
        let all = range(0, sectors);
        let mut detached = Vec::new();
        map.lock(all)
            .detach(all, CutCount(0))
            .for_each(|extent| detached.push(extent));
        assert_eq!(detached, [extent(sectors - 1, sectors, 1, 0)]);
        assert!(map.is_empty());
    }
}

#[test]
fn addresses_above_16_tib_do_not_wrap() {
    let map = ExtentMap::new(LARGEST);
    let places = [0, 1 << 32, 1 << 35, (1 << 35) + (1 << 32), 1 << 38, 1 << 46];
    for (object, place) in (0..).zip(places) {
        assert_eq!(
            insert(&map, range(place, place + 8), location(object, object)),
            []
        );
    }
    for (object, place) in (0..).zip(places) {
        assert_eq!(
            lookup(&map, range(place, place + 8)),
            [(range(place, place + 8), Some(location(object, object)))]
        );
    }
    let mapped: Vec<u64> = lookup(&map, range(0, LARGEST))
        .into_iter()
        .filter_map(|(range, location)| location.map(|_| range.start.0))
        .collect();
    assert_eq!(mapped, places);
    map.self_check().unwrap();
}

#[test]
fn the_extremes_of_every_packed_field_come_back() {
    let map = ExtentMap::new(CHUNK_SECTORS * 2);
    for (start, end, object, offset) in [
        (0, CHUNK_SECTORS, 0, 0),
        (0, CHUNK_SECTORS, u32::MAX, 131_072 - 8192),
        (CHUNK_SECTORS - 1, CHUNK_SECTORS, u32::MAX, 131_071),
        (CHUNK_SECTORS, CHUNK_SECTORS + 1, 0x8000_0000, 0x1_0000),
    ] {
        insert(&map, range(start, end), location(object, offset));
        assert_map(
            &map,
            range(start, end),
            &[(range(start, end), Some(location(object, offset)))],
        );
    }
}

#[test]
fn a_write_across_a_chunk_border_is_one_write() {
    let map = ExtentMap::new(CHUNK_SECTORS * (STRIPES + 2));
    // The second border is also where the stripes start again at the first one.
    for border in [CHUNK_SECTORS, CHUNK_SECTORS * STRIPES] {
        let across = range(border - 3, border + 5);
        assert_eq!(insert(&map, across, location(1, 10)), []);
        assert_map(
            &map,
            range(border - 4, border + 6),
            &[
                (range(border - 4, border - 3), None),
                (range(border - 3, border), Some(location(1, 10))),
                (range(border, border + 5), Some(location(1, 13))),
                (range(border + 5, border + 6), None),
            ],
        );
        assert_eq!(
            insert(&map, across, location(2, 0)),
            [
                extent(border - 3, border, 1, 10),
                extent(border, border + 5, 1, 13)
            ]
        );
    }
}

#[test]
fn discarding_the_volume_leaves_no_memory_behind() {
    let map = ExtentMap::new(LARGEST);
    let empty = map.memory_bytes();
    for chunk in 0..2000 {
        let start = chunk * 3 * CHUNK_SECTORS;
        insert(&map, range(start, start + 8), location(1, 0));
    }
    let all = range(0, LARGEST);
    let detached = map.lock(all).detach(all, CutCount(0));
    assert_eq!(map.memory_bytes(), empty);
    let mut count = 0;
    detached.for_each(|extent| {
        assert_eq!(extent.range.start.0 % (3 * CHUNK_SECTORS), 0);
        count += 1;
    });
    assert_eq!(count, 2000);
    map.self_check().unwrap();
}

#[test]
fn room_is_given_back_after_many_removals() {
    let map = ExtentMap::new(1 << 20);
    let empty = map.memory_bytes();
    for sector in (0..1 << 16).step_by(2) {
        insert(&map, range(sector, sector + 1), location(1, 0));
    }
    let full = map.memory_bytes() - empty;
    let extents = map.extent_count();
    assert!(full < extents * 12, "{full} bytes for {extents} extents");
    for sector in (0..1 << 16).step_by(2) {
        if sector % 64 != 0 {
            remove(&map, range(sector, sector + 1));
        }
    }
    map.self_check().unwrap();
    let left = map.memory_bytes() - empty;
    assert!(left < full / 10, "{left} bytes of {full}");
}

#[test]
fn sequential_writes_take_little_memory() {
    let chunks = LEAF_CHUNKS * STRIPES;
    let map = ExtentMap::new(chunks * CHUNK_SECTORS);
    let empty = map.memory_bytes();
    // Objects of 8 MiB, written 512 KiB at a time: they merge to one extent for each chunk.
    for (write, start) in (0..).zip((0..map.sectors()).step_by(1024)) {
        let here = location(write / 16, write % 16 * 1024);
        insert(&map, range(start, start + 1024), here);
    }
    assert_eq!(map.extent_count(), chunks);
    let used = map.memory_bytes() - empty;
    assert!(used < chunks * 16, "{used} bytes for {chunks} chunks");
    map.self_check().unwrap();
}

#[test]
#[should_panic(expected = "is not inside the locked")]
fn a_range_that_is_not_locked_is_refused() {
    let map = ExtentMap::new(1000);
    map.lock(range(10, 20))
        .insert(range(10, 21), location(0, 0), CutCount(0), |_| {});
}

#[test]
#[should_panic(expected = "reaches behind the volume's")]
fn a_range_behind_the_volume_is_refused() {
    let map = ExtentMap::new(1000);
    map.lookup(range(999, 1001), |_, _| {});
}

#[test]
#[should_panic(expected = "behind the end of the largest object")]
fn a_location_behind_the_largest_object_is_refused() {
    let map = ExtentMap::new(1000);
    insert(&map, range(0, 2), location(0, 131_071));
}

#[test]
fn blocks_of_memory_grow_from_nothing_and_back_and_are_not_too_large() {
    let mut list = AllocVec::<u64, _>::new_in(LargePages);
    list.extend(0..1000);
    list.shrink_to_fit();
    assert!(list.iter().copied().eq(0..1000));
    list.clear();
    list.shrink_to_fit();
    assert_eq!(list.capacity(), 0);
    list.extend(0..10);
    assert!(list.iter().copied().eq(0..10));
    // No array is as large; a page does not hold it, so it is refused and not tried for ever.
    assert!(list.try_reserve_exact(BLOCK_BYTES_MAX).is_err());
    assert!(list.iter().copied().eq(0..10));
}

#[test]
fn one_who_panics_at_what_was_displaced_leaves_the_map_whole() {
    let map = ExtentMap::new(1 << 20);
    for sector in (0..100).step_by(10) {
        insert(&map, range(sector, sector + 5), location(1, 0));
    }
    let mut seen = 0;
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        map.lock(range(0, 100))
            .insert(range(0, 100), location(2, 0), CutCount(0), |_| {
                seen += 1;
                assert!(seen < 3, "on purpose");
            });
    }));
    assert!(panicked.is_err());
    map.self_check().unwrap();
    assert_eq!(map.extent_count(), 10, "nothing was changed");
}
