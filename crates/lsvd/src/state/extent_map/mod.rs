//! The extent map: where the newest copy of every sector of the volume lives.
//!
//! The LBA space is cut into chunks of a fixed size, which are dealt to a fixed number of stripes in
//! turn. A stripe has one lock and the directory of its chunks, allocated as they are written. At
//! its bottom are sorted arrays of packed extents, one for each chunk, or one for several neighbours
//! in the stripe as long as they have few extents. So an access takes one lock (two where it crosses
//! a chunk border), neighbouring chunks never share it, and whoever needs the whole volume takes
//! all locks there are, a fixed number.
//!
//! Locks are taken in the order of the stripes, never by a thread that holds some already.
//! Nothing here does I/O, and no extent crosses a chunk border.

mod array;
mod changes;
mod cut;
mod detached;
mod directory;
mod fill;
mod large_pages;
mod leaf;
mod locked;
mod packed;
mod saved;
mod visit;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

use crate::sync::Mutex;
use crate::words::limits::VOLUME_BYTES_MAX;
use crate::words::units::{Extent, Lba, LbaRange, Location, SECTOR_BYTES};

use changes::Changes;
use cut::CutState;
use directory::{Directory, Tally};
use packed::Piece;
use saved::Saved;
use visit::visit_chunks;

pub use changes::RegionNumber;
pub use cut::{Cut, CutCount, RegionWalk};
pub use detached::Detached;
pub use fill::Filler;
pub use locked::LockedRange;

/// Sectors of a chunk, as a power of two: 4 MiB.
const CHUNK_BITS: u32 = 13;
const CHUNK_SECTORS: u64 = 1 << CHUNK_BITS;

/// Chunks of a leaf of a stripe's directory, as a power of two.
const LEAF_BITS: u32 = 5;
const LEAF_CHUNKS: u64 = 1 << LEAF_BITS;
const LEAF_SECTORS: u64 = LEAF_CHUNKS * CHUNK_SECTORS;

/// Number of locks. Two requests that are under way at once and have no chunk in common meet at
/// one lock by a chance of one in this many.
const STRIPES: u64 = 256;

/// Where the newest copy of every sector lives, exactly. Any number of threads may use it.
pub struct ExtentMap {
    sectors: u64,
    stripes: Box<[Stripe]>,
    changes: Changes,
    cut: CutState,
}

/// Aligned so that no two locks share a cache line, nor a pair of lines that is fetched as one.
#[repr(align(128))]
struct Stripe(Mutex<Chunks>);

const _: () = assert!(size_of::<Stripe>() == 128 || cfg!(shuttle));

/// The chunks of one stripe: as they are, and as they were at a cut.
#[derive(Debug)]
struct Chunks {
    directory: Directory,
    saved: Saved,
}

impl ExtentMap {
    /// The map of a volume of `sectors` sectors on which nothing was written.
    ///
    /// # Panics
    /// When `sectors` is more than the largest volume has.
    #[must_use]
    pub fn new(sectors: u64) -> Self {
        assert!(
            sectors <= VOLUME_BYTES_MAX / SECTOR_BYTES,
            "a volume of {sectors} sectors is too large"
        );
        let chunks = sectors.div_ceil(CHUNK_SECTORS);
        let stripes = (0..STRIPES)
            .map(|stripe| positions_before(chunks, stripe))
            .map(|positions| Chunks {
                directory: Directory::new(positions),
                saved: Saved::default(),
            })
            .map(|chunks| Stripe(Mutex::new(chunks)))
            .collect();
        Self {
            sectors,
            stripes,
            changes: Changes::new(chunks),
            cut: CutState::new(),
        }
    }

