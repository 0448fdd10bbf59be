//! The extent map under threads.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use allocator_api2::vec::Vec as AllocVec;

use super::super::large_pages::LargePages;
use super::super::*;
use super::{Random, insert, location, lookup, range, remove};

#[test]
fn threads_on_disjoint_ranges_do_not_see_each_other() {
    const THREADS: u64 = 8;
    const STEPS: u64 = 20_000;
    let chunks = STRIPES + 8;
    let map = ExtentMap::new(chunks * CHUNK_SECTORS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let map = &map;
            scope.spawn(move || {
                // Every thread has its own sectors in every chunk, so all meet at all locks.
                let mut random = Random(number + 1);
                let mut own = std::collections::BTreeMap::new();
                for step in 0..STEPS {
                    let slot = random.below(chunks * 16);
                    let start = slot * (CHUNK_SECTORS / 16) + number * 32;
                    let whole = range(start, start + 32);
                    let expected = own.get(&slot).map(|object| location(*object, 7));
                    assert_eq!(lookup(map, whole), [(whole, expected)]);
                    let displaced = if random.below(3) == 0 {
                        own.remove(&slot);
                        remove(map, whole)
                    } else {
                        let object = u32::try_from(number * STEPS + step).unwrap();
                        own.insert(slot, object);
                        insert(map, whole, location(object, 7))
                    };
                    let expected = expected.map(|location| Extent {
                        range: whole,
                        location,
                    });
                    assert_eq!(displaced, Vec::from_iter(expected));
                }
            });
        }
    });
    map.self_check().unwrap();
}

/// Every write is one location; whoever holds a range sees all of a write or nothing of it, and
/// every sector that was ever mapped is displaced exactly once or still there.
#[test]
fn threads_on_overlapping_ranges_see_whole_writes() {
    const THREADS: u32 = 8;
    const STEPS: u32 = 20_000;
    let borders = [CHUNK_SECTORS, STRIPES * CHUNK_SECTORS];
    let map = ExtentMap::new((STRIPES + 8) * CHUNK_SECTORS);
    let all = range(0, map.sectors());
    let (written, displaced) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (map, written, displaced) = (&map, &written, &displaced);
            scope.spawn(move || {
                let mut random = Random(u64::from(number) + 1);
                let lost = |extent: Extent| {
                    displaced.fetch_add(extent.range.sectors(), Ordering::Relaxed);
                };
                for step in 0..STEPS {
                    let border = borders[usize::from(random.below(2) == 1)];
                    let start = border - 16 + random.below(24);
                    let whole = range(start, start + 1 + random.below(8));
                    match random.below(1000) {
                        0..2 => map.lock(all).detach(all, CutCount(0)).for_each(lost),
                        2..200 => map.lock(whole).detach(whole, CutCount(0)).for_each(lost),
                        _ => {
                            let here = location(number * STEPS + step, 0);
                            map.lock(whole).insert(whole, here, CutCount(0), lost);
                            written.fetch_add(whole.sectors(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    map.self_check().unwrap();
    let left: u64 = lookup(&map, all)
        .iter()
        .filter(|(_, location)| location.is_some())
        .map(|(range, _)| range.sectors())
        .sum();
    assert_eq!(
        written.into_inner(),
        displaced.into_inner() + left,
        "a sector was lost or reported twice"
    );
}

#[test]
fn two_guards_of_overlapping_ranges_exclude_each_other() {
    let map = ExtentMap::new((STRIPES + 8) * CHUNK_SECTORS);
    let border = STRIPES * CHUNK_SECTORS;
    let all = range(0, map.sectors());
    let ranges = [
        range(border - 4, border + 4),
        range(border - 1, border),
        range(border, border + 1),
        range(border - 3 * CHUNK_SECTORS, border + 1),
        all,
    ];
    let barrier = Barrier::new(ranges.len());
    let inside = [const { AtomicBool::new(false) }; 2];
    thread::scope(|scope| {
        for whole in ranges {
            let (map, barrier, inside) = (&map, &barrier, &inside);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..5_000 {
                    let locked = map.lock(whole);
                    let sides = [whole.start.0 < border, whole.end.0 > border];
                    for (flag, _) in inside.iter().zip(sides).filter(|(_, here)| *here) {
                        assert!(!flag.swap(true, Ordering::SeqCst), "two are inside");
                    }
                    for (flag, _) in inside.iter().zip(sides).filter(|(_, here)| *here) {
                        flag.store(false, Ordering::SeqCst);
                    }
                    drop(locked);
                }
            });
        }
    });
}

/// Arrays of all threads come from one pool: none gets what another still has, and growing and
/// shrinking keep the content.
#[test]
fn threads_share_the_pool_of_memory() {
    thread::scope(|scope| {
        for number in 0..4_u64 {
            scope.spawn(move || {
                let mut random = Random(number + 1);
                let mut lists: Vec<AllocVec<u64, LargePages>> = Vec::new();
                lists.resize_with(64, || AllocVec::new_in(LargePages));
                for step in 0..50_000 {
                    let at = usize::try_from(random.below(64)).unwrap();
                    let (list, stamp) = (&mut lists[at], number << 32 | at as u64);
                    assert!(list.iter().all(|item| *item == stamp), "at step {step}");
                    let kept = usize::try_from(random.below(64)).unwrap();
                    if list.len() > 2 * kept {
                        list.truncate(kept);
                        list.shrink_to(kept);
                    } else {
                        list.reserve_exact(kept);
                        list.extend(std::iter::repeat_n(stamp, kept));
                    }
                }
            });
        }
    });
}
