//! Closing the log of a writer that is gone: what in it counts is made to stay, and the rest to go.
//!
//! Every step can crash and be repeated, and finds the same end again.

use std::collections::BTreeSet;

use ::bytes::Bytes;

use super::log_end::{Link, LogEnd, whole};
use super::unreadable::Gap;
use super::{FILE, WriteLog};
use crate::bytes::data_object::DataHeader;
use crate::bytes::log::{LoggedSlice, Record, ScannedBatch, SyncedMark};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::doors::disk::{DiskWrite, WriteDurability};
use crate::doors::runtime::Runtime;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::ObjectName;
use crate::words::units::SECTOR_BYTES;

/// Bytes at the beginning of a segment that are overwritten together: one that cannot be read cannot be
/// written in part either, and sectors are not larger.
const VOID_BYTES: u32 = 4096;

/// Bytes of a damaged log that are overwritten at once.
const WIPED_AT_ONCE: u32 = 1 << 20;

/// A batch behind the store's stream.
#[derive(Debug)]
pub(crate) enum Recovered {
    /// The log alone has it for certain.
    Logged(RecoveredBatch),
    /// The store has it, behind one that it has not; this segment of the log says so.
    Stored(u32, DataHeader),
}

impl Recovered {
    /// All that its object says, entries included.
    pub(crate) const fn header(&self) -> &DataHeader {
        match self {
            Self::Logged(batch) => &batch.header,
            Self::Stored(_, header) => header,
        }
    }

    /// The segment of the log that is its own.
    pub(crate) const fn segment(&self) -> u32 {
        match self {
            Self::Logged(batch) => batch.segment,
            Self::Stored(segment, _) => *segment,
        }
    }

    /// The place up to which the log is durable with it.
    pub(crate) const fn end(&self) -> SyncedMark {
        match self {
            Self::Logged(batch) => SyncedMark {
                batch: batch.header.id,
                position: batch.end,
            },
            Self::Stored(_, header) => whole(header.id),
        }
    }
}

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

impl WriteLog {
    /// A torn tail was never durable. What was durable and is not there was damaged; what cannot be
    /// read may have been durable.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] or [`ErrorKind::LocalDisk`], and what would be given up.
    pub(crate) fn refuse_damage(&self, end: &LogEnd) -> Result<()> {
        if let Some(gap) = end.gaps.first() {
            return Err(self.unreadable(end, gap));
        }
        let Some(lost) = end.lost() else {
            return Ok(());
        };
        let name = |batch| ObjectName::data(batch).to_string();
        let place = end.place();
        let message = format!(
            "the write log in {} is damaged: it was durable up to byte {} of batch {}, and does not \
             check behind {place}; nothing in it was changed. Keep a copy of the file {FILE}; to open the \
             volume as it was at that place, and give up what was written later ({} bytes of it in \
             {} batches that check), open it with --cut-log",
            self.directory,
            lost.position,
            name(lost.batch),
            end.bytes_behind(),
            end.behind.len()
        );
        Err(Error::new(ErrorKind::Damaged, message))
    }

    /// What is wrong with a log of which a part cannot be read.
    fn unreadable(&self, end: &LogEnd, gap: &Gap) -> Error {
        let more = match end.gaps.len() {
            0 | 1 => String::new(),
            places => format!(" (and in {} more places)", places - 1),
        };
        let message = format!(
            "the write log in {} cannot be read at byte {} of the file {FILE}{more}, where something may be \
             that was flushed; nothing in it was changed. The disk may give it at another attempt, or after \
             a repair: keep a copy of the file. To open the volume as it was at {}, and give up what was \
             written later (what cannot be read, and {} bytes in {} batches that check), open it with \
             --cut-log",
            self.directory,
            self.header.segment_at(gap.segment) + u64::from(gap.at),
            end.place(),
            end.bytes_behind(),
            end.behind.len()
        );
        Error::new(ErrorKind::LocalDisk, message).because(gap.error.clone())
    }

    /// Notes in the log that the batches which were taken from the store are there: whatever else said
    /// so may be voided or cut now, and without them what follows them would pass for a torn tail. Each
    /// in a segment of its own, which begins with that until the batch is persisted.
    ///
    /// The last one comes first, since it may be written over what told of it: from then on it says that
    /// the others are missed.
    pub(crate) async fn mark_stored(&self, end: &LogEnd) -> Result<()> {
        let mut writes = end.stored().rev().map(|stored| self.stored_mark(stored));
        let last: Vec<DiskWrite> = writes.next().into_iter().collect();
        let others: Vec<DiskWrite> = writes.collect();
        for writes in [last, others] {
            if !writes.is_empty() {
                let written = self.file.write(writes, WriteDurability::Synced).await;
                written.map_err(|error| self.failure("close", error))?;
            }
        }
        Ok(())
    }

