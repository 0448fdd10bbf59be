//! A leaf of a stripe's directory: the extents of some neighbouring chunks of the stripe.

use std::mem::{replace, take};
use std::ops::Range;

use super::array::ExtentArray;
use super::detached::DetachedChunks;
use super::directory::Tally;
use super::large_pages::{List, block_bytes, list};
use super::packed::{PackedExtent, Piece};
use super::{CHUNK_BITS, CHUNK_SECTORS, LEAF_BITS, LEAF_SECTORS, low_bits};

const LEAF_SECTOR_BITS: u32 = CHUNK_BITS + LEAF_BITS;

/// Most extents of an array that is for more than one chunk. Longer ones take longer to insert
/// into, and the guess at which their search begins is further off.
const ARRAY_EXTENTS_MAX: usize = 128;

/// The extents of neighbouring chunks, with sectors counted from the start of the first of them.
///
/// Where they are few they share one array, so that finding one costs one miss of the cache and a
/// chunk without extents costs nothing. Where they are many there are more arrays, each for as
/// many chunks as the others; in the end each chunk has its own.
#[derive(Debug)]
pub(super) enum Leaf {
    Whole(ExtentArray),
    Split(List<ExtentArray>),
}

// The leaves of a branch lie side by side, and there are as many as the volume is large.
const _: () = assert!(size_of::<Leaf>() == size_of::<ExtentArray>());

impl Leaf {
    pub(super) const EMPTY: Self = Self::Whole(ExtentArray::new());

    fn arrays(&self) -> &[ExtentArray] {
        match self {
            Self::Whole(array) => std::slice::from_ref(array),
            Self::Split(arrays) => arrays,
        }
    }

    fn arrays_mut(&mut self) -> &mut [ExtentArray] {
        match self {
            Self::Whole(array) => std::slice::from_mut(array),
            Self::Split(arrays) => arrays,
        }
    }

    /// Sectors that each array is for, as a power of two.
    fn span_bits(&self) -> u32 {
        LEAF_SECTOR_BITS - self.arrays().len().trailing_zeros()
    }

    /// The arrays, and the sectors that each is for.
    fn spans(&self) -> impl Iterator<Item = (Range<u32>, &ExtentArray)> {
        spans(self.span_bits()).zip(self.arrays())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrays().iter().all(ExtentArray::is_empty)
    }

    pub(super) fn tally(&self) -> Tally {
        let own = match self {
            Self::Whole(_) => 0,
            Self::Split(arrays) => block_bytes(size_of_val(&**arrays)) as u64,
        };
        let mut tally = Tally {
            extents: 0,
            heap_bytes: own,
        };
        for array in self.arrays() {
            tally.add(tally_of(array));
        }
        tally
    }

