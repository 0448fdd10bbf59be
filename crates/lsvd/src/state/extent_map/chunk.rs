//! A chunk: the extents of a fixed piece of the LBA space, as a sorted array.

use std::ops::Range;

use smallvec::SmallVec;

use super::CHUNK_BITS;
use super::packed::{PackedExtent, Piece};

/// The extents of one chunk: ascending, disjoint, and merged where one continues another.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    extents: Vec<PackedExtent>,
}

impl Chunk {
    pub(super) const fn new() -> Self {
        Self {
            extents: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.extents.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Bytes of its allocation, slack included.
    pub(super) fn heap_bytes(&self) -> usize {
        self.extents.capacity() * size_of::<PackedExtent>()
    }

    /// All extents, ascending.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.extents.iter().map(|extent| extent.unpack())
    }

    /// What is mapped of `range`, ascending, cut to it.
    pub(super) fn lookup(&self, range: Range<u32>, mut visit: impl FnMut(Piece)) {
        let first = self.first_ending_behind(range.start);
        for extent in &self.extents[first..] {
            if extent.start() >= range.end {
                break;
            }
            visit(extent.unpack().clip(range.start, range.end));
        }
    }

    /// Maps `new`, and reports what it overwrites.
    pub(super) fn insert(&mut self, new: Piece, mut displaced: impl FnMut(Piece)) {
        let first = self.first_ending_behind(new.start);
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
    pub(super) fn remove(&mut self, range: Range<u32>, displaced: impl FnMut(Piece)) {
        let first = self.first_ending_behind(range.start);
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
    fn first_ending_behind(&self, at: u32) -> usize {
        let behind = self.count_starting_up_to(at);
        match behind.checked_sub(1) {
            Some(last) if self.extents[last].end() > at => last,
            _ => behind,
        }
    }

    /// Number of extents that start at `at` or before.
    ///
    /// The search begins where the extent would be if all were spread evenly; with many small
    /// extents that is right within a few places, where halving would touch a new cache line at
    /// almost every step. Three extents are looked at before anything is decided, so that their
    /// lines are fetched at once and not one after the other.
    fn count_starting_up_to(&self, at: u32) -> usize {
        let extents = self.extents.as_slice();
        let Some(last) = extents.len().checked_sub(1) else {
            return 0;
        };
        let is_counted = |extent: &PackedExtent| extent.start() <= at;
        let guess = (at as usize * extents.len()) >> CHUNK_BITS;
        let below = guess.saturating_sub(GUESS_ERROR);
        let above = last.min(guess + GUESS_ERROR);
        let counted = [below, guess, above].map(|index| usize::from(is_counted(&extents[index])));
        let (low, high) = match counted.iter().sum() {
            0 => return below - count_from_back(&extents[..below], is_counted),
            1 => (below, guess),
            2 => (guess, above),
            _ => return above + count_from_front(&extents[above..], is_counted),
        };
        low + extents[low..high].partition_point(is_counted)
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

    /// Makes room for `added` extents. An eighth of slack, not a doubling: memory is scarcer here
    /// than the time of a copy, which shifting the array to insert outweighs anyway.
    fn reserve(&mut self, added: usize) {
        let needed = self.extents.len() + added;
        if needed > self.extents.capacity() {
            self.extents
                .reserve_exact(added + Self::slack_after_growth(needed));
        }
    }

    fn shrink(&mut self) {
        let len = self.extents.len();
        if len == 0 {
            self.extents = Vec::new();
        } else if self.extents.capacity() > Self::capacity_max(len) {
            self.extents.shrink_to(len + Self::slack_after_growth(len));
        }
    }

    const fn slack_after_growth(len: usize) -> usize {
        len / 8 + 1
    }

    /// Most room that `len` extents may hold. Far enough above the growth that a chunk whose
    /// count swings does not move each time.
    const fn capacity_max(len: usize) -> usize {
        len + len / 2 + 8
    }

    /// Says what is wrong, if anything: order, overlap, merging, slack, and that nothing lies at
    /// or behind sector `end`.
    pub(super) fn self_check(&self, end: u32) -> Result<(), String> {
        let capacity = self.extents.capacity();
        if capacity > Self::capacity_max(self.len()) || (self.is_empty() && capacity != 0) {
            return Err(format!("room for {capacity} extents for {}", self.len()));
        }
        for piece in self.pieces() {
            if piece.end > end {
                return Err(format!("{piece:?} reaches behind sector {end}"));
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

/// By how many places a guess is mostly wrong at most, where extents are few or spread evenly.
const GUESS_ERROR: usize = 6;

/// Number of extents that `is_counted`, which are the first ones, where that is likely a small
/// number.
fn count_from_front(extents: &[PackedExtent], is_counted: impl Fn(&PackedExtent) -> bool) -> usize {
    let mut low = 0;
    let mut step = GUESS_ERROR;
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
    let mut step = GUESS_ERROR;
    while high > step && !is_counted(&extents[high - step - 1]) {
        high -= step + 1;
        step *= 2;
    }
    let low = high.saturating_sub(step);
    extents.len() - low - extents[low..high].partition_point(is_counted)
}
