//! A file of a write log: whose it is, and what every segment holds, record by record.

use std::fs::File;
use std::io;
use std::time::Duration;

use lsvd::bytes::log::{
    BadData, FILE_HEADER_BYTES, FileHeader, HEADER_COPIES, LogError, RECORD_FIELDS, Record,
    ScannedBatch, SyncedMark, claims_log, marks, scan,
};
use lsvd::words::name::{ObjectId, ObjectName};
use lsvd::words::text::wall_time;
use serde_json::Value;

use super::read;
use super::report::{Report, Row};

/// What log files begin with.
const MAGIC: &[u8] = b"LSVDlg\r\n";

/// What is damaged at its beginning is what its name says.
const NAME: &str = "log";
const NAME_BEGINNING: &str = "log.";

/// Largest segment that is read: the batch of the largest object fits.
const SEGMENT_BYTES_MAX: u32 = 256 << 20;

/// Says what there is to say of a file of `len` bytes, and whether it is a write log: else nothing
/// is said.
///
/// # Errors
/// The file cannot be read.
pub(super) fn show(
    file: &File,
    len: u64,
    name: Option<&str>,
    report: &mut Report<'_>,
) -> io::Result<bool> {
    let headers = read(file, 0, FILE_HEADER_BYTES * HEADER_COPIES)?;
    let mut copies = headers.chunks(FILE_HEADER_BYTES);
    let named = name.is_some_and(|name| name == NAME || name.starts_with(NAME_BEGINNING));
    if !named && !copies.any(|copy| copy.starts_with(MAGIC)) {
        return Ok(false);
    }
    report.begin(Some("write log"));
    report.field_of("file", "bytes", len);
    let header = show_header(&headers, len, report);
    if let Some(header) = header {
        let segments = Segments::read(file, &header)?;
        segments.show(report);
        segments.show_records(file, &header, report)?;
    }
    Ok(true)
}

/// Shows the header, from whichever copy checks.
fn show_header(headers: &[u8], len: u64, report: &mut Report<'_>) -> Option<FileHeader> {
    let mut copies = headers.chunks(FILE_HEADER_BYTES);
    for number in 0..HEADER_COPIES {
        // One that the file is too short for is as bad as one that does not check.
        if let Err(error) = FileHeader::decode(copies.next().unwrap_or_default()) {
            report.problem(format!("copy {number} of the header: {error}"));
        }
    }
    let header = FileHeader::decode(headers).ok()?;
    report.field_of("header", "log", header.log.to_string());
    report.field_of("header", "volume", header.volume.to_string());
    report.field_of("header", "segment bytes", header.segment_bytes);
    report.field_of("header", "segments", header.segments);
    report.field_of("header", "block bytes", header.block_bytes);
    if header.file_bytes() != len {
        let expected = header.file_bytes();
        report.problem(format!("it is {len} bytes long and should be {expected}"));
    }
    if header.segment_bytes > SEGMENT_BYTES_MAX {
        report.problem(format!(
            "segments of {} bytes are none of ours",
            header.segment_bytes
        ));
        return None;
    }
    Some(header)
}

/// What all segments hold, without their records.
struct Segments {
    batches: Vec<Batch>,
    /// Number of records.
    records: u64,
    /// Segments that claim to begin with a record of this log, the batch that it claims, and what is
    /// wrong with it.
    unreadable: Vec<(u32, ObjectId, LogError)>,
    free: u32,
    /// Up to where the log is known to have been durable.
    synced: Option<SyncedMark>,
}

/// A batch, and the segment that holds it.
struct Batch {
    segment: u32,
    id: ObjectId,
    predecessor: Option<ObjectId>,
    entries: usize,
    sectors: u32,
    end: u32,
    is_complete: bool,
    stopped: Option<LogError>,
}

impl Segments {
    fn read(file: &File, header: &FileHeader) -> io::Result<Self> {
        let mut this = Self {
            batches: Vec::new(),
            records: 0,
            unreadable: Vec::new(),
            free: 0,
            synced: None,
        };
        for number in 0..header.segments {
            let segment = read_segment(file, header, number)?;
            if segment.is_empty() {
                break;
            }
            this.synced = this.synced.max(marks(&segment, header).synced);
            let Some(batch) = scan(&segment, header, BadData::Ends) else {
                this.add_unreadable(number, &segment, header);
                continue;
            };
            for_records(&segment, batch.batch, header, |_| this.records += 1);
            this.batches.push(Batch::new(number, batch));
        }
        this.batches.sort_by_key(|batch| batch.id);
        Ok(this)
    }

    /// A segment without a batch: free, or damaged at its very beginning.
    fn add_unreadable(&mut self, number: u32, segment: &[u8], header: &FileHeader) {
        match Record::decode(segment) {
            Err(error) if claims_log(segment, header.log) => {
                self.unreadable
                    .push((number, claimed_batch(segment), error));
            }
            _ => self.free += 1,
        }
    }