    /// The mark in each unit at the beginning of a segment: of those that a crash leaves as they were
    /// one may be all that told of what the segment held.
    fn stored_mark(&self, (segment, header): (u32, &DataHeader)) -> DiskWrite {
        let places = (0..VOID_BYTES).step_by(self.header.block_bytes as usize);
        let marks = places.map(|place| Record {
            log: self.header.log,
            batch: header.id,
            predecessor: header.predecessor,
            place,
            first_entry: 0,
            entries: Vec::new(),
            first_sector: 0,
            sectors: 0,
            sums: Vec::new(),
            synced: Some(whole(header.id)),
            persisted: header.persisted,
            wall_time_ns: header.wall_time_ns,
            object_header: None,
            is_mark: true,
        });
        let parts = marks.map(|mark| Bytes::from(mark.encode(self.header.block_bytes)));
        DiskWrite {
            offset: self.header.segment_at(segment),
            parts: parts.collect(),
        }
    }

    /// Gives up what is behind the damage: nothing in the log says any more that it was durable, and
    /// what could not be read is nothing any more, should the disk give it again. A crash amid this
    /// leaves a log that is damaged still, or one that is cut.
    pub(crate) async fn cut(&self, end: &mut LogEnd) -> Result<()> {
        if !end.is_damaged() {
            return Ok(());
        }
        let lost = end.lost();
        let lost = lost.map(|lost| ObjectName::data(lost.batch).to_string());
        let stop = end.stop();
        let stop = stop.map(|stop| ObjectName::data(stop.batch).to_string());
        tracing::warn!(
            lost,
            stop,
            bytes = end.bytes_behind(),
            unreadable = end.gaps.len(),
            "the damaged write log is cut: what was written later is lost"
        );
        let with_gaps = end.gaps.drain(..).map(|gap| gap.segment);
        let behind = std::mem::take(&mut end.behind);
        let behind = behind.into_values().map(|(segment, _)| segment);
        let others = end.used.drain(..).chain(with_gaps);
        let mut wiped: BTreeSet<u32> = behind.chain(others).collect();
        // What one of these held before may say that more was durable.
        let of_stored: BTreeSet<u32> = end.stored().map(|(segment, _)| segment).collect();
        wiped.extend(&of_stored);
        if let Some(Link::Logged(segment, batch)) = end.chain.last() {
            wiped.remove(segment);
            self.wipe(*segment, batch.end).await?;
        }
        for segment in wiped {
            let from = match of_stored.contains(&segment) {
                true => VOID_BYTES,
                false => 0,
            };
            self.wipe(segment, from).await?;
        }
        self.sync().await?;
        // Where no mark is given up, the end may not have been durable.
        end.marks.synced = end.marks.synced.min(end.stop());
        Ok(())
    }

    /// Overwrites a segment from a place on, without a sync. In pieces that no sector of a disk
    /// crosses: one that cannot be read cannot be written in part either.
    async fn wipe(&self, segment: u32, from: u32) -> Result<()> {
        let zeroes = Bytes::from(vec![0; WIPED_AT_ONCE as usize]);
        let mut next = from;
        while next < self.header.segment_bytes {
            let at = next;
            next = (at + 1).next_multiple_of(WIPED_AT_ONCE);
            next = next.min(self.header.segment_bytes);
            let len = next - at;
            let write = DiskWrite {
                offset: self.header.segment_at(segment) + u64::from(at),
                parts: vec![zeroes.slice(..len as usize)],
            };
            let written = self.file.write(vec![write], WriteDurability::Unsynced);
            written.await.map_err(|error| self.failure("cut", error))?;
        }
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        let synced = self.file.write(Vec::new(), WriteDurability::Synced).await;
        synced.map_err(|error| self.failure("close", error))
    }

    /// Closes the log: what counts is durable and each of its batches has an end, and nothing else in
    /// the log will ever be taken for a part of the stream.
    pub(crate) async fn close(&self, end: LogEnd, runtime: &dyn Runtime) -> Result<Vec<Recovered>> {
        // Where nothing can be read there may be a batch all the same: a void whose sync failed, or
        // that was killed before it, reads as zeroes and is gone with the power.
        let behind = end.behind.values().map(|(segment, _)| *segment);
        self.void(behind.chain(end.blank.iter().copied())).await?;
        self.make_durable(&end).await?;
        let mut recovered = Vec::with_capacity(end.chain.len());
        for link in end.chain {
            recovered.push(match link {
                Link::Logged(segment, batch) => {
                    Recovered::Logged(self.ended(segment, batch, runtime).await?)
                }
                Link::Stored(segment, header) => Recovered::Stored(segment, header),
            });
        }
        Ok(recovered)
    }

    /// Writes again what no mark shows to be durable: that it can be read proves nothing, and behind
    /// a sync that failed another one proves nothing about it either. Clients read it from now on,
    /// it is uploaded, and a flush need not wait for it.
    async fn make_durable(&self, end: &LogEnd) -> Result<()> {
        for link in &end.chain {
            let Link::Logged(segment, batch) = link else {
                continue;
            };
            let from = match end.marks.synced {
                Some(synced) if synced.batch > batch.batch => continue,
                Some(synced) if synced.batch == batch.batch => synced.position,
                _ => 0,
            };
            if from >= batch.end {
                continue;
            }
            let bytes = self.read_segment(*segment, from, batch.end - from).await?;
            let write = DiskWrite {
                offset: self.header.segment_at(*segment) + u64::from(from),
                parts: vec![bytes],
            };
            let written = self.file.write(vec![write], WriteDurability::Synced).await;
            written.map_err(|error| self.failure("close", error))?;
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
