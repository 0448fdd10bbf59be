//! Closing the log of a writer that is gone: what in it counts is made to stay, and the rest to go.
//!
//! Every step can crash and be repeated, and finds the same end again.

use std::collections::{BTreeMap, BTreeSet};

use ::bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::unreadable::{Gap, ReadSegment};
use super::{FILE, WriteLog};
use crate::bytes::data_object::DataHeader;
use crate::bytes::log::{
    BadData, LoggedSlice, Marks, Record, ScannedBatch, SyncedMark, marks, scan,
};
use crate::bytes::object_header::FIXED_HEADER_BYTES;
use crate::bytes::superblock::Superblock;
use crate::doors::disk::{DiskWrite, WriteDurability};
use crate::doors::runtime::Runtime;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{ObjectId, ObjectName};
use crate::words::planted::{self, Fault};
use crate::words::units::SECTOR_BYTES;

/// Segments that are read ahead of the one that is scanned.
const READ_AHEAD: usize = 2;

/// Bytes of a damaged log that are overwritten at once.
const WIPED_AT_ONCE: u32 = 1 << 20;

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

/// Where the log of a writer that is gone ends, as it was found.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// Where the store's stream ends.
    stream_end: Option<ObjectId>,
    /// The batches that go on from there, each with its segment, in order; the last may have no end.
    chain: Vec<(u32, ScannedBatch)>,
    /// Segments with batches behind that which do not count.
    behind: Vec<u32>,
    /// Bytes of data in them.
    bytes_behind: u64,
    /// Segments that do not begin with a record of a batch that may count.
    blank: Vec<u32>,
    /// Segments with records of the log but none of a batch that may count.
    used: Vec<u32>,
    /// What cannot be read, but for what lies behind a batch of which all is there, or the store has.
    gaps: Vec<Gap>,
    /// What all records together say.
    marks: Marks,
}

impl LogEnd {
    /// The batches that go on where the store's stream ends.
    pub(crate) fn batches(&self) -> impl Iterator<Item = ObjectId> {
        self.chain.iter().map(|(_, batch)| batch.batch)
    }

    /// The newest object that was persisted when the log was written.
    pub(crate) const fn persisted(&self) -> Option<ObjectId> {
        self.marks.persisted
    }

    /// Where what counts stops.
    fn stop(&self) -> Option<SyncedMark> {
        self.chain.last().map(|(_, batch)| SyncedMark {
            batch: batch.batch,
            position: batch.end,
        })
    }

    /// The same, as messages say it.
    fn place(&self) -> String {
        match self.stop() {
            Some(stop) => {
                let name = ObjectName::data(stop.batch);
                format!("byte {} of batch {name}", stop.position)
            }
            None => "the end of what the store has".to_owned(),
        }
    }

    /// Up to where the log was durable, if what counts stops before that.
    fn lost(&self) -> Option<SyncedMark> {
        let behind_stream = |mark: &SyncedMark| Some(mark.batch) > self.stream_end;
        let synced = self.marks.synced.filter(behind_stream);
        synced.filter(|synced| Some(*synced) > self.stop())
    }
}

/// What a log holds that may be nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// It was never written to.
    Unused,
    Nothing,
    /// Batches with so many bytes of data.
    Bytes(u64),
}

impl WriteLog {
    /// What there is in batches of which nothing says that the store has them: neither `newest`, whose
    /// epochs end at most where it says and which knows what is persisted, nor the log itself.
    pub(crate) async fn beyond(&self, newest: &Superblock) -> Result<Beyond> {
        let is_listed = |batch: ObjectId| {
            let mut epochs = newest.state.epochs.iter();
            let epoch = epochs.find(|epoch| epoch.epoch == batch.epoch().0);
            epoch.is_some_and(|epoch| epoch.objects.is_some_and(|end| batch.sequence() < end))
        };
        let mut beyond = Vec::new();
        let mut all = Marks::default();
        let mut is_unused = true;
        let mut is_whole = true;
        self.each_segment(|_, read| {
            is_whole &= read.gaps.is_empty();
            is_unused &= read.bytes.iter().all(|byte| *byte == 0);
            all = all.max(marks(&read.bytes, &self.header));
            let batch = scan(read.beginning(), &self.header, BadData::Ends);
            beyond.extend(batch.map(|batch| (batch.batch, u64::from(batch.sectors))));
        })
        .await?;
        if is_unused && is_whole {
            return Ok(Beyond::Unused);
        }
        // A batch whose beginning is damaged does not show, but what was durable of it was noted.
        beyond.extend(all.synced.map(|synced| (synced.batch, 0)));
        // Where an end was fixed with a log, its last objects may be in that log alone.
        beyond.retain(|(batch, _)| !is_listed(*batch) || Some(*batch) > newest.persisted);
        // Persisted in the log's own time: of the stream up to there.
        beyond.retain(|(batch, _)| Some(*batch) > all.persisted);
        let sectors = beyond.iter().map(|(_, sectors)| sectors);
        Ok(match beyond.is_empty() && is_whole {
            true => Beyond::Nothing,
            // Perhaps none: a batch of discards alone has no data, and of a damaged one nobody knows.
            false => Beyond::Bytes(sectors.sum::<u64>() * SECTOR_BYTES),
        })
    }

