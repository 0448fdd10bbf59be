//! What a discard took out of the map, to be counted and freed away from its locks.

use crate::words::units::Extent;

use super::chunk::Chunk;
use super::directory::{Branch, Leaf, Root, branches, leaves};
use super::packed::Piece;
use super::{chunk_index, extent_of};

/// Extents that are no longer mapped: whole parts of the map's directory, as they were cut off.
///
/// Cutting off is quick whatever the range; counting and freeing take time in proportion to what
/// was mapped, so whoever must answer soon hands this to someone else to look at and drop.
#[derive(Debug, Default)]
#[must_use = "it names the data that is dead now"]
pub struct Detached {
    /// From chunks that were cut in two.
    pieces: Vec<Extent>,
    /// The rest, each with its stripe and the position in it.
    chunks: Vec<(u64, u64, Chunk)>,
    leaves: Vec<(u64, u64, Box<Leaf>)>,
    branches: Vec<(u64, u64, Branch)>,
    roots: Vec<(u64, Root)>,
}

impl Detached {
    /// Calls `visit` with every extent, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Extent)) {
        self.pieces.iter().copied().for_each(&mut visit);
        let mut whole = |stripe, position, chunk: &Chunk| {
            let index = chunk_index(stripe, position);
            chunk
                .pieces()
                .for_each(|piece| visit(extent_of(index, piece)));
        };
        let mut leaf_of = |stripe, start, leaf: &Leaf| {
            for (position, chunk) in leaf.chunks(start) {
                whole(stripe, position, chunk);
            }
        };
        for (stripe, start, leaf) in &self.leaves {
            leaf_of(*stripe, *start, leaf);
        }
        let mut branch_of = |stripe, start, branch: &Branch| {
            for (start, leaf) in leaves(branch, start) {
                leaf_of(stripe, start, leaf);
            }
        };
        for (stripe, start, branch) in &self.branches {
            branch_of(*stripe, *start, branch);
        }
        for (stripe, root) in &self.roots {
            for (start, branch) in branches(root) {
                branch_of(*stripe, start, branch);
            }
        }
        for (stripe, position, chunk) in &self.chunks {
            whole(*stripe, *position, chunk);
        }
    }

    pub(super) fn push_piece(&mut self, index: u64, piece: Piece) {
        self.pieces.push(extent_of(index, piece));
    }

    pub(super) fn push_chunk(&mut self, stripe: u64, position: u64, chunk: Chunk) {
        if !chunk.is_empty() {
            self.chunks.push((stripe, position, chunk));
        }
    }

    pub(super) fn push_leaf(&mut self, stripe: u64, start: u64, leaf: Box<Leaf>) {
        self.leaves.push((stripe, start, leaf));
    }

    pub(super) fn push_branch(&mut self, stripe: u64, start: u64, branch: Branch) {
        self.branches.push((stripe, start, branch));
    }

    pub(super) fn push_root(&mut self, stripe: u64, root: Root) {
        if !root.is_empty() {
            self.roots.push((stripe, root));
        }
    }
}
