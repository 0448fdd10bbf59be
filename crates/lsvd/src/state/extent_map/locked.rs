//! Exclusive access to a part of the map.

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

use crate::sync::{Arc, MutexGuard};
use crate::words::units::{Extent, LbaRange, Location};

use super::cut::CutCount;
use super::detached::{Detached, DetachedChunks};
use super::packed::{OBJECT_SECTORS_MAX, Piece, advance};
use super::{
    CHUNK_SECTORS, Chunks, ExtentMap, STRIPES, chunk_of, extent_of, index_of, part_in, parts,
    position_of, positions_before, stripe_of,
};

/// Exclusive access to the part of an [`ExtentMap`](super::ExtentMap) that a range touches.
///
/// Whoever locks an overlapping range, and every lookup in it, waits until this is dropped. A
/// thread that holds one must not lock or look up anything else of the same map: the parts of the
/// map that share a lock are not only neighbours.
#[must_use = "the range is locked only as long as this is kept"]
pub struct LockedRange<'a> {
    pub(super) map: &'a ExtentMap,
    pub(super) range: LbaRange,
    pub(super) first_chunk: u64,
    /// The stripes of the chunks from the first one on: all of them, or one for each chunk.
    pub(super) stripes: SmallVec<[MutexGuard<'a, Chunks>; 2]>,
}

impl LockedRange<'_> {
    /// The range that was locked.
    #[must_use]
    pub const fn range(&self) -> LbaRange {
        self.range
    }

    /// Maps `range` to `location` and what follows it; `displaced` gets, in ascending order, each
    /// extent or part of one that was there before, always cut to `range`. `cuts` is what came with
    /// the change's place in the stream.
    ///
    /// # Panics
    /// When `range` is not inside the locked one or reaches behind the largest object's end.
    pub fn insert(
        &mut self,
        range: LbaRange,
        location: Location,
        cuts: CutCount,
        mut displaced: impl FnMut(Extent),
    ) {
        self.assert_inside(range);
        assert!(
            u64::from(location.offset.0) + range.sectors() <= OBJECT_SECTORS_MAX,
            "{range:?} at {location:?} reaches behind the end of the largest object"
        );
        let mut location = location;
        for (index, part) in parts(range) {
            let piece = Piece {
                start: part.start,
                end: part.end,
                location,
            };
            location = advance(location, part.end - part.start);
            self.before_change(index, cuts);
            self.chunks_mut(index)
                .directory
                .insert(position_of(index), piece, |old| {
                    displaced(extent_of(index, old));
                });
        }
    }

    /// Unmaps `range` by cutting whole parts off the map's directory. For the whole volume that
    /// takes constant time, and else milliseconds for millions of extents; looking at each and
    /// freeing them is left to whoever gets it, best after this lock is released. `cuts` is what came
    /// with the change's place in the stream.
    ///
    /// # Panics
    /// When `range` is not inside the locked one.
    pub fn detach(&mut self, range: LbaRange, cuts: CutCount) -> Detached {
        self.assert_inside(range);
        let mut detached = Detached::default();
        if range.is_empty() {
            return detached;
        }
        let first_whole = range.start.0.div_ceil(CHUNK_SECTORS);
        let end_whole = if range.end.0 == self.map.sectors {
            range.end.0.div_ceil(CHUNK_SECTORS)
        } else {
            range.end.0 / CHUNK_SECTORS
        };
        for (index, part) in self.border_parts(range, first_whole, end_whole) {
            self.before_change(index, cuts);
            self.chunks_mut(index)
                .directory
                .remove(position_of(index), part, |old| {
                    detached.push_extent(extent_of(index, old));
                });
        }
        if first_whole < end_whole {
            self.detach_whole(first_whole..end_whole, cuts, &mut detached);
        }
        detached
    }

    /// Takes whole chunks out.
    fn detach_whole(&mut self, chunks: Range<u64>, cuts: CutCount, into: &mut Detached) {
        self.map.changes.mark_all(cuts, chunks.clone());
        let is_before = self.map.cut.is_before(cuts);
        for slot in 0..self.stripes.len() {
            let stripe = stripe_of(self.first_chunk + slot as u64);
            let start = positions_before(chunks.start, stripe);
            let end = positions_before(chunks.end, stripe);
            let mut detached = DetachedChunks::new(stripe);
            let Chunks { directory, saved } = &mut *self.stripes[slot];
            directory.detach(start..end, &mut detached);
            if is_before && start < end {
                let detached = Arc::new(detached);
                saved.detached(start..end, &detached);
                into.push_chunks(detached);
            } else if !detached.is_empty() {
                into.push_chunks(Arc::new(detached));
            }
        }
    }

    /// The parts of `range` in the first and last chunk where those are not removed whole.
    fn border_parts(
        &self,
        range: LbaRange,
        first_whole: u64,
        end_whole: u64,
    ) -> SmallVec<[(u64, Range<u32>); 2]> {
        let first = chunk_of(range.start);
        let last = (range.end.0 - 1) / CHUNK_SECTORS;
        let mut borders = SmallVec::new();
        for index in [first, last] {
            let whole = (first_whole..end_whole).contains(&index);
            let seen = borders.iter().any(|(seen, _)| *seen == index);
            if !whole && !seen {
                borders.push((index, part_in(range, index)));
            }
        }
        borders
    }

    fn assert_inside(&self, range: LbaRange) {
        assert!(
            self.range.start <= range.start && range.end <= self.range.end,
            "{range:?} is not inside the locked {:?}",
            self.range
        );
    }

    /// Notes that chunk `index` changes, and saves what it holds where a cut needs it.
    fn before_change(&mut self, index: u64, cuts: CutCount) {
        let map = self.map;
        map.changes.mark(cuts, index);
        if map.cut.is_before(cuts) {
            map.save(index, self.chunks_mut(index));
        }
    }

    fn chunks_mut(&mut self, index: u64) -> &mut Chunks {
        let slot = self.slot(index);
        &mut self.stripes[slot]
    }

    const fn slot(&self, index: u64) -> usize {
        index_of((index - self.first_chunk) % STRIPES)
    }
}

impl fmt::Debug for LockedRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockedRange").field(&self.range).finish()
    }
}
