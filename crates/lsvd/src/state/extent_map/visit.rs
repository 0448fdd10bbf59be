//! Walking the map in LBA order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

use crate::words::units::{Lba, LbaRange, Location};

use super::directory::Directory;
use super::{
    CHUNK_SECTORS, ExtentMap, STRIPES, chunk_index, chunk_of, extent_of, part_in, parts,
    position_of, stripe_of,
};

/// Calls `visit` with the parts of `range`, ascending and without gaps, and where each lives.
/// Mapped parts are visited under the lock of their chunk. Ends early once `visit` has said that
/// it wants no more.
pub(super) fn visit_chunks(
    map: &ExtentMap,
    range: LbaRange,
    visit: impl FnMut(LbaRange, Option<Location>) -> bool,
) {
    let mut runs = Runs {
        visit,
        reported: range.start,
        wants_more: true,
    };
    if range.sectors() <= CHUNK_SECTORS * STRIPES {
        for (index, part) in parts(range) {
            if !runs.wants_more {
                return;
            }
            map.with_stripe_of(index, |stripe| runs.chunk(stripe, index, part));
        }
    } else {
        visit_occupied(map, range, &mut runs);
    }
    runs.unmapped_up_to(range.end);
}

/// Visits only the chunks in which anything is mapped: asks every stripe for its next one, and
/// goes on with the lowest.
fn visit_occupied<V: FnMut(LbaRange, Option<Location>) -> bool>(
    map: &ExtentMap,
    range: LbaRange,
    runs: &mut Runs<V>,
) {
    let first = chunk_of(range.start);
    let end = range.end.0.div_ceil(CHUNK_SECTORS);
    let mut next: BinaryHeap<Reverse<u64>> = (first..first + STRIPES)
        .filter_map(|from| map.with_stripe_of(from, |stripe| next_occupied(stripe, from, end)))
        .map(Reverse)
        .collect();
    while let Some(mut lowest) = next.peek_mut() {
        if !runs.wants_more {
            return;
        }
        let index = lowest.0;
        let following = map.with_stripe_of(index, |stripe| {
            runs.chunk(stripe, index, part_in(range, index));
            next_occupied(stripe, index + STRIPES, end)
        });
        match following {
            Some(following) => *lowest = Reverse(following),
            None => {
                PeekMut::pop(lowest);
            }
        }
    }
}

/// The first chunk of the stripe from chunk `from` of it on, and before `end`, with anything in it.
fn next_occupied(stripe: &Directory, from: u64, end: u64) -> Option<u64> {
    let position = stripe.next_occupied(position_of(from))?;
    let index = chunk_index(stripe_of(from), position);
    (index < end).then_some(index)
}

/// Turns the mapped parts, as they are found, into parts without gaps.
struct Runs<V> {
    visit: V,
    /// All before this has been visited.
    reported: Lba,
    wants_more: bool,
}

impl<V: FnMut(LbaRange, Option<Location>) -> bool> Runs<V> {
    fn chunk(&mut self, stripe: &Directory, index: u64, part: Range<u32>) {
        stripe.lookup(position_of(index), part, |piece| {
            let extent = extent_of(index, piece);
            self.unmapped_up_to(extent.range.start);
            self.report(extent.range, Some(extent.location));
        });
    }

    fn unmapped_up_to(&mut self, end: Lba) {
        if self.reported < end {
            self.report(LbaRange::new(self.reported, end), None);
        }
    }

    fn report(&mut self, range: LbaRange, location: Option<Location>) {
        self.wants_more = self.wants_more && (self.visit)(range, location);
        self.reported = range.end;
    }
}
