//! Discarding and writing zeroes: entries without data, so they take no time and no space.

use super::{Shared, Volume};
use crate::state::batch::NewEntry;
use crate::sync::block_on;
use crate::words::error::Result;
use crate::words::units::LbaRange;

impl Volume {
    /// Gives up the content of `len` bytes at `offset`, both multiples of 512: the range reads as
    /// zeroes from now on and its space can be reclaimed. Of any size at once, even the whole
    /// volume; durable as a write is.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        block_on(self.discard_async(offset, len))
    }

    /// [`discard`](Self::discard) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn discard_async(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.shared.sectors_of("discard", offset, len)?;
        self.shared.unmap(range, NewEntry::Discard).await
    }

    /// Writes `len` bytes of zeroes at `offset`, both multiples of 512, without writing data. Of any
    /// size at once; durable as a write is.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        block_on(self.write_zeroes_async(offset, len))
    }

    /// [`write_zeroes`](Self::write_zeroes) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn write_zeroes_async(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.shared.sectors_of("write zeroes to", offset, len)?;
        self.shared.unmap(range, NewEntry::WriteZeroes).await
    }
}

impl Shared {
    async fn unmap(&self, range: LbaRange, entry: NewEntry) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.when_there_is_room(|| {
            if !self.map.has_room_for_copies() {
                return self.batcher.refusal().map(Err);
            }
            let mut locked = self.map.lock(range);
            match self.batcher.append(range, entry) {
                Ok(Some(slot)) => {
                    let detached = locked.detach(range, slot.cuts());
                    drop(locked);
                    drop(slot);
                    // Freeing what was mapped takes time; nobody else is to wait for it.
                    drop(detached);
                    Some(Ok(()))
                }
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            }
        })
        .await?;
        self.write_through().await
    }
}
