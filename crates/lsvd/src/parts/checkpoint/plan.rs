//! The plan of a checkpoint: which pieces of the last one it names again, and what is walked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::bytes::checkpoint::{Checkpoint, PIECE_ROWS_MAX, Piece, PieceStart, REFERENCES_MAX};
use crate::state::extent_map::{Cut, ExtentMap, RegionNumber};
use crate::words::limits::CHECKPOINT_REFERENCES_MAX;
use crate::words::name::ObjectId;
use crate::words::units::Lba;

/// Most older objects that a checkpoint names, however large it is: of those that its root may name,
/// as many are left for its own parts.
const KEPT_REFERENCES_MAX: u64 = REFERENCES_MAX as u64 / 2;

/// What is written anew, and what is not.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Pieces of older objects: full pieces of the object table, and regions that were not changed.
    pub(super) kept: Vec<Piece>,
    /// The regions to walk, ascending, neighbours joined.
    pub(super) walked: Vec<Range<RegionNumber>>,
}

/// Whether the pieces of `base` can be named again by a checkpoint of `map`.
pub(crate) fn is_usable(base: &Checkpoint, map: &ExtentMap) -> bool {
    base.sectors == map.sectors() && base.region_sectors == map.region_sectors()
}

impl Plan {
    /// Plans a checkpoint of `cut`, which has settled, on top of `base`, and begins its walk. Its
    /// objects have `part_bytes` bytes.
    pub(crate) fn new(
        base: Option<&Checkpoint>,
        map: &ExtentMap,
        cut: &Cut<'_>,
        part_bytes: u64,
    ) -> Self {
        let kept = match base {
            Some(base) => bounded(unchanged(base, cut), map.region_sectors(), cut, part_bytes),
            None => {
                (0..map.region_count()).for_each(|region| cut.include(RegionNumber(region)));
                Vec::new()
            }
        };
        let mut walked: Vec<Range<RegionNumber>> = Vec::new();
        for region in (0..map.region_count()).map(RegionNumber) {
            if cut.is_changed(region) {
                let next = RegionNumber(region.0 + 1);
                match walked.last_mut() {
                    Some(last) if last.end == region => last.end = next,
                    _ => walked.push(region..next),
                }
            }
        }
        cut.start_walk();
        Self { kept, walked }
    }
}

/// The pieces of `base` that are as they were.
fn unchanged(base: &Checkpoint, cut: &Cut<'_>) -> Vec<Piece> {
    let is_unchanged = |piece: &&Piece| match piece.start {
        // Objects are only added to the table, behind those that are there.
        PieceStart::Rows(_) => piece.count as usize == PIECE_ROWS_MAX,
        PieceStart::Extents(lba) => !cut.is_changed(region_of(lba, base.region_sectors)),
    };
    base.pieces.iter().filter(is_unchanged).copied().collect()
}

/// Leaves out the objects with the fewest bytes in `pieces` until there are not too many of them;
/// what they have is written anew, and then nothing needs them any more.
fn bounded(
    mut pieces: Vec<Piece>,
    region_sectors: u64,
    cut: &Cut<'_>,
    part_bytes: u64,
) -> Vec<Piece> {
    loop {
        let mut bytes: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for piece in &pieces {
            *bytes.entry(piece.object).or_default() += u64::from(piece.len);
        }
        let full_parts = bytes.values().sum::<u64>() / part_bytes;
        let max = (2 * full_parts).clamp(CHECKPOINT_REFERENCES_MAX as u64, KEPT_REFERENCES_MAX);
        let least = bytes.iter().min_by_key(|(_, bytes)| **bytes);
        let Some((&least, _)) = least.filter(|_| bytes.len() as u64 > max) else {
            return pieces;
        };
        let in_least = pieces.iter().filter(|piece| piece.object == least);
        let regions: BTreeSet<RegionNumber> = in_least
            .filter_map(|piece| region_of_piece(piece, region_sectors))
            .collect();
        regions.iter().for_each(|region| cut.include(*region));
        pieces.retain(|piece| {
            let region = region_of_piece(piece, region_sectors);
            piece.object != least && region.is_none_or(|region| !regions.contains(&region))
        });
    }
}

fn region_of_piece(piece: &Piece, region_sectors: u64) -> Option<RegionNumber> {
    match piece.start {
        PieceStart::Rows(_) => None,
        PieceStart::Extents(lba) => Some(region_of(lba, region_sectors)),
    }
}

pub(super) const fn region_of(lba: Lba, region_sectors: u64) -> RegionNumber {
    RegionNumber(lba.0 / region_sectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::extent_map::CutCount;
    use crate::words::name::Epoch;

    /// As many objects as a root cannot name, each of them worth naming by its size.
    #[test]
    fn a_large_checkpoint_names_no_more_objects_than_it_may() {
        const OBJECTS: u64 = KEPT_REFERENCES_MAX + 50;
        let part_bytes = 4 << 10;
        let map = ExtentMap::new(1 << 26);
        let region_sectors = map.region_sectors();
        assert!(map.region_count() >= OBJECTS);
        let mut cut = map.prepare_cut(1 << 20).unwrap();
        cut.begin(CutCount(1));
        cut.settle();
        let pieces = (0..OBJECTS).map(|n| Piece {
            start: PieceStart::Extents(Lba(n * region_sectors)),
            count: 1,
            object: ObjectId::new(Epoch(1), n).unwrap(),
            offset: 200,
            len: part_bytes,
            crc: 0,
        });
        let kept = bounded(
            pieces.collect(),
            region_sectors,
            &cut,
            u64::from(part_bytes),
        );
        assert_eq!(kept.len() as u64, KEPT_REFERENCES_MAX);
        let anew = (0..OBJECTS).filter(|region| cut.is_changed(RegionNumber(*region)));
        assert_eq!(anew.count(), 50, "what is left out is written anew");
    }
}
