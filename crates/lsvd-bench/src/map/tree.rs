//! The peer: the same extents in a `BTreeMap`, with the start as key.
//!
//! It has the better of it where the two differ: there are no locks, and an extent that is
//! overwritten exactly is replaced after one search, without a look at its neighbours.

use std::collections::BTreeMap;

use lsvd::words::units::{DataOffset, Extent, Lba, LbaRange, Location};

/// Extents by their first sector.
#[derive(Default)]
pub(super) struct TreeMap {
    extents: BTreeMap<u64, Mapped>,
}

#[derive(Clone, Copy)]
struct Mapped {
    sectors: u32,
    location: Location,
}

impl TreeMap {
    pub(super) fn extent_count(&self) -> u64 {
        self.extents.len() as u64
    }

    /// Calls `visit` with the parts of `range`, ascending and without gaps.
    pub(super) fn lookup(
        &self,
        range: LbaRange,
        mut visit: impl FnMut(LbaRange, Option<Location>),
    ) {
        let (mut at, end) = (range.start.0, range.end.0);
        if let Some((start, mapped)) = self.extents.range(..=at).next_back()
            && start + u64::from(mapped.sectors) > at
        {
            let to = end.min(start + u64::from(mapped.sectors));
            let part = LbaRange::new(Lba(at), Lba(to));
            visit(part, Some(advance(mapped.location, at - start)));
            at = to;
            if at == end {
                return;
            }
        }
        for (start, mapped) in self.extents.range(at..end) {
            if at < *start {
                visit(LbaRange::new(Lba(at), Lba(*start)), None);
            }
            at = end.min(start + u64::from(mapped.sectors));
            let part = LbaRange::new(Lba(*start), Lba(at));
            visit(part, Some(mapped.location));
        }
        if at < end {
            visit(LbaRange::new(Lba(at), Lba(end)), None);
        }
    }

    /// Maps `range`, and reports what it overwrites.
    pub(super) fn insert(
        &mut self,
        range: LbaRange,
        location: Location,
        mut displaced: impl FnMut(Extent),
    ) {
        let (start, end) = (range.start.0, range.end.0);
        let mut new = Mapped {
            sectors: sectors(range.sectors()),
            location,
        };
        let mut new_start = start;
        // The last extent that starts before the end decides what is to be done.
        while let Some((key, old)) = self.extents.range_mut(start..end).next_back() {
            let (key, was) = (*key, *old);
            let old_end = key + u64::from(was.sectors);
            displaced(Extent {
                range: LbaRange::new(Lba(key), Lba(old_end.min(end))),
                location: was.location,
            });
            if key == start && old_end == end {
                *old = new;
                return;
            }
            self.extents.remove(&key);
            if old_end > end {
                let right = Mapped {
                    sectors: sectors(old_end - end),
                    location: advance(was.location, end - key),
                };
                self.extents.insert(end, right);
            }
        }
        if let Some((key, old)) = self.extents.range_mut(..start).next_back() {
            let (key, was) = (*key, *old);
            let old_end = key + u64::from(was.sectors);
            if old_end > start {
                displaced(Extent {
                    range: LbaRange::new(Lba(start), Lba(old_end.min(end))),
                    location: advance(was.location, start - key),
                });
                old.sectors = sectors(start - key);
                if old_end > end {
                    let right = Mapped {
                        sectors: sectors(old_end - end),
                        location: advance(was.location, end - key),
                    };
                    self.extents.insert(end, right);
                }
            }
            if old_end >= start && advance(was.location, start - key) == location {
                new_start = key;
                new.sectors += sectors(start - key);
                new.location = was.location;
            }
        }
        if let Some(next) = self.extents.get(&end)
            && advance(location, end - start) == next.location
        {
            new.sectors += next.sectors;
            self.extents.remove(&end);
        }
        self.extents.insert(new_start, new);
    }
}

fn advance(location: Location, by: u64) -> Location {
    Location {
        object: location.object,
        offset: DataOffset(location.offset.0 + sectors(by)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the benchmark maps 4 KiB blocks, which merge to a few MiB at most"
)]
fn sectors(count: u64) -> u32 {
    count as u32
}
