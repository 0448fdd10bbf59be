//! A cut: the map as it was between two batches, walked while writers go on.
//!
//! It begins under the batcher's lock, in the same moment in which a batch is sealed, by a number
//! that every change compares with its own: the count of cuts that it was given with its place in
//! the stream. A change from before the cut holds its part of the map locked until it is made, and
//! the walk takes that lock too, so the walk sees it. A change from behind the cut first saves what
//! the chunk held, unless the chunk was walked, or saved, already, or is in a region that was not
//! changed since the last checkpoint and is not walked at all. Without a cut all this is one
//! comparison with a number that is never reached.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fmt;
use std::ops::Range;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::words::units::Extent;

use super::changes::RegionNumber;
use super::packed::PackedExtent;
use super::saved::Content;
use super::{
    CHUNK_SECTORS, Chunks, ExtentMap, STRIPES, chunk_index, extent_of, low_bits, position_of,
    positions_before, stripe_of,
};

/// How many cuts were made before a change took its place in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutCount(pub u64);

/// The number that no count of cuts reaches.
const NO_CUT: u64 = u64::MAX;

/// What those who change the map know of the cut.
#[derive(Debug)]
pub(super) struct CutState {
    /// Number of the cut that is walked.
    number: AtomicU64,
    /// Whether all changes from before the cut are made, and it is known which regions are walked.
    settled: AtomicBool,
    /// Bytes of copies that were saved and not yet walked.
    pub(super) copied_bytes: AtomicU64,
    copied_bytes_max: AtomicU64,
    /// There is one at a time.
    taken: AtomicBool,
}

impl CutState {
    pub(super) fn new() -> Self {
        Self {
            number: AtomicU64::new(NO_CUT),
            settled: AtomicBool::new(false),
            copied_bytes: AtomicU64::new(0),
            copied_bytes_max: AtomicU64::new(u64::MAX),
            taken: AtomicBool::new(false),
        }
    }

    /// Whether a change that came behind `cuts` cuts has to save what it changes.
    pub(super) fn is_before(&self, cuts: CutCount) -> bool {
        // Whoever is behind the cut was let in by the lock under which the number was set.
        cuts.0 >= self.number.load(Ordering::Relaxed)
    }

    fn add_copy(&self, bytes: u64) {
        self.copied_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove_copies(&self, bytes: u64) {
        self.copied_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A cut of the map, from before it begins until its checkpoint is persisted or given up.
#[must_use = "a cut that is dropped is given up"]
pub struct Cut<'a> {
    pub(super) map: &'a ExtentMap,
    /// The cuts before it, once it has begun.
    before: Option<CutCount>,
    persisted: bool,
}

impl ExtentMap {
    /// Prepares a cut, for which changes may save up to `copied_bytes_max` bytes; nothing where
    /// there is one already.
    pub fn prepare_cut(&self, copied_bytes_max: u64) -> Option<Cut<'_>> {
        if self.cut.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let max = &self.cut.copied_bytes_max;
        max.store(copied_bytes_max, Ordering::Relaxed);
        Some(Cut {
            map: self,
            before: None,
            persisted: false,
        })
    }

    /// Whether the copies for a cut are within their bound. Who finds that they are not waits until
    /// the walk went on.
    #[must_use]
    pub fn has_room_for_copies(&self) -> bool {
        let bytes = self.cut.copied_bytes.load(Ordering::Relaxed);
        bytes < self.cut.copied_bytes_max.load(Ordering::Relaxed)
    }

    /// Number of regions of the volume.
    #[must_use]
    pub fn region_count(&self) -> u64 {
        self.changes.regions()
    }

    /// Sectors of a region; the last one may have fewer.
    #[must_use]
    pub fn region_sectors(&self) -> u64 {
        self.changes.region_sectors()
    }

    /// Regions that were changed since the last cut that was persisted, where `cuts` cuts were made.
    #[must_use]
    pub fn changed_regions(&self, cuts: CutCount) -> u64 {
        self.changes.count(cuts)
    }
}

impl Cut<'_> {
    /// Begins as number `cuts`. Called in the moment in which what comes next gets this count; does
    /// not wait and takes no lock.
    pub fn begin(&mut self, cuts: CutCount) {
        self.before = cuts.0.checked_sub(1).map(CutCount);
        self.map.cut.number.store(cuts.0, Ordering::Relaxed);
    }

