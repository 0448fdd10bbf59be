//! Filling the map with what a checkpoint holds: many extents at once, where nothing is mapped.

use crate::words::units::{Extent, Lba, LbaRange};

use super::packed::{OBJECT_SECTORS_MAX, Piece, advance};
use super::{CHUNK_SECTORS, ExtentMap, chunk_of, part_in, position_of, stripe_of};

/// Collects ascending extents of a map chunk by chunk.
#[derive(Debug)]
pub struct Filler<'a> {
    map: &'a ExtentMap,
    chunk: u64,
    pieces: Vec<Piece>,
    /// All before this was given.
    end: Lba,
}

impl ExtentMap {
    /// Maps extents where nothing is mapped yet. That is no change: what is filled in counts as
    /// being as it is in the last checkpoint.
    pub fn fill(&self) -> Filler<'_> {
        Filler {
            map: self,
            chunk: 0,
            pieces: Vec::new(),
            end: Lba(0),
        }
    }
}

impl Filler<'_> {
    /// Takes the next extent.
    ///
    /// # Panics
    /// When it is empty, begins before the last one's end, or reaches behind the end of the volume
    /// or of the largest object.
    pub fn push(&mut self, extent: Extent) {
        let Extent {
            range,
            mut location,
        } = extent;
        self.map.assert_inside(range);
        assert!(
            self.end <= range.start && range.start < range.end,
            "{range:?} is empty or out of order"
        );
        assert!(
            u64::from(location.offset.0) + range.sectors() <= OBJECT_SECTORS_MAX,
            "{range:?} at {location:?} reaches behind the end of the largest object"
        );
        self.end = range.end;
        let mut start = range.start;
        while start < range.end {
            let chunk = chunk_of(start);
            if chunk != self.chunk {
                self.finish_chunk();
                self.chunk = chunk;
            }
            let end = range.end.0.min((chunk + 1) * CHUNK_SECTORS);
            let part = part_in(LbaRange::new(start, Lba(end)), chunk);
            let piece = Piece {
                start: part.start,
                end: part.end,
                location,
            };
            match self.pieces.last_mut() {
                Some(last) if last.continues_into(piece) => last.end = piece.end,
                _ => self.pieces.push(piece),
            }
            location = advance(location, part.end - part.start);
            start = Lba(end);
        }
    }

    /// Maps what was given.
    pub fn finish(mut self) {
        self.finish_chunk();
    }

    fn finish_chunk(&mut self) {
        if !self.pieces.is_empty() {
            let mut chunks = self.map.stripe(stripe_of(self.chunk)).lock();
            chunks.directory.fill(position_of(self.chunk), &self.pieces);
            drop(chunks);
            self.pieces.clear();
        }
    }
}
