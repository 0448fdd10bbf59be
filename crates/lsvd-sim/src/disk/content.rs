//! The content of a file: what is durable, and what was written since.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::crash::Chooser;

/// A file's bytes in units, of which those never written are not kept.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    unit: usize,
    len: u64,
    durable: BTreeMap<u64, Box<[u8]>>,
    written: BTreeMap<u64, Written>,
    /// Units that the medium does not give, until something else is stored there.
    unreadable: BTreeSet<u64>,
}

/// What was written to a unit and is not durable.
#[derive(Clone, Debug)]
struct Written {
    /// The oldest first. The disk may have stored any of them, or none.
    versions: Vec<Box<[u8]>>,
    /// Whether the next sync makes the last of them durable. After a failed sync none does: the
    /// system shows what was written and has forgotten that it is to be stored.
    to_be_synced: bool,
}

impl Content {
    /// `len` zeroes.
    pub(crate) fn new(unit: usize, len: u64) -> Self {
        Self {
            unit,
            len,
            durable: BTreeMap::new(),
            written: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// These bytes, durable.
    pub(crate) fn of(unit: usize, bytes: &[u8]) -> Self {
        let mut content = Self::new(unit, bytes.len() as u64);
        let zeroes = vec![0; unit];
        for (number, bytes) in (0..).zip(bytes.chunks(unit)) {
            if zeroes[..bytes.len()] != *bytes {
                content.poke(number * unit as u64, bytes);
            }
        }
        content
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on; what lies behind the end is zero.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let size = usize::try_from(len).expect("a test reads what fits into memory");
        let mut bytes = vec![0; size];
        let unit = self.unit as u64;
        let numbers = offset / unit..(offset + len).div_ceil(unit);
        let mut show = |number: u64, shown: &[u8]| {
            let (start, end) = (number * unit, (number + 1) * unit);
            let (from, to) = (start.max(offset), end.min(offset + len));
            let place = |at: u64| usize::try_from(at).expect("a part of what is read");
            bytes[place(from - offset)..place(to - offset)]
                .copy_from_slice(&shown[place(from - start)..place(to - start)]);
        };
        for (number, durable) in self.durable.range(numbers.clone()) {
            show(*number, durable);
        }
        for (number, written) in self.written.range(numbers) {
            if let Some(newest) = written.versions.last() {
                show(*number, newest);
            }
        }
        bytes
    }

    /// Lets the medium give none of the units that these bytes touch, until they are written anew.
    pub(crate) fn spoil(&mut self, offset: u64, len: u64) {
        let unit = self.unit as u64;
        let units = offset / unit..(offset + len).div_ceil(unit);
        self.unreadable.extend(units);
    }

    /// Lets the medium give all that it has again.
    pub(crate) fn mend(&mut self) {
        self.unreadable.clear();
    }

    /// Whether a read of this range finds something that the medium does not give. What was written
    /// since is given from memory.
    pub(crate) fn is_unreadable(&self, offset: u64, len: u64) -> bool {
        let unit = self.unit as u64;
        let units = offset / unit..(offset + len).div_ceil(unit);
        let mut unreadable = self.unreadable.range(units);
        unreadable.any(|number| !self.written.contains_key(number))
    }

    /// Whether anything was ever written to the unit at `offset`.
    pub(crate) fn was_written(&self, offset: u64) -> bool {
        self.newest(offset / self.unit as u64).is_some()
    }

    /// Writes whole units, not durably.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let first = offset / self.unit as u64;
        for (number, unit) in (first..).zip(bytes.chunks(self.unit)) {
            let written = self.written.entry(number).or_insert(Written {
                versions: Vec::new(),
                to_be_synced: true,
            });
            written.versions.push(unit.into());
            written.to_be_synced = true;
        }
    }

    /// Makes durable what is to be.
    pub(crate) fn sync(&mut self) {
        let (durable, unreadable) = (&mut self.durable, &mut self.unreadable);
        self.written.retain(|number, written| {
            if written.to_be_synced
                && let Some(newest) = written.versions.pop()
            {
                durable.insert(*number, newest);
                unreadable.remove(number);
            }
            !written.to_be_synced
        });
    }

    /// A sync that fails: what was written may have been stored or not, and is not going to be.
    pub(crate) fn fail_sync(&mut self) {
        for written in self.written.values_mut() {
            written.to_be_synced = false;
        }
    }

    /// The durable units that were ever written, in order, with their numbers.
    pub(crate) fn durable(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.durable.iter().map(|(number, unit)| (*number, &**unit))
    }

    /// Units whose newest bytes are not durable.
    pub(crate) fn undurable(&self) -> usize {
        self.written.len()
    }

    /// Those of these units that `after` shows otherwise, by their numbers.
    pub(crate) fn undurable_unlike(&self, after: &Self) -> Vec<u64> {
        let zeroes = vec![0; self.unit];
        let newest = |content: &Self, number| {
            let newest = content.newest(number);
            newest.unwrap_or(&zeroes).to_vec()
        };
        let unlike = |number: &u64| newest(self, *number) != newest(after, *number);
        self.written.keys().copied().filter(unlike).collect()
    }

    /// The content as it may be after a loss of power.
    pub(crate) fn crash(&self, chooser: &mut Chooser) -> Self {
        let mut after = self.clone();
        for (number, written) in std::mem::take(&mut after.written) {
            let kept = chooser.versions(written.versions.len());
            if let Some(kept) = written.versions.into_iter().take(kept).next_back() {
                after.durable.insert(number, kept);
                after.unreadable.remove(&number);
            }
        }
        after
    }

    /// Puts bytes wherever those there are kept.
    pub(crate) fn poke(&mut self, offset: u64, bytes: &[u8]) {
        self.alter(offset, bytes.len(), |there, in_range| {
            there.copy_from_slice(&bytes[in_range]);
        });
    }

    /// Turns every bit of a byte over, wherever it is kept.
    pub(crate) fn flip(&mut self, offset: u64) {
        self.alter(offset, 1, |there, _| there[0] = !there[0]);
    }

    /// Changes a range of bytes wherever it is kept, unit by unit: `change` is given what is there,
    /// and which part of the range that is.
    fn alter(&mut self, offset: u64, len: usize, change: impl Fn(&mut [u8], Range<usize>)) {
        let inside = offset.checked_add(len as u64);
        assert!(
            inside.is_some_and(|end| end <= self.len),
            "{len} bytes at {offset} are not in a file of {}",
            self.len
        );
        let mut parts = Vec::new();
        self.for_each_unit(offset, len, |number, in_unit, in_range| {
            parts.push((number, in_unit, in_range));
        });
        for (number, in_unit, in_range) in parts {
            let durable = self.durable.entry(number);
            let durable = durable.or_insert_with(|| vec![0; self.unit].into());
            change(&mut durable[in_unit.clone()], in_range.clone());
            if let Some(written) = self.written.get_mut(&number) {
                for version in &mut written.versions {
                    change(&mut version[in_unit.clone()], in_range.clone());
                }
            }
        }
    }

    /// Cuts the file off at `len`.
    pub(crate) fn cut(&mut self, len: u64) {
        assert!(len <= self.len, "{len} is behind the end of the file");
        let unit = self.unit as u64;
        // What stays of the last unit, whose rest no read may find again.
        let over = usize::try_from(len % unit).expect("a unit is small");
        let rest = vec![0; if over == 0 { 0 } else { self.unit - over }];
        let rest = &rest[..rest
            .len()
            .min(usize::try_from(self.len - len).unwrap_or(usize::MAX))];
        self.poke(len, rest);
        self.durable.split_off(&len.div_ceil(unit));
        self.written.split_off(&len.div_ceil(unit));
        self.len = len;
    }

    fn newest(&self, number: u64) -> Option<&[u8]> {
        let written = self.written.get(&number);
        let written = written.and_then(|written| written.versions.last());
        Some(written.or_else(|| self.durable.get(&number))?)
    }

    /// Gives the number of every unit that the range touches, and what they share: the part of the
    /// unit and the part of the range.
    fn for_each_unit(
        &self,
        offset: u64,
        len: usize,
        mut each: impl FnMut(u64, Range<usize>, Range<usize>),
    ) {
        let unit = self.unit as u64;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let start = usize::try_from(at % unit).expect("a unit is small");
            let count = (self.unit - start).min(len - done);
            each(at / unit, start..start + count, done..done + count);
            done += count;
        }
    }
}