    /// Waits, for as long as a copy takes, until every change from before the cut is made; from
    /// then on [`is_changed`](Self::is_changed) is exact.
    pub fn settle(&self) {
        for stripe in &self.map.stripes {
            drop(stripe.0.lock());
        }
    }

    /// Whether the region was changed since the last checkpoint, or is [included](Self::include).
    #[must_use]
    pub fn is_changed(&self, region: RegionNumber) -> bool {
        self.before
            .is_some_and(|before| self.map.changes.contains(before, region))
    }

    /// Says that a region is walked although it was not changed.
    pub fn include(&self, region: RegionNumber) {
        if let Some(before) = self.before {
            let chunk = self.map.changes.chunks_of(region).start;
            self.map.changes.mark(before, chunk);
        }
    }

    /// Says that the cut has settled and nothing more is included: nobody saves any more what is in
    /// other regions.
    pub fn start_walk(&self) {
        self.map.cut.settled.store(true, Ordering::Release);
        // Who changed something before it was settled could not know, and saved it.
        for (number, stripe) in (0..).zip(&self.map.stripes) {
            let is_walked = |position| {
                let chunk = chunk_index(number, position);
                self.is_changed(self.map.changes.region_of(chunk))
            };
            let (known, bytes) = stripe.0.lock().saved.keep_copies(is_walked);
            self.map.cut.remove_copies(bytes);
            drop(known);
        }
    }

    /// Walks neighbouring regions that are changed or included. What was walked before is left out.
    pub fn walk(&self, regions: Range<RegionNumber>) -> RegionWalk<'_> {
        let changes = &self.map.changes;
        let start = changes.chunks_of(regions.start).start;
        let end = changes.chunks_of(regions.end).start;
        RegionWalk::new(self.map, start..end)
    }

    /// A region behind `beyond` that is walked and has copies in it, if copies take half of what they
    /// may: it is to be walked next.
    #[must_use]
    pub fn most_wanted(&self, beyond: RegionNumber) -> Option<RegionNumber> {
        let cut = &self.map.cut;
        let bytes = cut.copied_bytes.load(Ordering::Relaxed);
        if bytes < cut.copied_bytes_max.load(Ordering::Relaxed) / 2 {
            return None;
        }
        let changes = &self.map.changes;
        let from = changes.chunks_of(beyond).end;
        let mut copies = (0..STRIPES).filter_map(|stripe| {
            let from = positions_before(from, stripe);
            let position = self.map.stripe(stripe).lock().saved.next_copy(from)?;
            Some(chunk_index(stripe, position))
        });
        copies.next().map(|chunk| changes.region_of(chunk))
    }

    /// Ends the walk: nothing is saved any more, and what was is dropped.
    pub fn end_walk(&self) {
        let cut = &self.map.cut;
        cut.number.store(NO_CUT, Ordering::Relaxed);
        for stripe in &self.map.stripes {
            // Whoever takes the lock after us sees that the cut is over.
            let saved = std::mem::take(&mut stripe.0.lock().saved);
            drop(saved);
        }
        cut.settled.store(false, Ordering::Relaxed);
        cut.copied_bytes.store(0, Ordering::Relaxed);
    }

    /// The checkpoint of the cut is persisted: what was changed before it is changed no more.
    pub fn persisted(mut self) {
        self.persisted = true;
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.end_walk();
        if let Some(before) = self.before {
            if self.persisted {
                self.map.changes.clear(before);
            } else {
                self.map.changes.hand_on(before);
            }
        }
        self.map.cut.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut")
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

/// A walk through neighbouring regions, as they were at the cut.
pub struct RegionWalk<'a> {
    map: &'a ExtentMap,
    chunks: Range<u64>,
    /// The chunks to come. Where there are more of them than stripes, the next one of each stripe in
    /// which there is anything.
    next: Next,
}

enum Next {
    Every(u64),
    Occupied(BinaryHeap<Reverse<u64>>),
}

impl<'a> RegionWalk<'a> {
    fn new(map: &'a ExtentMap, chunks: Range<u64>) -> Self {
        let next = if chunks.end - chunks.start <= STRIPES {
            Next::Every(chunks.start)
        } else {
            let stripes = (0..STRIPES).filter_map(|stripe| {
                let start = positions_before(chunks.start, stripe);
                let end = positions_before(chunks.end, stripe);
                map.skip(stripe, start, end).map(Reverse)
            });
            Next::Occupied(stripes.collect())
        };
        Self { map, chunks, next }
    }

