//! A whole disk with a volatile cache: what a guest writes to it is durable once it has flushed,
//! and until then a loss of power keeps or drops each unit by itself.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;

use crate::disk::Survivors;
use crate::disk::content::Content;
use crate::disk::crash::Chooser;

/// Bytes that the cache holds. A disk may write out what it likes at any time; this one does when
/// it holds more, and then all of it.
const CACHE_BYTES: usize = 128 << 20;

/// Bytes that are written to a file at once.
const RUN_BYTES: usize = 1 << 20;

/// A disk in memory that forgets on command what was not flushed.
#[derive(Debug)]
pub struct VolatileDisk {
    unit: usize,
    len: u64,
    content: Mutex<Content>,
}

/// What a loss of power did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Units that had been written and not flushed.
    pub unflushed: usize,
    /// Those of them that do not show the newest of what was written to them, by their numbers.
    pub lost: Vec<u64>,
}

impl VolatileDisk {
    /// A disk of `len` zeroes that writes `unit` bytes whole or not at all.
    ///
    /// # Panics
    /// Where the unit is neither 512 nor 4096, or does not divide the length.
    #[must_use]
    pub fn new(unit: usize, len: u64) -> Self {
        assert!(unit == 512 || unit == 4096, "no disk has units of {unit}");
        assert!(
            len.is_multiple_of(unit as u64),
            "{len} is not a multiple of {unit}"
        );
        Self {
            unit,
            len,
            content: Mutex::new(Content::new(unit, len)),
        }
    }

    /// Bytes that are written whole or not at all.
    #[must_use]
    pub const fn unit(&self) -> usize {
        self.unit
    }

    /// Size in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no room at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts bytes there, durable at once: what was on the disk before anything began.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn preset(&self, offset: u64, bytes: &[u8]) {
        self.content.lock().poke(offset, bytes);
    }

    /// The bytes from `offset` on, as they were written last.
    #[must_use]
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        self.content.lock().read(offset, len as u64)
    }

    /// Writes whole units, not durably.
    ///
    /// # Panics
    /// Where they are not whole, or not on the disk.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let unit = self.unit as u64;
        let end = offset.checked_add(bytes.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.len)
                && offset.is_multiple_of(unit)
                && bytes.len().is_multiple_of(self.unit),
            "{} bytes at {offset} are not units of this disk",
            bytes.len()
        );
        let mut content = self.content.lock();
        if content.undurable() * self.unit > CACHE_BYTES {
            content.sync();
        }
        content.write(offset, bytes);
    }

    /// Makes durable all that was written.
    pub fn flush(&self) {
        self.content.lock().sync();
    }

    /// Makes `file` what the disk is but for what was not flushed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, file: &File) -> io::Result<()> {
        let content = self.content.lock();
        file.set_len(0)?;
        file.set_len(self.len)?;
        let mut run: Vec<u8> = Vec::new();
        let mut end = 0;
        for (number, bytes) in content.durable() {
            let at = number * self.unit as u64;
            if at != end || run.len() >= RUN_BYTES {
                file.write_all_at(&run, end - run.len() as u64)?;
                run.clear();
            }
            run.extend_from_slice(bytes);
            end = at + self.unit as u64;
        }
        file.write_all_at(&run, end - run.len() as u64)
    }

    /// The power goes and comes back.
    pub fn lose_power(&self, survivors: Survivors) -> Loss {
        let mut content = self.content.lock();
        let unflushed = content.undurable();
        let after = content.crash(&mut Chooser::new(survivors));
        let lost = content.undurable_unlike(&after);
        *content = after;
        Loss { unflushed, lost }
    }
}