    /// Reads the whole log, and finds the batches that go on where the stream of the store ends, at
    /// `stream_end`. Changes nothing.
    pub(crate) async fn find_end(&self, stream_end: Option<ObjectId>) -> Result<LogEnd> {
        let mut batches = BTreeMap::new();
        let (mut blank, mut used, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Marks::default();
        self.each_segment(|segment, read| {
            let found = marks(&read.bytes, &self.header);
            all = all.max(found);
            // What the store has in order is not looked at again; of it a segment that was to be
            // used anew may hold ruins.
            let scanned = scan(read.beginning(), &self.header, BadData::Ends);
            let is_behind = |batch: &ScannedBatch| {
                Some(batch.batch) > stream_end
                    || (planted::is(Fault::StaleReplay) && batch.header.is_some())
            };
            // Nothing that was written to this segment knew of more than the batch that is in it.
            let is_settled =
                |batch: &ScannedBatch| Some(batch.batch) <= stream_end || batch.header.is_some();
            if !scanned.as_ref().is_some_and(is_settled) {
                gaps.extend(read.gaps);
            }
            if scanned.is_none() {
                blank.push(segment);
            }
            match scanned.filter(is_behind) {
                Some(batch) => drop(batches.insert(batch.batch, (segment, batch))),
                None if found.has_records => used.push(segment),
                None => {}
            }
        })
        .await?;
        let mut chain: Vec<(u32, ScannedBatch)> = Vec::new();
        while let Some(entry) = batches.first_entry() {
            // None is left of these but where one is planted.
            if Some(*entry.key()) <= stream_end {
                chain.push(entry.remove());
                continue;
            }
            let last = chain.last().map(|(_, batch)| batch);
            let follows = last.map_or(stream_end, |last| stream_end.max(Some(last.batch)));
            let is_open = last.is_some_and(|last| last.header.is_none());
            let batch = &entry.get().1;
            if is_open || batch.predecessor != follows || batch.is_empty() {
                break;
            }
            chain.push(entry.remove());
        }
        let sectors = batches.values().map(|(_, batch)| u64::from(batch.sectors));
        Ok(LogEnd {
            stream_end,
            chain,
            bytes_behind: sectors.sum::<u64>() * SECTOR_BYTES,
            behind: batches.values().map(|(segment, _)| *segment).collect(),
            blank,
            used,
            gaps,
            marks: all,
        })
    }

    /// Calls `look` with every segment, in order.
    async fn each_segment(&self, mut look: impl FnMut(u32, ReadSegment)) -> Result<()> {
        let segments = stream::iter(0..self.header.segments);
        let mut read = segments
            .map(|segment| self.read_around_gaps(segment))
            .buffered(READ_AHEAD);
        for segment in 0.. {
            match read.next().await {
                Some(read) => look(segment, read?),
                None => break,
            }
        }
        Ok(())
    }

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
            end.bytes_behind,
            end.behind.len()
        );
        Err(Error::new(ErrorKind::Damaged, message))
    }

    /// What is wrong with a log of which a part cannot be read.
    fn unreadable(&self, end: &LogEnd, gap: &Gap) -> Error {
        let message = format!(
            "{} places of the write log in {} cannot be read, the first at byte {} of the file {FILE}, and \
             what was flushed may be there; nothing in it was changed. The disk may give it at another \
             attempt, or after a repair: keep a copy of the file. To open the volume as it was at {}, and \
             give up what was written later (what cannot be read, and {} bytes in {} batches that check), \
             open it with --cut-log",
            end.gaps.len(),
            self.directory,
            self.header.segment_at(gap.segment) + u64::from(gap.at),
            end.place(),
            end.bytes_behind,
            end.behind.len()
        );
        Error::new(ErrorKind::LocalDisk, message).because(gap.error.clone())
    }

    /// Gives up what is behind the damage: nothing in the log says any more that it was durable, and
    /// what could not be read is nothing any more, should the disk give it again. A crash amid this
    /// leaves a log that is damaged still, or one that is cut.
    pub(crate) async fn cut(&self, end: &mut LogEnd) -> Result<()> {
        let lost = end.lost();
        if lost.is_none() && end.gaps.is_empty() {
            return Ok(());
        }
        let lost = lost.map(|lost| ObjectName::data(lost.batch).to_string());
        let stop = end.stop();
        let stop = stop.map(|stop| ObjectName::data(stop.batch).to_string());
        tracing::warn!(
            lost,
            stop,
            bytes = end.bytes_behind,
            unreadable = end.gaps.len(),
            "the damaged write log is cut: what was written later is lost"
        );
        let with_gaps = end.gaps.drain(..).map(|gap| gap.segment);
        let behind = end.behind.drain(..).chain(end.used.drain(..));
        let mut wiped: BTreeSet<u32> = behind.chain(with_gaps).collect();
        if let Some((segment, batch)) = end.chain.last() {
            wiped.remove(segment);
            self.wipe(*segment, batch.end).await?;
        }
        for segment in wiped {
            self.wipe(segment, 0).await?;
        }
        self.sync().await?;
        end.marks.synced = end.stop();
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
    pub(crate) async fn close(
        &self,
        end: LogEnd,
        runtime: &dyn Runtime,
    ) -> Result<Vec<RecoveredBatch>> {
        // Where nothing can be read there may be a batch all the same: a void whose sync failed, or
        // that was killed before it, reads as zeroes and is gone with the power.
        let voided = end.behind.iter().chain(&end.blank);
        self.void(voided.copied()).await?;
        self.make_durable(&end).await?;
        let mut recovered = Vec::with_capacity(end.chain.len());
        for (segment, batch) in end.chain {
            recovered.push(self.ended(segment, batch, runtime).await?);
        }
        Ok(recovered)
    }

    /// Writes again what no mark shows to be durable: that it can be read proves nothing, and behind
    /// a sync that failed another one proves nothing about it either. Clients read it from now on,
    /// it is uploaded, and a flush need not wait for it.
    async fn make_durable(&self, end: &LogEnd) -> Result<()> {
        for (segment, batch) in &end.chain {
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