    /// Calls `visit` with the extents of the next chunk, ascending, and says in which region that
    /// was; nothing when there is no more. `visit` is called without a lock.
    pub fn step(&mut self, mut visit: impl FnMut(Extent)) -> Option<RegionNumber> {
        let (index, extents) = match &mut self.next {
            Next::Every(next) => {
                if *next >= self.chunks.end {
                    return None;
                }
                let index = *next;
                *next += 1;
                let position = position_of(index);
                let end = position + 1;
                let (extents, _) = self.map.walk_chunk(index, end);
                (index, extents)
            }
            Next::Occupied(heap) => {
                let mut lowest = heap.peek_mut()?;
                let index = lowest.0;
                let end = positions_before(self.chunks.end, stripe_of(index));
                let (extents, following) = self.map.walk_chunk(index, end);
                match following {
                    Some(following) => *lowest = Reverse(following),
                    None => drop(PeekMut::pop(lowest)),
                }
                (index, extents)
            }
        };
        for extent in extents {
            let piece = extent.unpack();
            let base = piece.start - piece.start % low_bits(CHUNK_SECTORS);
            visit(extent_of(index, piece.moved_down(base)));
        }
        Some(self.map.changes.region_of(index))
    }
}

impl ExtentMap {
    /// What chunk `index` held at the cut, and the next chunk of its stripe, before position `end`,
    /// that may have held anything. All up to that is walked then.
    fn walk_chunk(&self, index: u64, end: u64) -> (Vec<PackedExtent>, Option<u64>) {
        let stripe = stripe_of(index);
        let position = position_of(index);
        let mut chunks = self.stripe(stripe).lock();
        let extents = match chunks.saved.get(position) {
            None => chunks.directory.copy(position),
            Some(Content::Detached(detached)) => detached.copy(position),
            Some(Content::Copy(copy)) => copy.to_vec(),
            Some(Content::Walked) => Vec::new(),
        };
        let next = chunks.next_at_cut(position + 1, end);
        let walked = position..next.unwrap_or(end);
        let (known, bytes) = chunks.saved.walked(walked);
        drop(chunks);
        self.cut.remove_copies(bytes);
        drop(known);
        (extents, next.map(|next| chunk_index(stripe, next)))
    }

    /// The first chunk of `stripe` at positions `start..end` that may have held anything at the cut.
    fn skip(&self, stripe: u64, start: u64, end: u64) -> Option<u64> {
        if start >= end {
            return None;
        }
        let mut chunks = self.stripe(stripe).lock();
        let next = chunks.next_at_cut(start, end);
        let empty = start..next.unwrap_or(end);
        if !empty.is_empty() {
            let (known, bytes) = chunks.saved.walked(empty);
            drop(chunks);
            self.cut.remove_copies(bytes);
            drop(known);
        }
        next.map(|next| chunk_index(stripe, next))
    }

    /// Saves what chunk `index` holds, for the cut; it is about to be changed by what is behind.
    #[cold]
    pub(super) fn save(&self, index: u64, chunks: &mut Chunks) {
        let position = position_of(index);
        if self.is_walked_never(index) || chunks.saved.get(position).is_some() {
            return;
        }
        let copy = chunks.directory.copy(position);
        let bytes = chunks.saved.copy(position, copy);
        self.cut.add_copy(bytes);
    }

    /// Whether it is settled that the cut leaves the region of chunk `index` out.
    fn is_walked_never(&self, index: u64) -> bool {
        let number = self.cut.number.load(Ordering::Relaxed);
        let Some(before) = number.checked_sub(1).map(CutCount) else {
            return false;
        };
        let region = self.changes.region_of(index);
        self.cut.settled.load(Ordering::Acquire) && !self.changes.contains(before, region)
    }
}

impl Chunks {
    /// Position of the first chunk at `from` or behind, before `end`, that may have held anything at
    /// the cut.
    fn next_at_cut(&self, from: u64, end: u64) -> Option<u64> {
        let now = self.directory.next_occupied(from);
        let now = now.filter(|position| *position < end);
        let saved = self.saved.next_occupied(from, end);
        now.into_iter().chain(saved).min()
    }
}
