//! Reading a segment back: the records of its batch, from the first one to where they end.

use super::{FileHeader, LogError, Record, SyncedMark, claims_log};
use crate::bytes::block::{BLOCK_BYTES, contribution};
use crate::bytes::data_object::DataHeader;
use crate::bytes::entry::{Entry, have_their_data};
use crate::bytes::object_header::ObjectError;
use crate::words::name::{ObjectId, ObjectName, VolumeUuid};
use crate::words::units::SECTOR;

/// A slice of a batch's data area, and where it lies in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedSlice {
    /// First sector of the data area.
    pub first_sector: u32,
    /// Number of sectors.
    pub sectors: u32,
    /// Where its data begins in the segment, in bytes.
    pub data_at: u32,
}

/// What a segment holds of its batch: all records from the first on that check and follow one
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedBatch {
    /// The batch.
    pub batch: ObjectId,
    /// The batch before it in the stream.
    pub predecessor: Option<ObjectId>,
    /// What clients did, in order.
    pub entries: Vec<Entry>,
    /// Its data, in order and without gaps.
    pub slices: Vec<LoggedSlice>,
    /// Gathered checksum contributions of every block of the data area.
    pub sums: Vec<u32>,
    /// Sectors of the data area in use.
    pub sectors: u32,
    /// Its object's header, where the batch has an end record.
    pub header: Option<DataHeader>,
    /// Where the records end, in bytes of the segment.
    pub end: u32,
    /// Why the bytes there are no further record, where the batch has no end.
    pub stopped: Option<LogError>,
    /// Blocks of the data area whose data is not what the records say.
    pub bad_blocks: Vec<u32>,
    /// The newest object that any record knew to be persisted.
    pub persisted: Option<ObjectId>,
    /// When the last record was written: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
}

/// What data that does not check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadData {
    /// The end of the records: a tail that was torn.
    Ends,
    /// Damage of what was whole once: the records go on, and its blocks are noted.
    IsNoted,
}

/// Reads the batch in a segment of the log with this header; nothing where it does not begin with a
/// record of that log.
#[must_use]
pub fn scan(segment: &[u8], header: &FileHeader, bad_data: BadData) -> Option<ScannedBatch> {
    let first = Record::decode(segment).ok()?;
    if first.log != header.log || first.place != 0 || first.is_mark {
        return None;
    }
    let mut scanned = ScannedBatch {
        batch: first.batch,
        predecessor: first.predecessor,
        entries: Vec::new(),
        slices: Vec::new(),
        sums: Vec::new(),
        sectors: 0,
        header: None,
        end: 0,
        stopped: None,
        bad_blocks: Vec::new(),
        persisted: None,
        wall_time_ns: 0,
    };
    while scanned.header.is_none() {
        let rest = segment.get(scanned.end as usize..).unwrap_or_default();
        match scanned.follow(rest, header, bad_data) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                scanned.stopped = Some(error);
                break;
            }
        }
    }
    Some(scanned)
}

/// The batch of the mark that a segment begins with: none does that holds a batch.
#[must_use]
pub fn marked_batch(segment: &[u8], header: &FileHeader) -> Option<ObjectId> {
    let first = Record::decode(segment).ok()?;
    let is_mark = first.log == header.log && first.place == 0 && first.is_mark;
    is_mark.then_some(first.batch)
}

/// What the records of a segment say of the log: true of it for ever, whichever batch they are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Up to where the log was durable.
    pub synced: Option<SyncedMark>,
    /// The newest object that was persisted.
    pub persisted: Option<ObjectId>,
    /// Whether there is any record of the log at all.
    pub has_records: bool,
}

impl Marks {
    /// The higher of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            synced: self.synced.max(other.synced),
            persisted: self.persisted.max(other.persisted),
            has_records: self.has_records || other.has_records,
        }
    }
}

/// Looks at every block of a segment for records that check, also behind and between damaged ones,
/// and those of earlier uses: what any of them says was durable must be there.
#[must_use]
pub fn marks(segment: &[u8], header: &FileHeader) -> Marks {
    let mut marks = Marks::default();
    let block = (header.block_bytes as usize).max(SECTOR);
    for at in (0..segment.len()).step_by(block) {
        let rest = &segment[at..];
        if !claims_log(rest, header.log) {
            continue;
        }
        let Ok(record) = Record::decode(rest) else {
            continue;
        };
        if record.place as usize == at {
            marks = marks.max(Marks {
                synced: record.synced,
                persisted: record.persisted,
                has_records: true,
            });
        }
    }
    marks
}

