//! What a discard took out of the map, to be counted and freed away from its locks.

use crate::words::units::Extent;

use super::directory::{Branch, Root, branches, leaves};
use super::leaf::Leaf;
use super::packed::Piece;
use super::{CHUNK_SECTORS, chunk_index, extent_of, low_bits};

/// Extents that are no longer mapped: whole parts of the map's directory, as they were cut off.
///
/// Cutting off is quick whatever the range; counting and freeing take time in proportion to what
/// was mapped, so whoever must answer soon hands this to someone else to look at and drop.
#[derive(Debug, Default)]
#[must_use = "it names the data that is dead now"]
pub struct Detached {
    /// From chunks that were cut in two, and from arrays of which some chunks stay.
    pieces: Vec<Extent>,
    /// The rest, each with its stripe and the position at which it starts.
    leaves: Vec<(u64, u64, Leaf)>,
    branches: Vec<(u64, u64, Branch)>,
    roots: Vec<(u64, Root)>,
}

impl Detached {
    /// Calls `visit` with every extent, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Extent)) {
        self.pieces.iter().copied().for_each(&mut visit);
        let mut leaf_of = |stripe, start, leaf: &Leaf| {
            for piece in leaf.pieces() {
                visit(extent_in_leaf(stripe, start, piece));
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
    }

    /// Takes a piece of a leaf that starts at position `start`.
    pub(super) fn push_piece(&mut self, stripe: u64, start: u64, piece: Piece) {
        self.pieces.push(extent_in_leaf(stripe, start, piece));
    }

    pub(super) fn push_extent(&mut self, extent: Extent) {
        self.pieces.push(extent);
    }

    pub(super) fn push_leaf(&mut self, stripe: u64, start: u64, leaf: Leaf) {
        if !leaf.is_empty() {
            self.leaves.push((stripe, start, leaf));
        }
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

/// A piece of the leaf that starts at position `start` of `stripe`, as an extent of the volume.
fn extent_in_leaf(stripe: u64, start: u64, piece: Piece) -> Extent {
    let chunk = u64::from(piece.start) / CHUNK_SECTORS;
    let base = chunk * CHUNK_SECTORS;
    let index = chunk_index(stripe, start + chunk);
    extent_of(index, piece.moved_down(low_bits(base)))
}
