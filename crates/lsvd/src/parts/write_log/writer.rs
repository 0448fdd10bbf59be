//! Appending to the log: one task, which makes durable what all who wait have in common.

use std::time::Duration;

use ::bytes::Bytes;
use futures_util::future::{Either, select};

use super::WriteLog;
use crate::bytes::log::{LoggedSlice, Record, SyncedMark, sums_of};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::doors::disk::{DiskWrite, WriteDurability};
use crate::doors::runtime::Runtime;
use crate::state::batch::{Batch, BatchSlice, Batcher};
use crate::state::durable::{Durable, StreamPoint};
use crate::state::in_flight::InFlight;
use crate::state::pace::Pace;
use crate::state::progress::Progress;
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{
    LOG_MARK_DELAY, WAITING_IN_LOG_MAX, WAITING_IN_MEMORY_CHECK, WAITING_IN_MEMORY_MAX,
};
use crate::words::name::{ObjectId, ObjectName};
use crate::words::planted::{self, Fault};
use crate::words::units::{SECTOR, SECTOR_32, SECTOR_BYTES};

/// Place of the log's own failure among stuck uploads: behind all of them.
const BEHIND_ALL: u64 = u64::MAX;

/// Writes the log of one opening of a volume.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) log: Arc<WriteLog>,
    /// Where batches come from.
    pub(crate) batcher: Arc<Batcher>,
    /// Whose waiters learn what is durable.
    pub(crate) durable: Arc<Durable>,
    /// Where batches go that are in the log to their ends.
    pub(crate) uploads: Arc<UploadQueue>,
    /// Where readers find batches that left memory.
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) progress: Arc<Progress>,
    /// How fast the log is, and the store behind it.
    pub(crate) pace: Arc<Pace>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Up to where the log is durable.
    pub(crate) synced: Option<SyncedMark>,
    /// Where a mark is to be written if no record comes; starts as nothing.
    pub(crate) unmarked: Option<MarkPlace>,
    /// Whether everything was written and nothing more will come; starts as `false`.
    pub(crate) finished: bool,
}

/// The place behind the last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkPlace {
    segment: u32,
    batch: ObjectId,
    predecessor: Option<ObjectId>,
    position: u32,
}

/// Where a record went.
struct Written {
    slice: BatchSlice,
    logged: LoggedSlice,
    /// Where the record ends, in bytes of the segment.
    end: u32,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let error = Error::new(
                ErrorKind::LocalDisk,
                "the write log ended before everything was written: its runtime was shut down, or a \
                 task of it panicked",
            );
            // A process that ends in order takes its runtime down just as well.
            if self.batcher.point() > self.durable.point() {
                tracing::error!(%error, "the write log failed");
            }
            // Whoever waits for the log would wait for ever.
            self.fail(error);
        }
    }
}

impl Writer {
    /// Works until the batcher is closed and everything is in the log, or the log fails.
    pub(crate) async fn run(mut self) {
        while self.wait().await {
            if let Err(error) = self.commit().await {
                tracing::error!(%error, "the write log failed");
                self.fail(error);
                self.finished = true;
                return;
            }
        }
        self.uploads.close();
        self.finished = true;
    }

    /// Fail-stop: a sync that failed may have lost what it should have kept, and no later one would
    /// tell. What is durable stays so and goes on to the store; nothing new is accepted.
    fn fail(&self, error: Error) {
        // First what refuses: who is told of the failure is not to find that writes still go.
        self.batcher.fail(error.clone());
        self.progress.stuck(BEHIND_ALL, error.clone());
        self.durable.fail(error);
        self.uploads.close();
    }

    /// Waits for something to write; whether there is more to come.
    async fn wait(&mut self) -> bool {
        let durable = Arc::clone(&self.durable);
        let batcher = Arc::clone(&self.batcher);
        let mut more = Box::pin(batcher.wait_for_slices(durable.wanted(), || durable.is_wanted()));
        while let Some(pause) = self.pause() {
            more = match select(more, self.runtime.sleep(pause)).await {
                Either::Left((more, _)) => return more,
                Either::Right(((), more)) => more,
            };
            // The next record would carry the mark; where none comes, a mark of its own does.
            self.mark().await;
            self.make_room();
        }
        more.await
    }

