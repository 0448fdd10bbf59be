//! A sorted array of extents: those of one chunk, or of some neighbouring ones of a leaf.

use std::ops::Range;

use allocator_api2::vec::Vec;
use smallvec::SmallVec;

use super::CHUNK_BITS;
use super::large_pages::{BLOCK_BYTES_MAX, LargePages, block_bytes, usable_bytes};
use super::packed::{PackedExtent, Piece};

/// Extents of a part of a leaf: ascending, disjoint, and merged where one continues another.
///
/// Sectors are counted from the start of the leaf. `span_bits` says how many sectors the array is
/// for, as a power of two; the leaf knows it for all its arrays.
#[derive(Debug)]
pub(super) struct ExtentArray {
    extents: Vec<PackedExtent, LargePages>,
}

impl Default for ExtentArray {
    fn default() -> Self {
        Self::new()
    }
}

impl ExtentArray {
    pub(super) const fn new() -> Self {
        Self {
            extents: Vec::new_in(LargePages),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.extents.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Bytes of its allocation, slack and what the pool adds included.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.extents.capacity() * EXTENT_BYTES)
    }

    /// All extents, ascending.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.extents.iter().map(|extent| extent.unpack())
    }

    /// The first extent that reaches behind the start of sector `at`.
    pub(super) fn first_behind(&self, span_bits: u32, at: u32) -> Option<Piece> {
        let first = self.first_ending_behind(span_bits, at);
        self.extents.get(first).map(|extent| extent.unpack())
    }

    /// The extents before sector `border`, which none of them crosses, and those behind it.
    pub(super) fn split_at(&self, border: u32) -> (Self, Self) {
        let index = self
            .extents
            .partition_point(|extent| extent.start() < border);
        let (before, behind) = self.extents.split_at(index);
        (Self::copy_of(before), Self::copy_of(behind))
    }

    fn copy_of(extents: &[PackedExtent]) -> Self {
        let mut copy = Self::new();
        if !extents.is_empty() {
            copy.reserve(extents.len());
            copy.extents.extend_from_slice(extents);
        }
        copy
    }

    /// The extents of a chunk, which is `range`.
    pub(super) fn part(&self, span_bits: u32, range: Range<u32>) -> &[PackedExtent] {
        let first = self.first_ending_behind(span_bits, range.start);
        let end = self.count_starting_up_to(span_bits, range.end - 1);
        &self.extents[first..end]
    }

    /// Maps `pieces`, which ascend, are merged, and are counted from sector `base`, where nothing is
    /// mapped: many at once, without a search and a shift for each.
    pub(super) fn fill(&mut self, span_bits: u32, base: u32, pieces: &[Piece]) {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return;
        };
        let (first, last) = (first.moved_up(base), last.moved_up(base));
        let at = self.first_ending_behind(span_bits, first.start);
        let previous = at.checked_sub(1).map(|at| self.extents[at].unpack());
        let next = self.extents.get(at).map(|extent| extent.unpack());
        let apart = !previous.is_some_and(|previous| previous.continues_into(first))
            && !next.is_some_and(|next| next.start < last.end || last.continues_into(next));
        if !apart {
            for piece in pieces {
                self.insert(span_bits, piece.moved_up(base), |_displaced| {});
            }
            return;
        }
        self.reserve(pieces.len());
        let packed = pieces.iter().map(|piece| piece.moved_up(base));
        self.extents.extend(packed.map(PackedExtent::pack));
        self.extents[at..].rotate_right(pieces.len());
    }

    /// What is mapped of `range`, ascending, cut to it.
    pub(super) fn lookup(&self, span_bits: u32, range: Range<u32>, mut visit: impl FnMut(Piece)) {
        let first = self.first_ending_behind(span_bits, range.start);
        for extent in &self.extents[first..] {
            if extent.start() >= range.end {
                break;
            }
            visit(extent.unpack().clip(range.start, range.end));
        }
    }

    /// Maps `new`, and reports what it overwrites.
    pub(super) fn insert(&mut self, span_bits: u32, new: Piece, mut displaced: impl FnMut(Piece)) {
        let first = self.first_ending_behind(span_bits, new.start);
        if let Some(old) = self.exactly(first, new) {
            displaced(old);
            self.extents[first] = PackedExtent::pack(new);
            return;
        }
        let mut window = first..self.report_overlap(first, new.start..new.end, displaced);
        let mut parts = Replacement::default();

        if let Some(left) = self.left_remainder(&window, new.start) {
            parts.push(left);
        } else if window.start > 0 {
            let previous = self.extents[window.start - 1].unpack();
            if previous.continues_into(new) {
                window.start -= 1;
                parts.push(previous);
            }
        }
        parts.push(new);
        if let Some(right) = self.right_remainder(&window, new.end) {
            parts.push(right);
        } else if let Some(next) = self.extents.get(window.end) {
            let next = next.unpack();
            if new.continues_into(next) {
                window.end += 1;
                parts.push(next);
            }
        }
        self.replace(window, &parts);
    }

    /// Unmaps `range`, and reports what was there.
    pub(super) fn remove(
        &mut self,
        span_bits: u32,
        range: Range<u32>,
        displaced: impl FnMut(Piece),
    ) {
        let first = self.first_ending_behind(span_bits, range.start);
        let window = first..self.report_overlap(first, range.clone(), displaced);
        let mut parts = Replacement::default();
        if let Some(left) = self.left_remainder(&window, range.start) {
            parts.push(left);
        }
        if let Some(right) = self.right_remainder(&window, range.end) {
            parts.push(right);
        }
        self.replace(window, &parts);
    }

    /// Index of the first extent that reaches behind the start of sector `at`.
    fn first_ending_behind(&self, span_bits: u32, at: u32) -> usize {
        let behind = self.count_starting_up_to(span_bits, at);
        match behind.checked_sub(1) {
            Some(last) if self.extents[last].end() > at => last,
            _ => behind,
        }
    }

    /// Number of extents that start at `at` or before.
    ///
    /// The search begins where the extent would be if all were spread evenly; with many small
    /// extents that is right within a few places, where halving would touch a new cache line at
    /// almost every step. The extents around it are all looked at before anything is decided, so
    /// that their lines are fetched at once, and no guess of the processor goes wrong.
    fn count_starting_up_to(&self, span_bits: u32, at: u32) -> usize {
        let extents = self.extents.as_slice();
        let is_counted = |extent: &PackedExtent| extent.start() <= at;
        let count = |extents: &[PackedExtent]| -> usize {
            let counted = extents.iter().map(|extent| usize::from(is_counted(extent)));
            counted.sum()
        };
        let in_span = at & ((1 << span_bits) - 1);
        let guess = (in_span as usize * extents.len()) >> span_bits;
        let low = guess.saturating_sub(WINDOW / 2);
        let low = low.min(extents.len().saturating_sub(WINDOW));
        let Some(window) = extents[low..].first_chunk::<WINDOW>() else {
            return count(extents);
        };
        match count(window) {
            0 => low - count_from_back(&extents[..low], is_counted),
            WINDOW => {
                let high = low + WINDOW;
                high + count_from_front(&extents[high..], is_counted)
            }
            counted => low + counted,
        }
    }

    /// The extent at `index`, if `new` can take its place alone: the same sectors, and nothing on
    /// either side to merge with.
    fn exactly(&self, index: usize, new: Piece) -> Option<Piece> {
        let old = self.extents.get(index)?.unpack();
        let same = old.start == new.start && old.end == new.end;
        let previous = index.checked_sub(1).map(|index| self.extents[index]);
        let next = self.extents.get(index + 1);
        let alone = !previous.is_some_and(|previous| previous.unpack().continues_into(new))
            && !next.is_some_and(|next| new.continues_into(next.unpack()));
        (same && alone).then_some(old)
    }

    /// Reports the parts of extents from index `first` on that lie in `range`; returns the index
    /// behind the last of them.
    fn report_overlap(
        &self,
        first: usize,
        range: Range<u32>,
        mut displaced: impl FnMut(Piece),
    ) -> usize {
        let mut index = first;
        while let Some(extent) = self.extents.get(index)
            && extent.start() < range.end
        {
            displaced(extent.unpack().clip(range.start, range.end));
            index += 1;
        }
        index
    }

    /// What is left before `cut` of the first extent of an overlapped window.
    fn left_remainder(&self, window: &Range<usize>, cut: u32) -> Option<Piece> {
        let first = self.extents[window.clone()].first()?;
        (first.start() < cut).then(|| first.unpack().clip(0, cut))
    }

    /// What is left from `cut` on of the last extent of an overlapped window.
    fn right_remainder(&self, window: &Range<usize>, cut: u32) -> Option<Piece> {
        let last = self.extents[window.clone()].last()?.unpack();
        (last.end > cut).then(|| last.clip(cut, last.end))
    }

    /// Puts `parts` in the place of the extents in `window`.
    fn replace(&mut self, window: Range<usize>, parts: &Replacement) {
        let parts = parts.0.as_slice();
        let in_place = window.len().min(parts.len());
        let behind = window.start + in_place;
        for (extent, part) in self.extents[window.start..behind].iter_mut().zip(parts) {
            *extent = PackedExtent::pack(*part);
        }
        let added = &parts[in_place..];
        if !added.is_empty() {
            self.reserve(added.len());
            self.extents
                .extend(added.iter().map(|part| PackedExtent::pack(*part)));
            self.extents[behind..].rotate_right(added.len());
        } else if behind < window.end {
            self.extents.drain(behind..window.end);
            self.shrink();
        }
    }

    /// Makes room for `added` extents.
    fn reserve(&mut self, added: usize) {
        let needed = self.extents.len() + added;
        if needed > self.extents.capacity() {
            self.extents
                .reserve_exact(Self::capacity_for(needed) - self.extents.len());
        }
    }

    fn shrink(&mut self) {
        let len = self.extents.len();
        if len == 0 {
            self.extents = Vec::new_in(LargePages);
        } else if self.extents.capacity() > Self::capacity_max(len) {
            self.extents.shrink_to(Self::capacity_for(len));
        }
    }

    /// The room to have for `len` extents. An eighth of slack, not a doubling: memory is scarcer
    /// here than the time of a copy, which shifting the array to insert outweighs anyway.
    const fn capacity_for(len: usize) -> usize {
        usable_bytes((len + len / 8 + 1) * EXTENT_BYTES) / EXTENT_BYTES
    }

    /// Most room that `len` extents may hold. Far enough above the growth that an array whose
    /// count swings does not move each time.
    const fn capacity_max(len: usize) -> usize {
        len + len / 2 + 8
    }

    /// Says what is wrong, if anything: order, overlap, merging, slack, and that nothing lies
    /// outside `span`.
    pub(super) fn self_check(&self, span: &Range<u32>) -> Result<(), String> {
        let capacity = self.extents.capacity();
        if capacity > Self::capacity_max(self.len()) || (self.is_empty() && capacity != 0) {
            return Err(format!("room for {capacity} extents for {}", self.len()));
        }
        for piece in self.pieces() {
            if piece.start < span.start || piece.end > span.end {
                return Err(format!("{piece:?} reaches out of {span:?}"));
            }
        }
        for (one, next) in self.pieces().zip(self.pieces().skip(1)) {
            if one.end > next.start {
                return Err(format!("{one:?} and {next:?} overlap or are out of order"));
            }
            if one.continues_into(next) {
                return Err(format!("{one:?} and {next:?} are not merged"));
            }
        }
        Ok(())
    }
}

