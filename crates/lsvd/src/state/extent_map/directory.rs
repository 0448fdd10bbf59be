//! The directory of one stripe: the chunks that it owns, allocated when they are first written.
//!
//! Chunks are counted by their position in the stripe. Three levels: leaves of a few chunks, so
//! that a sparse volume pays little for each place that is touched; arrays of leaves; and one
//! array of those, which is not allocated before the first write either.

use std::ops::Range;

use super::chunk::Chunk;
use super::detached::Detached;
use super::packed::Piece;

const LEAF_LEN: usize = 64;
pub(super) const LEAF_CHUNKS: u64 = LEAF_LEN as u64;
const BRANCH_LEAVES: u64 = 1 << 10;
pub(super) const BRANCH_CHUNKS: u64 = BRANCH_LEAVES * LEAF_CHUNKS;

/// Neighbouring chunks of a stripe. A leaf without extents is freed.
#[derive(Debug)]
pub(super) struct Leaf {
    extents: u64,
    chunks: [Chunk; LEAF_LEN],
}

/// Neighbouring leaves of a stripe; only as long as the volume needs it.
pub(super) type Branch = Box<[Option<Box<Leaf>>]>;

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

    /// The chunk at `position`, if anything near it is mapped.
    pub(super) fn chunk(&self, position: u64) -> Option<&Chunk> {
        let (branch, leaf, chunk) = indices(position);
        let leaf = self.root.get(branch)?.as_ref()?.get(leaf)?.as_ref()?;
        leaf.chunks.get(chunk)
    }

    /// Maps `piece` of the chunk at `position`.
    pub(super) fn insert(&mut self, position: u64, piece: Piece, displaced: impl FnMut(Piece)) {
        assert!(position < self.positions, "a chunk behind the volume's end");
        let leaf = leaf_or_new(&mut self.root, &mut self.tally, self.positions, position);
        let (.., chunk) = indices(position);
        change(leaf, chunk, &mut self.tally, |chunk| {
            chunk.insert(piece, displaced);
        });
    }

    /// Unmaps `range` of the chunk at `position`.
    pub(super) fn remove(
        &mut self,
        position: u64,
        range: Range<u32>,
        displaced: impl FnMut(Piece),
    ) {
        let (branch, leaf, chunk) = indices(position);
        let Some(Some(branch)) = self.root.get_mut(branch) else {
            return;
        };
        let Some(slot) = branch.get_mut(leaf) else {
            return;
        };
        let Some(leaf) = slot else {
            return;
        };
        change(leaf, chunk, &mut self.tally, |chunk| {
            chunk.remove(range, displaced);
        });
        if leaf.extents == 0 {
            *slot = None;
            self.tally.heap_bytes -= bytes_of::<Leaf>(1);
        }
    }

    /// Takes all chunks at `positions` out, whole parts of the directory at once.
    pub(super) fn detach(&mut self, stripe: u64, positions: Range<u64>, into: &mut Detached) {
        if positions.start == 0 && positions.end >= self.positions {
            self.tally = Tally::default();
            into.push_root(stripe, std::mem::take(&mut self.root));
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
                    self.tally.subtract(tally_of_branch(&branch));
                    into.push_branch(stripe, start, branch);
                }
            } else if let Some(branch) = slot {
                detach_from_branch(branch, &mut self.tally, stripe, part, into);
            }
        }
    }

    /// Position of the first chunk at `from` or behind in which anything is mapped.
    pub(super) fn next_occupied(&self, from: u64) -> Option<u64> {
        let (first_branch, mut first_leaf, mut first_chunk) = indices(from);
        for (b, branch) in self.root.iter().enumerate().skip(first_branch) {
            if let Some(branch) = branch {
                for (l, leaf) in branch.iter().enumerate().skip(first_leaf) {
                    if let Some(leaf) = leaf {
                        let chunks = leaf.chunks.iter().enumerate().skip(first_chunk);
                        for (c, chunk) in chunks {
                            if !chunk.is_empty() {
                                return Some(position_of(b, l, c));
                            }
                        }
                    }
                    first_chunk = 0;
                }
            }
            (first_leaf, first_chunk) = (0, 0);
        }
        None
    }

    /// Says what is wrong, if anything: in the counts, the shape, or a chunk. `chunk_end` gives
    /// the number of sectors that the chunk at a position may map.
    pub(super) fn self_check(&self, chunk_end: impl Fn(u64) -> u32) -> Result<(), String> {
        let mut found = Tally {
            extents: 0,
            heap_bytes: bytes_of::<Option<Branch>>(self.root.capacity()),
        };
        for (b, branch) in self.root.iter().enumerate() {
            let Some(branch) = branch else { continue };
            found.heap_bytes += bytes_of::<Option<Box<Leaf>>>(branch.len());
            for (l, leaf) in branch.iter().enumerate() {
                let Some(leaf) = leaf else { continue };
                let mut extents = 0;
                for (c, chunk) in leaf.chunks.iter().enumerate() {
                    let position = position_of(b, l, c);
                    if position >= self.positions && !chunk.is_empty() {
                        return Err(format!("position {position} lies behind the volume's end"));
                    }
                    if position < self.positions {
                        chunk
                            .self_check(chunk_end(position))
                            .map_err(|error| format!("position {position}: {error}"))?;
                    }
                    extents += chunk.len() as u64;
                    found.heap_bytes += chunk.heap_bytes() as u64;
                }
                if extents == 0 || extents != leaf.extents {
                    let position = position_of(b, l, 0);
                    return Err(format!(
                        "the leaf at position {position} has {extents} extents and counts {}",
                        leaf.extents
                    ));
                }
                found.extents += extents;
                found.heap_bytes += bytes_of::<Leaf>(1);
            }
        }
        if found != self.tally {
            return Err(format!("there is {found:?}, counted was {:?}", self.tally));
        }
        Ok(())
    }
}

