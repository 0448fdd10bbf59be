//! The directory of one stripe: the chunks that it owns, allocated when they are first written.
//!
//! Chunks are counted by their position in the stripe. Three levels: leaves, which hold the
//! extents of some neighbouring chunks; arrays of leaves; and one array of those, which is not
//! allocated before the first write either.

use std::ops::Range;

use super::detached::DetachedChunks;
use super::large_pages::{List, block_bytes, list};
use super::leaf::Leaf;
use super::packed::{PackedExtent, Piece};
use super::{CHUNK_SECTORS, LEAF_CHUNKS, low_bits};

const BRANCH_LEAVES: u64 = 1 << 11;
pub(super) const BRANCH_CHUNKS: u64 = BRANCH_LEAVES * LEAF_CHUNKS;

/// Neighbouring leaves of a stripe; only as long as the volume needs it.
pub(super) type Branch = List<Leaf>;

/// The top of a stripe's directory; empty before the first write.
pub(super) type Root = Vec<Option<Branch>>;

/// How much there is below some point of the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) extents: u64,
    pub(super) heap_bytes: u64,
}

/// The chunks of one stripe.
#[derive(Debug)]
pub(super) struct Directory {
    root: Root,
    /// Number of positions, that is of chunks that there could be.
    positions: u64,
    tally: Tally,
}