    /// How long to wait for something to write before something else is to be seen to, if anything.
    fn pause(&self) -> Option<Duration> {
        if self.unmarked.is_some() {
            return Some(LOG_MARK_DELAY);
        }
        let (in_memory, _) = self.uploads.waiting();
        (in_memory > WAITING_IN_MEMORY_MAX).then_some(WAITING_IN_MEMORY_CHECK)
    }

    /// Writes what there is to write, makes it durable, and tells who waits.
    async fn commit(&mut self) -> Result<()> {
        let slices = self.batcher.take_slices(self.durable.is_wanted());
        let mut writes = Vec::with_capacity(slices.len());
        let mut written = Vec::with_capacity(slices.len());
        for slice in slices {
            slice.filled().await;
            let (write, record) = self.record(slice)?;
            writes.push(write);
            written.push(record);
        }
        let Some(last) = written.last() else {
            return Ok(());
        };
        // A mark is not written over the records that follow.
        self.unmarked = None;
        let point = StreamPoint {
            batch: last.slice.batch.id(),
            entries: if last.slice.is_last() {
                u32::MAX
            } else {
                last.slice.before.entries + entry_count(&last.slice)
            },
        };
        let mark = SyncedMark {
            batch: point.batch,
            position: last.end,
        };
        let durability = if planted::is(Fault::LogSync) {
            WriteDurability::Unsynced
        } else {
            WriteDurability::Synced
        };
        let sectors = written.iter().map(|record| record.logged.sectors);
        let bytes = sectors
            .map(|sectors| u64::from(sectors) * SECTOR_BYTES)
            .sum();
        let started = self.runtime.now();
        self.log
            .file
            .write(writes, durability)
            .await
            .map_err(|error| {
                let place = &self.log.directory;
                let message = format!(
                    "cannot write the log in {place}: nothing more is accepted until the volume is \
                     opened again; what was flushed before is kept"
                );
                Error::new(error.kind().for_user(), message).because(error)
            })?;
        let time = self.runtime.now().saturating_sub(started);
        self.pace.logged(bytes, time);
        self.synced = Some(mark);
        self.unmarked = last.slice.batch.segment().map(|segment| MarkPlace {
            segment: segment.index(),
            batch: mark.batch,
            predecessor: last.slice.batch.predecessor(),
            position: mark.position,
        });
        for record in written {
            let (batch, is_last) = (&record.slice.batch, record.slice.is_last());
            batch.add_logged(record.logged, record.end, is_last);
            if is_last {
                // It is in the log to its end, so it may be uploaded.
                self.uploads.push(SealedBatch::Memory(Arc::clone(batch)));
            }
        }
        self.make_room();
        self.durable.advance(point);
        Ok(())
    }

