//! Closing the log of a writer that is gone: what in it counts is made to stay, and the rest to go.
//!
//! Every step can crash and be repeated, and finds the same end again.

use std::collections::BTreeMap;

use ::bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::WriteLog;
use crate::bytes::data_object::DataHeader;
use crate::bytes::log::{BadData, LoggedSlice, Record, ScannedBatch, SyncedMark, claims_log, scan};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::bytes::superblock::EpochEnd;
use crate::doors::disk::{DiskWrite, WriteDurability};
use crate::doors::runtime::Runtime;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{ObjectId, ObjectName};
use crate::words::units::SECTOR_BYTES;

/// Segments that are read ahead of the one that is scanned.
const READ_AHEAD: usize = 2;

/// Bytes of a segment that tell whether it holds anything of this log.
const FIRST_LOOK_BYTES: u32 = 4096;

/// A batch that is in the log and not in the store's stream.
#[derive(Debug)]
pub(crate) struct RecoveredBatch {
    pub(crate) segment: u32,
    /// All that its object says, entries included.
    pub(crate) header: DataHeader,
    pub(crate) slices: Vec<LoggedSlice>,
    pub(crate) sums: Vec<u32>,
    /// Where its records end, in bytes of the segment.
    pub(crate) end: u32,
}

/// What a log holds, behind the end of the store's stream.
#[derive(Debug, Default)]
struct Found {
    /// By number, each with its segment.
    batches: BTreeMap<ObjectId, (u32, ScannedBatch)>,
    /// The highest mark of what was durable.
    synced: Option<SyncedMark>,
    /// The newest object that was known to be persisted.
    persisted: Option<ObjectId>,
}