impl Directory {
    pub(super) const fn new(positions: u64) -> Self {
        Self {
            root: Vec::new(),
            positions,
            tally: Tally {
                extents: 0,
                heap_bytes: 0,
            },
        }
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// What is mapped of `range` of the chunk at `position`, ascending, cut to it.
    pub(super) fn lookup(&self, position: u64, range: Range<u32>, mut visit: impl FnMut(Piece)) {
        let (.., base) = indices(position);
        if let Some(leaf) = leaf_of(&self.root, position) {
            let range = range.start + base..range.end + base;
            leaf.lookup(range, |piece| visit(piece.moved_down(base)));
        }
    }

    /// The extents of the chunk at `position`, ascending, counted from the start of its leaf.
    pub(super) fn copy(&self, position: u64) -> Vec<PackedExtent> {
        let (.., base) = indices(position);
        let leaf = leaf_of(&self.root, position);
        leaf.map(|leaf| leaf.copy(base)).unwrap_or_default()
    }

    /// Maps `pieces` of the chunk at `position`, which ascend and lie where nothing is mapped.
    pub(super) fn fill(&mut self, position: u64, pieces: &[Piece]) {
        assert!(position < self.positions, "a chunk behind the volume's end");
        let (.., base) = indices(position);
        let leaf = leaf_or_new(&mut self.root, &mut self.tally, self.positions, position);
        leaf.fill(base, pieces, &mut self.tally);
    }

    /// Maps `piece` of the chunk at `position`, and reports what it overwrites.
    pub(super) fn insert(&mut self, position: u64, piece: Piece, mut displaced: impl FnMut(Piece)) {
        assert!(position < self.positions, "a chunk behind the volume's end");
        let (.., base) = indices(position);
        let leaf = leaf_or_new(&mut self.root, &mut self.tally, self.positions, position);
        leaf.insert(piece.moved_up(base), &mut self.tally, |old| {
            displaced(old.moved_down(base));
        });
    }

    /// Unmaps `range` of the chunk at `position`, and reports what was there.
    pub(super) fn remove(
        &mut self,
        position: u64,
        range: Range<u32>,
        mut displaced: impl FnMut(Piece),
    ) {
        let (branch, leaf, base) = indices(position);
        if let Some(Some(branch)) = self.root.get_mut(branch)
            && let Some(leaf) = branch.get_mut(leaf)
        {
            let range = range.start + base..range.end + base;
            leaf.remove(range, &mut self.tally, |old| {
                displaced(old.moved_down(base));
            });
        }
    }

    /// Takes all chunks at `positions` out, whole parts of the directory at once.
    pub(super) fn detach(&mut self, positions: Range<u64>, into: &mut DetachedChunks) {
        if positions.start == 0 && positions.end >= self.positions {
            self.tally = Tally::default();
            into.push_root(std::mem::take(&mut self.root));
            return;
        }
        let mut position = positions.start;
        while position < positions.end {
            let (index, ..) = indices(position);
            let start = index as u64 * BRANCH_CHUNKS;
            let end = start + BRANCH_CHUNKS;
            let part = position..end.min(positions.end);
            position = end;
            let Some(slot) = self.root.get_mut(index) else {
                return;
            };
            if part == (start..end.min(self.positions)) {
                if let Some(branch) = slot.take() {
                    self.tally
                        .change(tally_of_branch(&branch), Tally::default());
                    into.push_branch(start, branch);
                }
            } else if let Some(branch) = slot {
                detach_from_branch(branch, &mut self.tally, part, into);
            }
        }
    }

    /// Position of the first chunk at `from` or behind in which anything is mapped.
    pub(super) fn next_occupied(&self, from: u64) -> Option<u64> {
        first_occupied(&self.root, from)
    }

    /// Says what is wrong, if anything: in the counts, the shape, or a leaf. `chunk_end` gives
    /// the number of sectors that the chunk at a position may map.
    pub(super) fn self_check(&self, chunk_end: impl Fn(u64) -> u32) -> Result<(), String> {
        let mut found = Tally {
            extents: 0,
            heap_bytes: bytes_of::<Option<Branch>>(self.root.capacity()),
        };
        for (b, branch) in self.root.iter().enumerate() {
            let Some(branch) = branch else { continue };
            for (l, leaf) in branch.iter().enumerate() {
                let start = position_of(b, l);
                leaf.self_check()
                    .map_err(|error| format!("the leaf at position {start}: {error}"))?;
                for piece in leaf.pieces() {
                    let position = start + u64::from(piece.start) / CHUNK_SECTORS;
                    let (.., base) = indices(position);
                    if position >= self.positions || piece.end - base > chunk_end(position) {
                        return Err(format!(
                            "{piece:?} at position {position} is too far behind"
                        ));
                    }
                }
            }
            found.add(tally_of_branch(branch));
        }
        if found != self.tally {
            return Err(format!("there is {found:?}, counted was {:?}", self.tally));
        }
        Ok(())
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.extents += other.extents;
        self.heap_bytes += other.heap_bytes;
    }

    /// Counts what has become `after` where it was counted as `before`.
    pub(super) fn change(&mut self, before: Self, after: Self) {
        self.extents = self.extents + after.extents - before.extents;
        self.heap_bytes = self.heap_bytes + after.heap_bytes - before.heap_bytes;
    }
}

/// The leaves of a branch and the positions at which they start.
pub(super) fn leaves(branch: &Branch, start: u64) -> impl Iterator<Item = (u64, &Leaf)> {
    (0..)
        .zip(branch.iter())
        .map(move |(index, leaf): (u64, _)| (start + index * LEAF_CHUNKS, leaf))
}

/// The branches of a root and the positions at which they start.
pub(super) fn all_branches(root: &[Option<Branch>]) -> impl Iterator<Item = (u64, &Branch)> {
    (0..)
        .zip(root)
        .filter_map(|(index, branch): (u64, _)| Some((index * BRANCH_CHUNKS, branch.as_ref()?)))
}

/// The leaf that owns `position`, if it is there.
pub(super) fn leaf_of(root: &Root, position: u64) -> Option<&Leaf> {
    let (branch, leaf, _) = indices(position);
    root.get(branch)?.as_ref()?.get(leaf)
}

/// Position of the first chunk at `from` or behind in which anything is mapped.
pub(super) fn first_occupied(root: &Root, from: u64) -> Option<u64> {
    let (first, ..) = indices(from);
    all_branches(root.get(first..)?)
        .map(|(start, branch)| (start + first as u64 * BRANCH_CHUNKS, branch))
        .find_map(|(start, branch)| first_mapped(branch, start, from))
}

/// Position of the first chunk at `from` or behind in which anything is mapped, of the branch that
/// starts at `start`.
pub(super) fn first_mapped(branch: &Branch, start: u64, from: u64) -> Option<u64> {
    let from = from.max(start);
    let first = index((from - start) / LEAF_CHUNKS);
    let mut sector = low_bits(from % LEAF_CHUNKS * CHUNK_SECTORS);
    for (l, leaf) in branch.iter().enumerate().skip(first) {
        if let Some(mapped) = leaf.next_mapped(sector) {
            let chunk = u64::from(mapped) / CHUNK_SECTORS;
            return Some(start + l as u64 * LEAF_CHUNKS + chunk);
        }
        sector = 0;
    }
    None
}

/// The position at which the branch that owns `position` starts.
pub(super) const fn start_of_branch(position: u64) -> u64 {
    position - position % BRANCH_CHUNKS
}

/// The position at which the leaf that owns `position` starts.
pub(super) const fn start_of_leaf(position: u64) -> u64 {
    position - position % LEAF_CHUNKS
}

/// The leaf that owns `position`; what leads to it is allocated if need be.
fn leaf_or_new<'a>(
    root: &'a mut Root,
    tally: &mut Tally,
    positions: u64,
    position: u64,
) -> &'a mut Leaf {
    let (b, l, _) = indices(position);
    if root.is_empty() {
        let branches = index(positions.div_ceil(BRANCH_CHUNKS));
        root.reserve_exact(branches);
        root.resize_with(branches, || None);
        tally.heap_bytes += bytes_of::<Option<Branch>>(root.capacity());
    }
    let branch = root[b].get_or_insert_with(|| {
        let below = positions - b as u64 * BRANCH_CHUNKS;
        let leaves = index(below.div_ceil(LEAF_CHUNKS).min(BRANCH_LEAVES));
        tally.heap_bytes += bytes_of_branch(leaves);
        list(std::iter::repeat_with(|| Leaf::EMPTY).take(leaves))
    });
    &mut branch[l]
}