    /// Number of sectors of the volume.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Exclusive access to the part of the map that `range` touches.
    ///
    /// Takes one lock for each chunk that is touched, and at most a fixed number. Dropping the
    /// guard is what lets others in again; it must not be held while waiting for anything.
    ///
    /// # Panics
    /// When `range` is empty or reaches behind the volume's end.
    pub fn lock(&self, range: LbaRange) -> LockedRange<'_> {
        self.assert_inside(range);
        assert!(!range.is_empty(), "an empty range has nothing to lock");
        let first_chunk = chunk_of(range.start);
        let last_chunk = (range.end.0 - 1) / CHUNK_SECTORS;
        let first_stripe = stripe_of(first_chunk);
        let count = (last_chunk - first_chunk + 1).min(STRIPES);
        // Chunks are taken in ascending order, except that those whose stripes start again at
        // the first one come before: one order for all, so that no two threads wait in a circle.
        let wrapped = (first_stripe + count).saturating_sub(STRIPES);
        let mut stripes = SmallVec::new();
        if count == 1 {
            stripes.push(self.stripe(first_stripe).lock());
        } else {
            let behind = first_stripe..first_stripe + count - wrapped;
            stripes.extend(
                (0..wrapped)
                    .chain(behind)
                    .map(|stripe| self.stripe(stripe).lock()),
            );
            stripes.rotate_left(index_of(wrapped));
        }
        LockedRange {
            map: self,
            range,
            first_chunk,
            stripes,
        }
    }

    /// Calls `visit` with the parts of `range`, ascending and without gaps, and where each lives;
    /// `None` is unmapped.
    ///
    /// A mapped part is visited under the lock of its chunk, so what it names can be pinned before
    /// anyone else may overwrite it. Chunks are locked one after the other: each part is as it was
    /// at some moment during the call, but not all at the same one. Extents are cut at chunk
    /// borders; joining those that continue each other is left to the caller. Unmapped parts are
    /// joined.
    ///
    /// `visit` must not use the map.
    ///
    /// # Panics
    /// When `range` reaches behind the volume's end.
    pub fn lookup(&self, range: LbaRange, mut visit: impl FnMut(LbaRange, Option<Location>)) {
        self.lookup_while(range, |range, location| {
            visit(range, location);
            true
        });
    }

    /// [`lookup`](Self::lookup) that ends when `visit` says, by `false`, that it wants no more.
    ///
    /// # Panics
    /// The same.
    pub fn lookup_while(
        &self,
        range: LbaRange,
        visit: impl FnMut(LbaRange, Option<Location>) -> bool,
    ) {
        self.assert_inside(range);
        visit_chunks(self, range, visit);
    }

    /// Number of extents; those that continue each other across a chunk border count twice.
    #[must_use]
    pub fn extent_count(&self) -> u64 {
        self.tally().extents
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extent_count() == 0
    }

    /// Bytes that the map has allocated: slack, directory and what the pool adds to each block
    /// included.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        size_of_val(&*self.stripes) as u64 + self.tally().heap_bytes
    }

    /// Says what is wrong with the map, if anything: order, overlap, merging, bounds, slack and
    /// counts.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn self_check(&self) -> Result<(), String> {
        for (number, stripe) in (0..).zip(&self.stripes) {
            let chunk_end = |position| {
                let start = chunk_index(number, position) * CHUNK_SECTORS;
                low_bits(self.sectors.saturating_sub(start).min(CHUNK_SECTORS))
            };
            let chunks = stripe.0.lock();
            let checked = chunks.directory.self_check(chunk_end);
            checked
                .and_then(|()| chunks.saved.self_check())
                .map_err(|error| format!("stripe {number}: {error}"))?;
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for stripe in &self.stripes {
            let tally = stripe.0.lock().directory.tally();
            sum.extents += tally.extents;
            sum.heap_bytes += tally.heap_bytes;
        }
        sum
    }

    /// Calls `look` with the stripe that owns chunk `index`.
    fn with_stripe_of<R>(&self, index: u64, look: impl FnOnce(&Directory) -> R) -> R {
        look(&self.stripe(stripe_of(index)).lock().directory)
    }

    fn stripe(&self, stripe: u64) -> &Mutex<Chunks> {
        &self.stripes[index_of(stripe)].0
    }

    fn assert_inside(&self, range: LbaRange) {
        assert!(
            range.end.0 <= self.sectors,
            "{range:?} reaches behind the volume's {} sectors",
            self.sectors
        );
    }
}

impl fmt::Debug for ExtentMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No counts: whoever prints the map may hold a lock of it.
        f.debug_struct("ExtentMap")
            .field("sectors", &self.sectors)
            .finish_non_exhaustive()
    }
}

/// The chunk that has sector `lba`.
const fn chunk_of(lba: Lba) -> u64 {
    lba.0 / CHUNK_SECTORS
}

/// The stripe that owns chunk `index`.
const fn stripe_of(index: u64) -> u64 {
    index % STRIPES
}

/// The position that chunk `index` has in its stripe.
const fn position_of(index: u64) -> u64 {
    index / STRIPES
}

/// The chunk at `position` of `stripe`.
const fn chunk_index(stripe: u64, position: u64) -> u64 {
    position * STRIPES + stripe
}

/// Number of chunks before chunk `index` that `stripe` owns.
const fn positions_before(index: u64, stripe: u64) -> u64 {
    (index + STRIPES - 1 - stripe) / STRIPES
}

const _: () = assert!(chunk_index(3, positions_before(3, 3)) == 3);
const _: () = assert!(chunk_index(3, positions_before(4, 3)) == 3 + STRIPES);

/// The chunks that `range` touches, and the part of each that is inside it.
fn parts(range: LbaRange) -> impl Iterator<Item = (u64, Range<u32>)> {
    let first = chunk_of(range.start);
    let end = if range.is_empty() {
        first
    } else {
        range.end.0.div_ceil(CHUNK_SECTORS)
    };
    (first..end).map(move |index| (index, part_in(range, index)))
}

/// The part of chunk `index` that is inside `range`.
fn part_in(range: LbaRange, index: u64) -> Range<u32> {
    let start = index * CHUNK_SECTORS;
    let from = range.start.0.saturating_sub(start);
    let to = (range.end.0 - start).min(CHUNK_SECTORS);
    low_bits(from)..low_bits(to)
}

/// A piece of chunk `index` as an extent of the volume.
fn extent_of(index: u64, piece: Piece) -> Extent {
    let start = index * CHUNK_SECTORS;
    Extent {
        range: LbaRange::new(
            Lba(start + u64::from(piece.start)),
            Lba(start + u64::from(piece.end)),
        ),
        location: piece.location,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sector numbers inside a chunk or a leaf are small"
)]
fn low_bits(sectors: u64) -> u32 {
    debug_assert!(sectors <= LEAF_SECTORS);
    sectors as u32
}

#[expect(clippy::cast_possible_truncation, reason = "there are few stripes")]
const fn index_of(stripe: u64) -> usize {
    stripe as usize
}
