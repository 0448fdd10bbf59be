//! Which parts of the volume hold data.

use std::ops::Range;

use super::Volume;
use crate::words::error::Result;
use crate::words::limits::ALLOCATION_EXTENTS_MAX;
use crate::words::units::SECTOR_BYTES;

impl Volume {
    /// The runs of bytes of `len` bytes from `offset` on, both multiples of 512, ascending and
    /// without gaps, and whether data was written there (`true`) or the run reads as zeroes because
    /// nothing is (`false`). At most `runs_max` of them (at least one), so that a question about a
    /// large range is not a burden: the answer may end before the range does, also where the
    /// range is cut up into very many extents.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the range is unaligned or goes
    /// past the end.
    pub fn allocation(
        &self,
        offset: u64,
        len: u64,
        runs_max: usize,
    ) -> Result<Vec<(Range<u64>, bool)>> {
        let range = self
            .shared
            .sectors_of("show the allocation of", offset, len)?;
        let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
        let mut extents = 0;
        self.shared.map.lookup_while(range, |range, location| {
            let bytes = range.start.0 * SECTOR_BYTES..range.end.0 * SECTOR_BYTES;
            let allocated = location.is_some();
            extents += 1;
            let room = runs.len() < runs_max.max(1);
            match runs.last_mut() {
                Some((run, kind)) if *kind == allocated => run.end = bytes.end,
                _ if room => runs.push((bytes, allocated)),
                _ => return false,
            }
            extents < ALLOCATION_EXTENTS_MAX
        });
        Ok(runs)
    }
}
