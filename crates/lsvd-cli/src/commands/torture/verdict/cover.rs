//! The changes of each sector.

use std::ops::Range;

use super::super::history::History;

/// The changes of each sector, by when they were sent.
pub(super) struct Cover {
    /// Where a sector's begin in `changes`; one more for the end.
    starts: Vec<usize>,
    changes: Vec<u32>,
}

impl Cover {
    pub(super) fn new(history: &History, by_sent: &[usize], sectors: usize) -> Self {
        let mut starts = vec![0; sectors + 1];
        for change in &history.changes {
            for count in &mut starts[change.first + 1..=change.first + change.count] {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut changes = vec![0; sum];
        for &index in by_sent {
            let change = &history.changes[index];
            // A history is far shorter than what its numbers can count.
            let short = u32::try_from(index).unwrap_or(u32::MAX);
            for place in &mut next[change.first..change.first + change.count] {
                changes[*place] = short;
                *place += 1;
            }
        }
        Self { starts, changes }
    }

    /// Where the changes of a sector are, for [`Cover::at`].
    pub(super) fn places(&self, sector: usize) -> Range<usize> {
        self.starts[sector]..self.starts[sector + 1]
    }

    pub(super) fn at(&self, place: usize) -> usize {
        self.changes[place] as usize
    }

    /// The changes of a sector.
    pub(super) fn of(&self, sector: usize) -> impl Iterator<Item = usize> + '_ {
        self.places(sector).map(|place| self.at(place))
    }
}