impl ScannedBatch {
    /// Whether nothing of it checks but the place where it began: it was torn, and never durable, or
    /// some mark says otherwise.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Takes the record at the start of `rest`, if it is the next of this batch; a mark ends it.
    fn follow(
        &mut self,
        rest: &[u8],
        header: &FileHeader,
        bad_data: BadData,
    ) -> Result<bool, LogError> {
        let record = Record::decode(rest)?;
        let block_bytes = header.block_bytes;
        if record.log != header.log
            || record.batch != self.batch
            || record.predecessor != self.predecessor
            || record.place != self.end
        {
            return Err(LogError::Field("place"));
        }
        if record.is_mark {
            self.note(&record);
            return Ok(false);
        }
        if record.first_entry as usize != self.entries.len() || record.first_sector != self.sectors
        {
            return Err(LogError::Field("first entry or sector"));
        }
        // What an entry does not have would be believed up to the object, which nobody reads then, and the
        // stream would end before it.
        let first = u64::from(record.first_sector);
        let sectors = first..first + u64::from(record.sectors);
        if !have_their_data(&record.entries, sectors) {
            return Err(LogError::Field("entry list"));
        }
        let data_at = record.padded_header_len(block_bytes);
        let data_end = data_at as usize + record.sectors as usize * SECTOR;
        let data = rest
            .get(data_at as usize..data_end)
            .ok_or(LogError::Truncated)?;
        let bad_blocks = bad_blocks(&record, data);
        if bad_data == BadData::Ends && !bad_blocks.is_empty() {
            return Err(LogError::Checksum);
        }
        if let Some(fixed) = &record.object_header {
            self.header = Some(self.object_header(&record, fixed, header.volume)?);
        }
        for block in bad_blocks {
            // A block at the border of two records may be damaged in both.
            if self.bad_blocks.last() != Some(&block) {
                self.bad_blocks.push(block);
            }
        }
        self.note(&record);
        self.add_sums(&record);
        self.slices.push(LoggedSlice {
            first_sector: record.first_sector,
            sectors: record.sectors,
            data_at: self.end + data_at,
        });
        self.sectors += record.sectors;
        self.end += record.len(block_bytes);
        self.entries.extend(record.entries);
        Ok(true)
    }

    fn note(&mut self, record: &Record) {
        self.persisted = self.persisted.max(record.persisted);
        self.wall_time_ns = record.wall_time_ns;
    }

    fn add_sums(&mut self, record: &Record) {
        let first = record.first_sector as usize * SECTOR / BLOCK_BYTES;
        for (block, sum) in (first..).zip(&record.sums) {
            if self.sums.len() <= block {
                self.sums.resize(block + 1, 0);
            }
            self.sums[block] ^= sum;
        }
    }

    /// The header of the object, whose checksum covers the entries of all records.
    fn object_header(
        &self,
        record: &Record,
        fixed: &[u8],
        volume: VolumeUuid,
    ) -> Result<DataHeader, LogError> {
        let wrong = |_: ObjectError| LogError::Field("object header");
        let mut bytes = fixed.to_vec();
        for entry in self.entries.iter().chain(&record.entries) {
            bytes.extend_from_slice(&entry.encode());
        }
        let header = DataHeader::decode(&bytes).map_err(wrong)?;
        header
            .check_identity(volume, ObjectName::data(self.batch))
            .map_err(wrong)?;
        let sectors = u64::from(self.sectors) + u64::from(record.sectors);
        if header.data_len != sectors * SECTOR as u64 || header.predecessor != self.predecessor {
            return Err(LogError::Field("object header"));
        }
        Ok(header)
    }
}

/// The blocks of which the record's data is not what its checksums say.
fn bad_blocks(record: &Record, data: &[u8]) -> Vec<u32> {
    const SECTORS_PER_BLOCK: u32 = 8;
    let mut at = record.first_sector as usize * SECTOR;
    let mut rest = data;
    let mut bad = Vec::new();
    for (block, sum) in (record.first_sector / SECTORS_PER_BLOCK..).zip(&record.sums) {
        let in_block = at % BLOCK_BYTES;
        let (piece, behind) = rest.split_at(rest.len().min(BLOCK_BYTES - in_block));
        if contribution(in_block, piece) != *sum {
            bad.push(block);
        }
        at += piece.len();
        rest = behind;
    }
    bad
}
