//! Writing: `map locked -> slot in the batch -> copy -> map`, and the answer.

use super::{Durability, Shared, Volume};
use crate::state::batch::NewEntry;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::block_on;
use crate::words::error::{Error, Result};
use crate::words::units::{Lba, LbaRange, SECTOR_BYTES};

impl Volume {
    /// Writes `data` at `offset`, both in bytes and multiples of 512.
    ///
    /// When it returns, every read sees the data. It is durable only after a
    /// [`flush`](Self::flush), in the sense of the volume's flush target; with
    /// [`Durability::WriteThrough`] it is in the synced log. A write of up to 1 MiB (or
    /// the object size, where that is smaller) is atomic; a larger one is split at every MiB from
    /// its start.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when it is unaligned or goes past the
    /// end: nothing was changed. When the store has been failing for so long that memory is full,
    /// the store's error: every piece of up to 1 MiB is then wholly old or wholly new.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        match self.try_write(offset, data) {
            Some(done) => done,
            None => block_on(self.write_async(offset, data)),
        }
    }

    /// [`write`](Self::write), if it can be done without waiting; otherwise nothing was done.
    pub fn try_write(&self, offset: u64, data: &[u8]) -> Option<Result<()>> {
        let range = match self.shared.sectors_of("write", offset, data.len() as u64) {
            Ok(range) if range.is_empty() => return Some(Ok(())),
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        // Of a split write the first pieces would be done already when a later one has to wait.
        let waits = data.len() > self.shared.atomic_bytes || self.shared.writes_through();
        if waits || self.shared.queue.is_waiting() {
            return None;
        }
        self.shared.try_write_piece(range, data)
    }

    /// [`write`](Self::write) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn write_async(&self, offset: u64, data: &[u8]) -> Result<()> {
        let range = self.shared.sectors_of("write", offset, data.len() as u64)?;
        let mut start = range.start;
        for piece in data.chunks(self.shared.atomic_bytes) {
            let end = Lba(start.0 + piece.len() as u64 / SECTOR_BYTES);
            self.shared
                .write_piece(LbaRange::new(start, end), piece)
                .await?;
            start = end;
        }
        self.shared.write_through().await
    }
}

impl Shared {
    fn writes_through(&self) -> bool {
        self.durability == Durability::WriteThrough
    }

    /// Waits for the log where every write does.
    pub(super) async fn write_through(&self) -> Result<()> {
        if self.writes_through() {
            self.log_all().await
        } else {
            Ok(())
        }
    }

    async fn write_piece(&self, range: LbaRange, data: &[u8]) -> Result<()> {
        self.when_there_is_room(|| self.try_write_piece(range, data))
            .await
    }

    fn try_write_piece(&self, range: LbaRange, data: &[u8]) -> Option<Result<()>> {
        if !self.map.has_room_for_copies() {
            return self.batcher.refusal().map(Err);
        }
        // The lock spans from taking the slot to publishing it, so overlapping writes have one
        // order: the map's, the batch's, and the one in which the objects will be replayed.
        let mut locked = self.map.lock(range);
        let slot = match self.batcher.append(range, NewEntry::Write) {
            Ok(Some(slot)) => slot,
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
        };
        let cuts = slot.cuts();
        let location = slot.fill(data);
        locked.insert(range, location, cuts, |_displaced| {});
        Some(Ok(()))
    }

    /// Does `attempt` as soon as it can be done: at once, or else behind those that wait already.
    pub(super) async fn when_there_is_room(
        &self,
        mut attempt: impl FnMut() -> Option<Result<()>>,
    ) -> Result<()> {
        if !self.queue.is_waiting()
            && let Some(done) = attempt()
        {
            return done;
        }
        let _turn = self.queue.turn().await;
        let attempt_or_fail = || attempt().or_else(|| self.hopeless().map(Err));
        self.pool.returned().until(attempt_or_fail).await
    }
}

impl Shared {
    /// Why room will not come soon, if that is so. Room in the log comes with uploads alone; memory
    /// comes with the log, where there is one.
    fn hopeless(&self) -> Option<Error> {
        match &self.log {
            Some(log) if log.segments.has_free() => log.durable.error(),
            _ => self.progress.error(),
        }
    }
}

/// Those who wait for room, first come, first served.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: AtomicU32,
    turn: tokio::sync::Mutex<()>,
}

impl Queue {
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits until all who came before are done; the turn lasts as long as the guard.
    async fn turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut turn = Turn {
            queue: self,
            _guard: None,
        };
        turn._guard = Some(self.turn.lock().await);
        turn
    }
}

struct Turn<'a> {
    queue: &'a Queue,
    _guard: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