    /// All extents, ascending.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.arrays().iter().flat_map(ExtentArray::pieces)
    }

    /// What is mapped of `range`, which is of one chunk, ascending and cut to it.
    pub(super) fn lookup(&self, range: Range<u32>, visit: impl FnMut(Piece)) {
        let span_bits = self.span_bits();
        let array = &self.arrays()[index(range.start, span_bits)];
        array.lookup(span_bits, range, visit);
    }

    /// The extents of the chunk that starts at `base`, ascending.
    pub(super) fn copy(&self, base: u32) -> Vec<PackedExtent> {
        let span_bits = self.span_bits();
        let array = &self.arrays()[index(base, span_bits)];
        let chunk = base..base + low_bits(CHUNK_SECTORS);
        array.part(span_bits, chunk).to_vec()
    }

    /// Maps `pieces` of the chunk that starts at `base`, which ascend and lie where nothing is
    /// mapped, and keeps the counts.
    pub(super) fn fill(&mut self, base: u32, pieces: &[Piece], tally: &mut Tally) {
        let len = self.change(base, tally, |array, span_bits| {
            array.fill(span_bits, base, pieces);
        });
        self.split_if_long(len, tally);
    }

    /// The first sector that is mapped, of those in or behind the chunk that starts at `from`.
    pub(super) fn next_mapped(&self, from: u32) -> Option<u32> {
        let span_bits = self.span_bits();
        let arrays = self.arrays()[index(from, span_bits)..].iter();
        let mut nexts = arrays.filter_map(|array| array.first_behind(span_bits, from));
        nexts.next().map(|piece| piece.start)
    }

    /// Maps `new`, reports what it overwrites, and keeps the counts.
    pub(super) fn insert(&mut self, new: Piece, tally: &mut Tally, displaced: impl FnMut(Piece)) {
        let len = self.change(new.start, tally, |array, span_bits| {
            array.insert(span_bits, new, displaced);
        });
        self.split_if_long(len, tally);
    }

    fn split_if_long(&mut self, len: usize, tally: &mut Tally) {
        if len > ARRAY_EXTENTS_MAX && self.span_bits() > CHUNK_BITS {
            let before = self.tally();
            self.split();
            tally.change(before, self.tally());
        }
    }

    /// Unmaps `range`, which is of one chunk, reports what was there, and keeps the counts.
    pub(super) fn remove(
        &mut self,
        range: Range<u32>,
        tally: &mut Tally,
        displaced: impl FnMut(Piece),
    ) {
        let len = self.change(range.start, tally, |array, span_bits| {
            array.remove(span_bits, range, displaced);
        });
        if len == 0 {
            self.shrink(tally);
        } else {
            // From the middle of an extent: there is one more now.
            self.split_if_long(len, tally);
        }
    }

    /// Changes the array that sector `at` belongs to, counts it anew, and gives its length.
    fn change(
        &mut self,
        at: u32,
        tally: &mut Tally,
        change: impl FnOnce(&mut ExtentArray, u32),
    ) -> usize {
        let span_bits = self.span_bits();
        let array = &mut self.arrays_mut()[index(at, span_bits)];
        let before = tally_of(array);
        change(array, span_bits);
        tally.change(before, tally_of(array));
        array.len()
    }

    /// Takes the extents of whole chunks out: all arrays or some as they are, or the extents
    /// themselves from arrays that stay. The leaf is the one that starts at position `start`.
    pub(super) fn detach(
        &mut self,
        range: Range<u32>,
        tally: &mut Tally,
        start: u64,
        into: &mut DetachedChunks,
    ) {
        let before = self.tally();
        // A discard of much of a volume passes here under all locks, mostly by whole leaves.
        if u64::from(range.end - range.start) == LEAF_SECTORS {
            into.push_leaf(start, replace(self, Self::EMPTY));
            return tally.change(before, Tally::default());
        }
        let span_bits = self.span_bits();
        for (span, array) in spans(span_bits).zip(self.arrays_mut()) {
            let from = span.start.max(range.start);
            let to = span.end.min(range.end);
            if (from..to) == span {
                into.push_leaf(start, Self::Whole(take(array)));
            } else if from < to {
                array.remove(span_bits, from..to, |piece| {
                    into.push_piece(start, piece);
                });
            }
        }
        tally.change(before, self.tally());
        self.shrink(tally);
    }

    /// Frees the list of arrays once all are empty. They are not joined again before that: what
    /// they cost is little, and a leaf whose count swings would be copied each time.
    fn shrink(&mut self, tally: &mut Tally) {
        if self.is_empty() {
            tally.change(self.tally(), Tally::default());
            *self = Self::EMPTY;
        }
    }

    /// Makes twice as many arrays, until none is too long or each has one chunk.
    fn split(&mut self) {
        let too_long = |array: &ExtentArray| array.len() > ARRAY_EXTENTS_MAX;
        while self.span_bits() > CHUNK_BITS && self.arrays().iter().any(too_long) {
            let halves = self.spans().flat_map(|(span, array)| {
                let (before, behind) = array.split_at(span.start.midpoint(span.end));
                [before, behind]
            });
            let halves = list(halves);
            drop(replace(self, Self::Split(halves)));
        }
    }

    /// Says what is wrong, if anything: in the shape, or in an array.
    pub(super) fn self_check(&self) -> Result<(), String> {
        if let Self::Split(arrays) = self {
            let count = arrays.len();
            if !count.is_power_of_two() || !(2..=1 << LEAF_BITS).contains(&count) {
                return Err(format!("{count} arrays"));
            }
            if self.is_empty() {
                return Err("no extents, and room for some".to_owned());
            }
        }
        for (span, array) in self.spans() {
            if array.len() > ARRAY_EXTENTS_MAX && self.span_bits() > CHUNK_BITS {
                return Err(format!("{} extents in one array", array.len()));
            }
            array.self_check(&span)?;
        }
        for piece in self.pieces() {
            if piece.start >> CHUNK_BITS != (piece.end - 1) >> CHUNK_BITS {
                return Err(format!("{piece:?} crosses the border of a chunk"));
            }
        }
        Ok(())
    }
}

const _: () = assert!(LEAF_SECTORS == 1 << LEAF_SECTOR_BITS && CHUNK_SECTORS == 1 << CHUNK_BITS);

/// The parts of a leaf that arrays for `span_bits` are for.
fn spans(span_bits: u32) -> impl Iterator<Item = Range<u32>> {
    let count = 1 << (LEAF_SECTOR_BITS - span_bits);
    (0..count).map(move |array| array << span_bits..(array + 1) << span_bits)
}

/// The array that sector `at` belongs to.
const fn index(at: u32, span_bits: u32) -> usize {
    (at >> span_bits) as usize
}

fn tally_of(array: &ExtentArray) -> Tally {
    Tally {
        extents: array.len() as u64,
        heap_bytes: array.heap_bytes() as u64,
    }
}