    /// The record of a slice, as it is to be written.
    fn record(&self, slice: BatchSlice) -> Result<(DiskWrite, Written)> {
        let block_bytes = self.log.header.block_bytes;
        let wall_time_ns = self.wall_time_ns();
        let persisted = self.progress.persisted();
        let sectors = slice.sectors();
        let unit = block_bytes / SECTOR_32;
        let data = slice
            .batch
            .sectors(sectors.start..sectors.end.next_multiple_of(unit));
        let in_use = (sectors.end - sectors.start) as usize * SECTOR;
        let record = Record {
            log: self.log.header.log,
            batch: slice.batch.id(),
            predecessor: slice.batch.predecessor(),
            place: slice.before.position,
            first_entry: slice.before.entries,
            entries: slice.entries().to_vec(),
            first_sector: sectors.start,
            sectors: sectors.end - sectors.start,
            sums: sums_of(sectors.start, &data[..in_use], |block| slice.sum(block)),
            synced: self.synced,
            persisted,
            wall_time_ns,
            object_header: match slice.is_last() {
                true => Some(object_header(&slice.batch, wall_time_ns, persisted)?),
                false => None,
            },
            is_mark: false,
        };
        let logged = LoggedSlice {
            first_sector: sectors.start,
            sectors: record.sectors,
            data_at: record.place + record.padded_header_len(block_bytes),
        };
        let end = record.place + record.len(block_bytes);
        let segment = slice.batch.segment().map(|segment| segment.index());
        let fits = segment.filter(|_| end <= self.log.header.segment_bytes);
        let Some(segment) = fits else {
            let message = format!(
                "batch {} does not fit its segment: this is a bug",
                ObjectName::data(record.batch)
            );
            return Err(Error::new(ErrorKind::LocalDisk, message));
        };
        let write = DiskWrite {
            offset: self.log.header.segment_at(segment) + u64::from(record.place),
            parts: vec![Bytes::from(record.encode(block_bytes)), data],
        };
        Ok((write, Written { slice, logged, end }))
    }

    /// Takes batches that wait for their upload out of memory, unless their turn comes so soon that
    /// writers get the memory sooner than it takes to read them back.
    fn make_room(&self) {
        let (in_memory, in_log) = self.uploads.waiting();
        if in_memory <= WAITING_IN_MEMORY_MAX
            || (in_log <= WAITING_IN_LOG_MAX && self.pace.store_keeps_up(self.runtime.now()))
        {
            return;
        }
        drop(self.uploads.leave_memory(WAITING_IN_MEMORY_MAX, |batch| {
            let logged = Arc::new(batch.leave_memory()?);
            self.in_flight.insert_logged(Arc::clone(&logged));
            Some(logged)
        }));
    }

    /// Writes behind the last record up to where the log is durable, without a sync: it proves to a
    /// later scan that what is before it was not just torn. Nobody depends on it.
    async fn mark(&mut self) {
        let Some(place) = self.unmarked.take() else {
            return;
        };
        let mark = Record {
            log: self.log.header.log,
            batch: place.batch,
            predecessor: place.predecessor,
            place: place.position,
            first_entry: 0,
            entries: Vec::new(),
            first_sector: 0,
            sectors: 0,
            sums: Vec::new(),
            synced: self.synced,
            persisted: self.progress.persisted(),
            wall_time_ns: self.wall_time_ns(),
            object_header: None,
            is_mark: true,
        };
        let bytes = mark.encode(self.log.header.block_bytes);
        let room = self.log.header.segment_bytes - place.position;
        if bytes.len() > room as usize {
            return;
        }
        let write = DiskWrite {
            offset: self.log.header.segment_at(place.segment) + u64::from(place.position),
            parts: vec![Bytes::from(bytes)],
        };
        let written = self.log.file.write(vec![write], WriteDurability::Unsynced);
        if let Err(error) = written.await {
            // The next record finds out whether the disk still works.
            tracing::warn!(%error, "cannot mark what is durable in the write log");
        }
    }

    fn wall_time_ns(&self) -> u64 {
        u64::try_from(self.runtime.wall_clock().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn entry_count(slice: &BatchSlice) -> u32 {
    u32::try_from(slice.entries().len()).unwrap_or(u32::MAX)
}

/// The fixed header of a sealed batch's object.
fn object_header(
    batch: &Batch,
    wall_time_ns: u64,
    persisted: Option<ObjectId>,
) -> Result<[u8; FIXED_HEADER_BYTES]> {
    let header = batch.header(wall_time_ns, persisted);
    let wrong = || {
        let message = format!(
            "cannot make an object of batch {}: this is a bug",
            header.name()
        );
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let bytes = header.encode().map_err(|error| wrong().because(error))?;
    let fixed = bytes.first_chunk::<FIXED_HEADER_BYTES>();
    fixed.copied().ok_or_else(wrong)
}