impl WriteLog {
    /// Whether nothing was ever written to the log.
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        for segment in 0..self.header.segments {
            if self.holds_records(segment).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of data in batches that do not belong to a stream of these epochs.
    pub(crate) async fn bytes_beyond(&self, epochs: &[EpochEnd]) -> Result<u64> {
        let found = self.look(None).await?;
        let is_stored = |batch: ObjectId| {
            let mut epochs = epochs.iter();
            let epoch = epochs.find(|epoch| epoch.epoch == batch.epoch().0);
            epoch.is_some_and(|epoch| epoch.objects.is_some_and(|end| batch.sequence() < end))
        };
        let beyond = found.batches.iter().filter(|(id, _)| !is_stored(**id));
        let sectors = beyond.map(|(_, (_, batch))| u64::from(batch.sectors));
        Ok(sectors.sum::<u64>() * SECTOR_BYTES)
    }

    /// The batches of the log that go on where the stream of the store ends, at `stream_end`, in
    /// order and each with an end; nothing else in the log will ever be taken for a part of the
    /// stream.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where something that was durable is gone, or does not follow what the
    /// store has; nothing was changed then.
    pub(crate) async fn close(
        &self,
        stream_end: Option<ObjectId>,
        runtime: &dyn Runtime,
    ) -> Result<Vec<RecoveredBatch>> {
        let mut found = self.look(stream_end).await?;
        let mut chain = Vec::new();
        let mut last = stream_end;
        while let Some(entry) = found.batches.first_entry() {
            if entry.get().1.predecessor != last {
                break;
            }
            let (segment, batch) = entry.remove();
            last = Some(batch.batch);
            let ended = batch.header.is_some();
            chain.push((segment, batch));
            if !ended {
                break;
            }
        }
        self.refuse_damage(stream_end, &chain, &found)?;
        self.void(found.batches.values().map(|(segment, _)| *segment))
            .await?;
        let mut recovered = Vec::with_capacity(chain.len());
        for (segment, batch) in chain {
            recovered.push(self.ended(segment, batch, runtime).await?);
        }
        Ok(recovered)
    }

    /// Reads the whole log.
    async fn look(&self, stream_end: Option<ObjectId>) -> Result<Found> {
        let header = &self.header;
        let mut found = Found::default();
        let segments = stream::iter(0..header.segments);
        let mut read = segments
            .map(|segment| async move {
                if !self.holds_records(segment).await? {
                    return Ok(None);
                }
                let bytes = self.read_segment(segment, 0, header.segment_bytes).await?;
                Ok::<_, Error>(Some((segment, bytes)))
            })
            .buffered(READ_AHEAD);
        while let Some(segment) = read.next().await {
            let Some((segment, bytes)) = segment? else {
                continue;
            };
            let scanned = scan(&bytes, header, BadData::Ends);
            let Some(batch) = scanned else { continue };
            found.synced = found.synced.max(batch.synced);
            found.persisted = found.persisted.max(batch.persisted);
            // What the store has in order is not looked at again; of it a segment that was to be
            // used anew may hold ruins.
            if Some(batch.batch) > stream_end {
                found.batches.insert(batch.batch, (segment, batch));
            }
        }
        Ok(found)
    }

    async fn holds_records(&self, segment: u32) -> Result<bool> {
        let first = self.read_segment(segment, 0, FIRST_LOOK_BYTES).await?;
        Ok(claims_log(&first, self.header.log))
    }

    /// A torn tail was never durable. What was durable and is not there was damaged.
    fn refuse_damage(
        &self,
        stream_end: Option<ObjectId>,
        chain: &[(u32, ScannedBatch)],
        found: &Found,
    ) -> Result<()> {
        let stop = chain.last().map(|(_, batch)| SyncedMark {
            batch: batch.batch,
            position: batch.end,
        });
        let damaged = |what: String| {
            let message = format!(
                "the write log in {} is damaged: {what}; nothing was changed. Where that part is \
                 given up, move the file log away and open the volume with --take-over: it opens as \
                 the store has it",
                self.directory
            );
            Error::new(ErrorKind::Damaged, message)
        };
        if let Some(mark) = found.synced
            && Some(mark.batch) > stream_end
            && Some(mark) > stop
        {
            let name = |batch| ObjectName::data(batch).to_string();
            let place = match stop {
                Some(stop) => format!("byte {} of batch {}", stop.position, name(stop.batch)),
                None => "the end of what the store has".to_owned(),
            };
            return Err(damaged(format!(
                "it was durable up to byte {} of batch {}, and does not check behind {place}",
                mark.position,
                name(mark.batch)
            )));
        }
        let end = stop.map(|stop| stop.batch).max(stream_end);
        if let Some(persisted) = found.persisted.filter(|persisted| Some(*persisted) > end) {
            return Err(damaged(format!(
                "it says that {} was in the store, and neither the store nor the log has it",
                ObjectName::data(persisted)
            )));
        }
        Ok(())
    }

    /// Makes sure that what is in these segments is never taken for a part of the stream.
    async fn void(&self, segments: impl Iterator<Item = u32>) -> Result<()> {
        let block = Bytes::from(vec![0; self.header.block_bytes as usize]);
        let writes: Vec<DiskWrite> = segments
            .map(|segment| DiskWrite {
                offset: self.header.segment_at(segment),
                parts: vec![block.clone()],
            })
            .collect();
        if writes.is_empty() {
            return Ok(());
        }
        let written = self.file.write(writes, WriteDurability::Synced).await;
        written.map_err(|error| self.failure("close", error))
    }

    /// The batch with an end, which is written where it is missing: a batch that is found open was
    /// never uploaded, so its object may still become what this says.
    async fn ended(
        &self,
        segment: u32,
        batch: ScannedBatch,
        runtime: &dyn Runtime,
    ) -> Result<RecoveredBatch> {
        let mut end = batch.end;
        let mut slices = batch.slices;
        let header = match batch.header {
            Some(header) => header,
            None => {
                let header = DataHeader {
                    volume: self.header.volume,
                    id: batch.batch,
                    predecessor: batch.predecessor,
                    write_id: runtime.random(),
                    wall_time_ns: batch.wall_time_ns,
                    persisted: batch.persisted,
                    data_len: u64::from(batch.sectors) * SECTOR_BYTES,
                    entries: batch.entries,
                };
                let entries = u32::try_from(header.entries.len()).unwrap_or(u32::MAX);
                let at = (batch.end, entries, batch.sectors);
                end += self.write_end(segment, at, &header).await?;
                slices.retain(|slice| slice.sectors > 0);
                header
            }
        };
        Ok(RecoveredBatch {
            segment,
            header,
            slices,
            sums: batch.sums,
            end,
        })
    }

    /// Writes the end of a batch behind its last record, and gives its length.
    async fn write_end(
        &self,
        segment: u32,
        (place, first_entry, first_sector): (u32, u32, u32),
        header: &DataHeader,
    ) -> Result<u32> {
        let wrong = || {
            let message = format!("cannot end batch {} in the write log", header.name());
            Error::new(ErrorKind::Damaged, message)
        };
        let object = header.encode().map_err(|error| wrong().because(error))?;
        let object_header = object.first_chunk::<FIXED_HEADER_BYTES>().copied();
        let record = Record {
            log: self.header.log,
            batch: header.id,
            predecessor: header.predecessor,
            place,
            first_entry,
            entries: Vec::new(),
            first_sector,
            sectors: 0,
            sums: Vec::new(),
            synced: None,
            persisted: header.persisted,
            wall_time_ns: header.wall_time_ns,
            object_header: Some(object_header.ok_or_else(wrong)?),
            is_mark: false,
        };
        let bytes = record.encode(self.header.block_bytes);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if place.saturating_add(len) > self.header.segment_bytes {
            return Err(wrong());
        }
        let write = DiskWrite {
            offset: self.header.segment_at(segment) + u64::from(place),
            parts: vec![Bytes::from(bytes)],
        };
        let written = self.file.write(vec![write], WriteDurability::Synced).await;
        written.map_err(|error| self.failure("close", error))?;
        Ok(len)
    }
}