fn detach_from_branch(
    branch: &mut Branch,
    tally: &mut Tally,
    positions: Range<u64>,
    into: &mut DetachedChunks,
) {
    let mut position = positions.start;
    while position < positions.end {
        let (_, index, first) = indices(position);
        let start = start_of_leaf(position);
        let end = (start + LEAF_CHUNKS).min(positions.end);
        position = start + LEAF_CHUNKS;
        let Some(leaf) = branch.get_mut(index) else {
            return;
        };
        let (.., last) = indices(end - 1);
        let range = first..last + low_bits(CHUNK_SECTORS);
        leaf.detach(range, tally, start, into);
    }
}

fn bytes_of_branch(leaves: usize) -> u64 {
    block_bytes(leaves * size_of::<Leaf>()) as u64
}

fn tally_of_branch(branch: &Branch) -> Tally {
    let mut tally = Tally {
        extents: 0,
        heap_bytes: bytes_of_branch(branch.len()),
    };
    for leaf in branch.iter() {
        tally.add(leaf.tally());
    }
    tally
}

/// Indices into root and branch of the leaf that owns `position`, and the sector of the leaf at
/// which the chunk there starts.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a leaf has less than 2^32 sectors"
)]
pub(super) const fn indices(position: u64) -> (usize, usize, u32) {
    (
        index(position / BRANCH_CHUNKS),
        index(position / LEAF_CHUNKS % BRANCH_LEAVES),
        (position % LEAF_CHUNKS * CHUNK_SECTORS) as u32,
    )
}

/// The position at which a leaf starts.
const fn position_of(branch: usize, leaf: usize) -> u64 {
    branch as u64 * BRANCH_CHUNKS + leaf as u64 * LEAF_CHUNKS
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the engine is for 64-bit machines only"
)]
const fn index(number: u64) -> usize {
    number as usize
}

fn bytes_of<T>(count: usize) -> u64 {
    (count * size_of::<T>()) as u64
}