impl Tally {
    fn subtract(&mut self, other: Self) {
        self.extents -= other.extents;
        self.heap_bytes -= other.heap_bytes;
    }
}

impl Leaf {
    fn new() -> Box<Self> {
        Box::new(Self {
            extents: 0,
            chunks: [const { Chunk::new() }; LEAF_LEN],
        })
    }

    fn tally(&self) -> Tally {
        let chunks: usize = self.chunks.iter().map(Chunk::heap_bytes).sum();
        Tally {
            extents: self.extents,
            heap_bytes: bytes_of::<Self>(1) + chunks as u64,
        }
    }

    /// The chunks and their positions, where the first one's is `start`.
    pub(super) fn chunks(&self, start: u64) -> impl Iterator<Item = (u64, &Chunk)> {
        (start..).zip(&self.chunks)
    }
}

/// The leaves of a branch and the positions at which they start.
pub(super) fn leaves(branch: &Branch, start: u64) -> impl Iterator<Item = (u64, &Leaf)> {
    (start..)
        .step_by(LEAF_LEN)
        .zip(branch)
        .filter_map(|(start, leaf)| Some((start, leaf.as_deref()?)))
}

/// The branches of a root and the positions at which they start.
pub(super) fn branches(root: &Root) -> impl Iterator<Item = (u64, &Branch)> {
    (0..)
        .zip(root)
        .filter_map(|(index, branch)| Some((index * BRANCH_CHUNKS, branch.as_ref()?)))
}

/// The leaf that owns `position`, allocated with what leads to it if need be.
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
        tally.heap_bytes += bytes_of::<Option<Box<Leaf>>>(leaves);
        std::iter::repeat_with(|| None).take(leaves).collect()
    });
    branch[l].get_or_insert_with(|| {
        tally.heap_bytes += bytes_of::<Leaf>(1);
        Leaf::new()
    })
}

/// Changes a chunk of a leaf and keeps the counts.
fn change(leaf: &mut Leaf, chunk: usize, tally: &mut Tally, change: impl FnOnce(&mut Chunk)) {
    let chunk = &mut leaf.chunks[chunk];
    let (extents, heap_bytes) = (chunk.len() as u64, chunk.heap_bytes() as u64);
    change(chunk);
    let (extents_now, heap_bytes_now) = (chunk.len() as u64, chunk.heap_bytes() as u64);
    // Most writes overwrite an extent exactly; they need not wait for the line of the count.
    if extents_now != extents {
        leaf.extents = leaf.extents + extents_now - extents;
        tally.extents = tally.extents + extents_now - extents;
    }
    if heap_bytes_now != heap_bytes {
        tally.heap_bytes = tally.heap_bytes + heap_bytes_now - heap_bytes;
    }
}

fn detach_from_branch(
    branch: &mut Branch,
    tally: &mut Tally,
    stripe: u64,
    positions: Range<u64>,
    into: &mut Detached,
) {
    let mut position = positions.start;
    while position < positions.end {
        let (_, index, first) = indices(position);
        let start = position - first as u64;
        let part = position..(start + LEAF_CHUNKS).min(positions.end);
        position = start + LEAF_CHUNKS;
        let Some(slot) = branch.get_mut(index) else {
            return;
        };
        let Some(leaf) = slot else { continue };
        let before = leaf.tally();
        if part != (start..start + LEAF_CHUNKS) {
            for position in part {
                let (.., chunk) = indices(position);
                let chunk = std::mem::take(&mut leaf.chunks[chunk]);
                leaf.extents -= chunk.len() as u64;
                into.push_chunk(stripe, position, chunk);
            }
            if leaf.extents != 0 {
                let after = leaf.tally();
                tally.subtract(Tally {
                    extents: before.extents - after.extents,
                    heap_bytes: before.heap_bytes - after.heap_bytes,
                });
                continue;
            }
        }
        tally.subtract(before);
        if let Some(leaf) = slot.take() {
            into.push_leaf(stripe, start, leaf);
        }
    }
}

fn tally_of_branch(branch: &Branch) -> Tally {
    let mut tally = Tally {
        extents: 0,
        heap_bytes: bytes_of::<Option<Box<Leaf>>>(branch.len()),
    };
    for (_, leaf) in leaves(branch, 0) {
        let leaf = leaf.tally();
        tally.extents += leaf.extents;
        tally.heap_bytes += leaf.heap_bytes;
    }
    tally
}

/// Indices into root, branch and leaf of the chunk at `position`.
fn indices(position: u64) -> (usize, usize, usize) {
    (
        index(position / BRANCH_CHUNKS),
        index(position / LEAF_CHUNKS % BRANCH_LEAVES),
        index(position % LEAF_CHUNKS),
    )
}

fn position_of(branch: usize, leaf: usize, chunk: usize) -> u64 {
    branch as u64 * BRANCH_CHUNKS + leaf as u64 * LEAF_CHUNKS + chunk as u64
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
