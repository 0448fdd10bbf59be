//! What a discard took out of the map, to be counted and freed away from its locks.

use crate::sync::Arc;
use crate::words::units::Extent;

use super::directory::{
    Branch, Root, all_branches, first_mapped, first_occupied, indices, leaf_of, leaves,
    start_of_branch, start_of_leaf,
};
use super::leaf::Leaf;
use super::packed::{PackedExtent, Piece};
use super::{CHUNK_SECTORS, chunk_index, extent_of, low_bits};

/// Extents that are no longer mapped: whole parts of the map's directory, as they were cut off.
///
/// Cutting off is quick whatever the range; counting and freeing take time in proportion to what
/// was mapped, so whoever must answer soon hands this to someone else to look at and drop.
#[derive(Debug, Default)]
#[must_use = "it names the data that is dead now"]
pub struct Detached {
    /// From chunks that were cut in two.
    extents: Vec<Extent>,
    /// The rest, by stripe. A cut that is being walked may need it as well.
    stripes: Vec<Arc<DetachedChunks>>,
}

/// What was detached of one stripe: whole chunks, each part of the directory with the position at
/// which it starts, ascending.
#[derive(Debug)]
pub(super) struct DetachedChunks {
    stripe: u64,
    /// From arrays of which other chunks stay, counted from the start of the leaf.
    pieces: Vec<(u64, Piece)>,
    /// A leaf that had several arrays may be here in several parts.
    leaves: Vec<(u64, Leaf)>,
    branches: Vec<(u64, Branch)>,
    root: Root,
}

impl Detached {
    /// Calls `visit` with every extent, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Extent)) {
        self.extents.iter().copied().for_each(&mut visit);
        for stripe in &self.stripes {
            stripe.for_each(&mut visit);
        }
    }

    pub(super) fn push_extent(&mut self, extent: Extent) {
        self.extents.push(extent);
    }

    pub(super) fn push_chunks(&mut self, chunks: Arc<DetachedChunks>) {
        self.stripes.push(chunks);
    }
}

impl DetachedChunks {
    pub(super) const fn new(stripe: u64) -> Self {
        Self {
            stripe,
            pieces: Vec::new(),
            leaves: Vec::new(),
            branches: Vec::new(),
            root: Root::new(),
        }
    }

    /// Whether there is nothing in it. Branches that are here may still map nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
            && self.leaves.is_empty()
            && self.branches.is_empty()
            && self.root.is_empty()
    }

    fn for_each(&self, mut visit: impl FnMut(Extent)) {
        for (start, piece) in &self.pieces {
            visit(extent_in_leaf(self.stripe, *start, *piece));
        }
        let mut leaf_of = |start, leaf: &Leaf| {
            for piece in leaf.pieces() {
                visit(extent_in_leaf(self.stripe, start, piece));
            }
        };
        for (start, leaf) in &self.leaves {
            leaf_of(*start, leaf);
        }
        let branches = self.branches.iter();
        let branches = branches.map(|(start, branch)| (*start, branch));
        for (start, branch) in branches.chain(all_branches(&self.root)) {
            for (start, leaf) in leaves(branch, start) {
                leaf_of(start, leaf);
            }
        }
    }

    /// The extents of the chunk at `position`, ascending, counted from the start of its leaf.
    pub(super) fn copy(&self, position: u64) -> Vec<PackedExtent> {
        let (.., base) = indices(position);
        if let Some(leaf) = leaf_of(&self.root, position) {
            return leaf.copy(base);
        }
        let start = start_of_branch(position);
        if let Ok(at) = self
            .branches
            .binary_search_by_key(&start, |(start, _)| *start)
        {
            let (_, index, _) = indices(position);
            let leaf = self.branches[at].1.get(index);
            return leaf.map(|leaf| leaf.copy(base)).unwrap_or_default();
        }
        let start = start_of_leaf(position);
        let mut extents = Vec::new();
        let first = self.leaves.partition_point(|(at, _)| *at < start);
        for (_, leaf) in self.leaves[first..]
            .iter()
            .take_while(|(at, _)| *at == start)
        {
            extents.extend(leaf.copy(base));
        }
        let first = self.pieces.partition_point(|(at, _)| *at < start);
        let pieces = self.pieces[first..]
            .iter()
            .take_while(|(at, _)| *at == start);
        let chunk = base..base + low_bits(CHUNK_SECTORS);
        let pieces = pieces.filter(|(_, piece)| chunk.contains(&piece.start));
        extents.extend(pieces.map(|(_, piece)| PackedExtent::pack(*piece)));
        extents
    }

    /// Position of the first chunk at `from` or behind in which anything was mapped.
    pub(super) fn next_occupied(&self, from: u64) -> Option<u64> {
        let (.., base) = indices(from);
        let (in_leaf, in_branch) = (start_of_leaf(from), start_of_branch(from));
        let chunk_at = |start: u64, sector: u32| start + u64::from(sector) / CHUNK_SECTORS;

        let first = self.pieces.partition_point(|(start, _)| *start < in_leaf);
        let pieces = self.pieces[first..].iter();
        let pieces = pieces.map(|(start, piece)| chunk_at(*start, piece.start));
        let of_pieces = { pieces }.find(|position| *position >= from);

        let first = self.leaves.partition_point(|(start, _)| *start < in_leaf);
        let of_leaves = self.leaves[first..].iter().find_map(|(start, leaf)| {
            let sector = leaf.next_mapped(if *start == in_leaf { base } else { 0 })?;
            Some(chunk_at(*start, sector)).filter(|position| *position >= from)
        });

        let first = self
            .branches
            .partition_point(|(start, _)| *start < in_branch);
        let of_branches = self.branches[first..]
            .iter()
            .find_map(|(start, branch)| first_mapped(branch, *start, from));
        let of_root = first_occupied(&self.root, from);
        let all = [of_pieces, of_leaves, of_branches, of_root];
        all.into_iter().flatten().min()
    }

    /// Takes a piece of a leaf that starts at position `start`.
    pub(super) fn push_piece(&mut self, start: u64, piece: Piece) {
        self.pieces.push((start, piece));
    }

    pub(super) fn push_leaf(&mut self, start: u64, leaf: Leaf) {
        if !leaf.is_empty() {
            self.leaves.push((start, leaf));
        }
    }

    pub(super) fn push_branch(&mut self, start: u64, branch: Branch) {
        self.branches.push((start, branch));
    }

    pub(super) fn push_root(&mut self, root: Root) {
        self.root = root;
    }
}

/// A piece of the leaf that starts at position `start` of `stripe`, as an extent of the volume.
fn extent_in_leaf(stripe: u64, start: u64, piece: Piece) -> Extent {
    let chunk = u64::from(piece.start) / CHUNK_SECTORS;
    let base = chunk * CHUNK_SECTORS;
    let index = chunk_index(stripe, start + chunk);
    extent_of(index, piece.moved_down(low_bits(base)))
}