/// What takes the place of overlapped extents: at most a remainder on either side of the new one.
#[derive(Default)]
struct Replacement(SmallVec<[Piece; 3]>);

impl Replacement {
    /// Appends `piece`, merged with the last one where it continues it.
    fn push(&mut self, piece: Piece) {
        match self.0.last_mut() {
            Some(last) if last.continues_into(piece) => last.end = piece.end,
            _ => self.0.push(piece),
        }
    }
}

const EXTENT_BYTES: usize = size_of::<PackedExtent>();

// The longest array has an extent for each sector of a chunk, and a change may add two.
const _: () =
    assert!(ExtentArray::capacity_for((1 << CHUNK_BITS) + 2) * EXTENT_BYTES <= BLOCK_BYTES_MAX);

/// Number of extents around a guess of which the one that is sought is mostly one, where extents are
/// few or spread evenly.
const WINDOW: usize = 16;

/// Number of extents that `is_counted`, which are the first ones, where that is likely a small
/// number.
fn count_from_front(extents: &[PackedExtent], is_counted: impl Fn(&PackedExtent) -> bool) -> usize {
    let mut low = 0;
    let mut step = WINDOW;
    while extents.get(low + step).is_some_and(&is_counted) {
        low += step + 1;
        step *= 2;
    }
    let high = extents.len().min(low + step);
    low + extents[low..high].partition_point(is_counted)
}

/// Number of extents that are not counted, which are the last ones, where that is likely a small
/// number.
fn count_from_back(extents: &[PackedExtent], is_counted: impl Fn(&PackedExtent) -> bool) -> usize {
    let mut high = extents.len();
    let mut step = WINDOW;
    while high > step && !is_counted(&extents[high - step - 1]) {
        high -= step + 1;
        step *= 2;
    }
    let low = high.saturating_sub(step);
    extents.len() - low - extents[low..high].partition_point(is_counted)
}