    fn show(&self, report: &mut Report<'_>) {
        report.field_of("segments", "free", self.free);
        report.field_of("segments", "used", self.batches.len());
        let synced = self.synced.map(|mark| {
            let batch = name(mark.batch);
            format!("{batch} to byte {} of its segment", mark.position)
        });
        report.field_of("segments", "synced", synced);
        for batch in &self.batches {
            if let Some(problem) = batch.damage(self.synced) {
                report.problem(problem);
            }
        }
        report.begin_table("unreadable", self.unreadable.len() as u64);
        for (number, batch, error) in &self.unreadable {
            let durable = self.synced.is_some_and(|mark| mark.batch == *batch);
            let (batch, kind) = (name(*batch), if durable { "damaged" } else { "torn" });
            if durable {
                report.problem(format!(
                    "{batch} was durable, and its first record: {error}"
                ));
            }
            report.row(&[
                ("segment", (*number).into()),
                ("batch", batch.into()),
                ("end", format!("{kind} ({error})").into()),
            ]);
        }
        report.begin_table("batches", self.batches.len() as u64);
        for batch in &self.batches {
            report.row(&batch.row(self.synced));
        }
    }

    /// The records of all batches, in the order of the batches: a segment at a time is in memory.
    fn show_records(
        &self,
        file: &File,
        header: &FileHeader,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        report.begin_table("records", self.records);
        for batch in &self.batches {
            if report.is_broken() {
                break;
            }
            let segment = read_segment(file, header, batch.segment)?;
            for_records(&segment, batch.id, header, |record| {
                report.row(&record_row(batch.segment, &record));
            });
        }
        Ok(())
    }
}

fn read_segment(file: &File, header: &FileHeader, number: u32) -> io::Result<Vec<u8>> {
    read(
        file,
        header.segment_at(number),
        header.segment_bytes as usize,
    )
}

/// Calls `visit` with all records of the segment's batch, also behind one that is damaged: what was
/// durable is told by any of them.
fn for_records(
    segment: &[u8],
    batch: ObjectId,
    header: &FileHeader,
    mut visit: impl FnMut(Record),
) {
    let block = header.block_bytes as usize;
    let mut behind_data = 0;
    for at in (0..segment.len()).step_by(block) {
        let rest = &segment[at..];
        // What looks like a record amid the data of one is somebody's data.
        if at < behind_data || !claims_log(rest, header.log) {
            continue;
        }
        let Ok(record) = Record::decode(rest) else {
            continue;
        };
        if record.batch != batch || record.place as usize != at {
            continue;
        }
        behind_data = at + record.len(header.block_bytes) as usize;
        visit(record);
    }
}

/// The batch that the first record of a segment names, unchecked.
fn claimed_batch(segment: &[u8]) -> ObjectId {
    let field = RECORD_FIELDS.into_iter().find(|(name, _)| *name == "batch");
    let bytes = field.and_then(|(_, range)| segment.get(range));
    let bytes = bytes.unwrap_or_default().iter().rev();
    ObjectId::from_u64(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl Batch {
    fn new(segment: u32, batch: ScannedBatch) -> Self {
        Self {
            segment,
            id: batch.batch,
            predecessor: batch.predecessor,
            entries: batch.entries.len(),
            sectors: batch.sectors,
            end: batch.end,
            is_complete: batch.header.is_some(),
            stopped: batch.stopped,
        }
    }

    /// What is wrong with it: it ends before what was durable does. A torn end is no damage.
    fn damage(&self, synced: Option<SyncedMark>) -> Option<String> {
        let stopped = self.stopped.as_ref()?;
        let synced = synced.filter(|mark| mark.batch == self.id && mark.position > self.end)?;
        Some(format!(
            "{} was durable up to byte {} of its segment and reads up to byte {}: {stopped}",
            name(self.id),
            synced.position,
            self.end
        ))
    }

    fn row(&self, synced: Option<SyncedMark>) -> Row {
        let end = match &self.stopped {
            _ if self.is_complete => "complete".to_owned(),
            _ if self.damage(synced).is_some() => "damaged".to_owned(),
            Some(LogError::Magic) | None => "open".to_owned(),
            Some(error) => format!("torn ({error})"),
        };
        vec![
            ("batch", name(self.id).into()),
            ("segment", self.segment.into()),
            ("predecessor", self.predecessor.map(name).into()),
            ("entries", self.entries.into()),
            ("sectors", self.sectors.into()),
            ("bytes", self.end.into()),
            ("end", end.into()),
        ]
    }
}

fn record_row(number: u32, record: &Record) -> Row {
    let kind = match (&record.object_header, record.is_mark) {
        (_, true) => "mark",
        (Some(_), false) => "end",
        (None, false) => "entries",
    };
    let synced = record.synced;
    vec![
        ("batch", name(record.batch).into()),
        ("segment", number.into()),
        ("place", record.place.into()),
        ("kind", kind.into()),
        ("first entry", record.first_entry.into()),
        ("entries", record.entries.len().into()),
        ("first sector", record.first_sector.into()),
        ("sectors", record.sectors.into()),
        ("synced batch", synced.map(|mark| name(mark.batch)).into()),
        (
            "synced position",
            synced.map_or(Value::Null, |mark| mark.position.into()),
        ),
        ("persisted", record.persisted.map(name).into()),
        (
            "wall time",
            wall_time(Duration::from_nanos(record.wall_time_ns)).into(),
        ),
    ]
}

fn name(id: ObjectId) -> String {
    ObjectName::data(id).to_string()
}
