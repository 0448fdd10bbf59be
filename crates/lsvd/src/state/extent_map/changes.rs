//! Which regions of the volume were changed since a cut.
//!
//! A region is a fixed number of neighbouring chunks, so many that no volume has more than
//! [`REGIONS_MAX`] regions. There are two sets of them: one for the changes up to the cut that is
//! being walked, and one for the changes behind it. A change is marked under the lock of its chunk,
//! in the set that its count of cuts says.

use std::ops::Range;

use crate::sync::atomic::{AtomicU64, Ordering};

use super::CHUNK_BITS;
use super::cut::CutCount;

/// Most regions of a volume. More of them make a checkpoint's list of regions longer, fewer of them
/// make it write more that was not changed.
const REGIONS_MAX: u64 = 1 << 16;

/// Number of a region, counted from the start of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionNumber(pub u64);

/// Both sets, and the shape of the regions.
#[derive(Debug)]
pub(super) struct Changes {
    /// Chunks of a region, as a power of two.
    chunk_bits: u32,
    chunks: u64,
    sets: [Set; 2],
}

/// A bit for each region.
type Set = Box<[AtomicU64]>;

impl Changes {
    pub(super) fn new(chunks: u64) -> Self {
        let mut chunk_bits = 0;
        while chunks.div_ceil(1 << chunk_bits) > REGIONS_MAX {
            chunk_bits += 1;
        }
        let words = chunks.div_ceil(1 << chunk_bits).div_ceil(64);
        let set = || (0..words).map(|_| AtomicU64::new(0)).collect();
        Self {
            chunk_bits,
            chunks,
            sets: [set(), set()],
        }
    }

    pub(super) fn regions(&self) -> u64 {
        self.chunks.div_ceil(1 << self.chunk_bits)
    }

    pub(super) fn region_sectors(&self) -> u64 {
        1 << (self.chunk_bits + CHUNK_BITS)
    }

    /// The chunks of a region.
    pub(super) fn chunks_of(&self, region: RegionNumber) -> Range<u64> {
        let start = (region.0 << self.chunk_bits).min(self.chunks);
        start..(start + (1 << self.chunk_bits)).min(self.chunks)
    }

    pub(super) fn region_of(&self, chunk: u64) -> RegionNumber {
        RegionNumber(chunk >> self.chunk_bits)
    }

    /// Marks the region of `chunk` as changed by what came behind `cuts` cuts.
    pub(super) fn mark(&self, cuts: CutCount, chunk: u64) {
        let (word, bit) = place_of(self.region_of(chunk));
        let word = &self.set_behind(cuts)[word];
        // Mostly it is marked already, and then nothing is written that others look at.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// [`mark`](Self::mark) for neighbouring chunks.
    pub(super) fn mark_all(&self, cuts: CutCount, chunks: Range<u64>) {
        let Some(last) = chunks.end.checked_sub(1) else {
            return;
        };
        for region in chunks.start >> self.chunk_bits..=last >> self.chunk_bits {
            self.mark(cuts, region << self.chunk_bits);
        }
    }

    /// Whether the region was marked by what came before the cut that follows `cuts` cuts.
    pub(super) fn contains(&self, cuts: CutCount, region: RegionNumber) -> bool {
        let (word, bit) = place_of(region);
        self.set_behind(cuts)[word].load(Ordering::Relaxed) & bit != 0
    }

    /// The number of regions that are marked.
    pub(super) fn count(&self, cuts: CutCount) -> u64 {
        let words = self.set_behind(cuts).iter();
        words
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .sum()
    }

    /// Forgets all that was marked by what came before the cut that follows `cuts` cuts.
    pub(super) fn clear(&self, cuts: CutCount) {
        for word in self.set_behind(cuts) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The same, but what was marked counts as changed behind the cut.
    pub(super) fn hand_on(&self, cuts: CutCount) {
        let behind = self.set_behind(CutCount(cuts.0 + 1));
        for (word, behind) in self.set_behind(cuts).iter().zip(behind) {
            behind.fetch_or(word.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn set_behind(&self, cuts: CutCount) -> &Set {
        &self.sets[usize::from(!cuts.0.is_multiple_of(2))]
    }
}

/// The word of a set, and the bit in it.
const fn place_of(region: RegionNumber) -> (usize, u64) {
    ((region.0 / 64) as usize, 1 << (region.0 % 64))
}
