//! A file of a write log: whose it is, and what every segment holds, record by record.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use lsvd::bytes::log::{
    BadData, FILE_HEADER_BYTES, FileHeader, HEADER_COPIES, LogError, RECORD_FIELDS, Record,
    ScannedBatch, SyncedMark, claims_log, marks, scan,
};
use lsvd::words::name::{ObjectId, ObjectName};
use serde_json::Value;

use super::report::{Report, Row};
use crate::values::wall_time;

/// What the names of log files begin with; what is damaged at its beginning is what its name says.
const MAGIC: &[u8] = b"LSVDlg\r\n";

/// Largest segment that is read: the batch of the largest object fits.
const SEGMENT_BYTES_MAX: u32 = 256 << 20;

/// What there is to say of a file of `len` bytes; nothing where it is no write log.
///
/// # Errors
/// The file cannot be read.
pub(super) fn report(file: &File, len: u64) -> io::Result<Option<Report>> {
    let mut headers = vec![0; FILE_HEADER_BYTES * HEADER_COPIES];
    let there = read(file, 0, &mut headers)?;
    headers.truncate(there);
    let mut copies = headers.chunks(FILE_HEADER_BYTES);
    if !copies.any(|copy| copy.starts_with(MAGIC)) {
        return Ok(None);
    }
    let mut report = Report::new(Some("write log".to_owned()));
    report.field_of("file", "bytes", len);
    let header = show_header(&headers, len, &mut report);
    if let Some(header) = header {
        Segments::read(file, &header)?.show(&mut report);
    }
    Ok(Some(report))
}

/// Reads from `offset` on until `buffer` is full or the file ends; says how much came.
fn read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut there = 0;
    while there < buffer.len() {
        match file.read_at(&mut buffer[there..], offset + there as u64) {
            Ok(0) => break,
            Ok(count) => there += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}

/// Shows the header, from whichever copy checks.
fn show_header(headers: &[u8], len: u64, report: &mut Report) -> Option<FileHeader> {
    for (number, copy) in headers.chunks(FILE_HEADER_BYTES).enumerate() {
        if let Err(error) = FileHeader::decode(copy) {
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

/// What all segments hold.
struct Segments {
    batches: Vec<(u32, ScannedBatch)>,
    records: Vec<Row>,
    /// Segments that claim to begin with a record of this log, the batch that it claims, and what is
    /// wrong with it.
    unreadable: Vec<(u32, ObjectId, LogError)>,
    free: u32,
    /// Up to where the log is known to have been durable.
    synced: Option<SyncedMark>,
}

impl Segments {
    fn read(file: &File, header: &FileHeader) -> io::Result<Self> {
        let mut this = Self {
            batches: Vec::new(),
            records: Vec::new(),
            unreadable: Vec::new(),
            free: 0,
            synced: None,
        };
        let mut segment = vec![0; header.segment_bytes as usize];
        for number in 0..header.segments {
            let there = read(file, header.segment_at(number), &mut segment)?;
            let segment = &segment[..there];
            this.synced = this.synced.max(marks(segment, header).synced);
            match scan(segment, header, BadData::Ends) {
                Some(batch) => {
                    this.add_records(number, batch.batch, segment, header);
                    this.batches.push((number, batch));
                }
                None => this.add_unreadable(number, segment, header),
            }
            if there < header.segment_bytes as usize {
                break;
            }
        }
        this.batches.sort_by_key(|(_, batch)| batch.batch);
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

    /// All records of the segment's batch, also behind one that is damaged.
    fn add_records(&mut self, number: u32, batch: ObjectId, segment: &[u8], header: &FileHeader) {
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
            self.records.push(record_row(number, &record));
        }
    }

    fn show(self, report: &mut Report) {
        report.field_of("segments", "free", self.free);
        report.field_of("segments", "used", self.batches.len());
        let synced = self.synced.map(|mark| {
            let batch = name(mark.batch);
            format!("{batch} to byte {} of its segment", mark.position)
        });
        report.field_of("segments", "synced", synced);
        let mut unreadable = Vec::new();
        for (_, batch) in &self.batches {
            if let Some(problem) = damage(batch, self.synced) {
                report.problem(problem);
            }
        }
        for (number, batch, error) in self.unreadable {
            let durable = self.synced.is_some_and(|mark| mark.batch == batch);
            let (batch, kind) = (name(batch), if durable { "damaged" } else { "torn" });
            if durable {
                report.problem(format!(
                    "{batch} was durable, and its first record: {error}"
                ));
            }
            unreadable.push(vec![
                ("segment", number.into()),
                ("batch", batch.into()),
                ("end", format!("{kind} ({error})").into()),
            ]);
        }
        report.table("unreadable", unreadable);
        let batches = self.batches.iter();
        let batches = batches.map(|(number, batch)| batch_row(*number, batch, self.synced));
        report.table("batches", batches.collect());
        report.table("records", self.records);
    }
}

/// The batch that the first record of a segment names, unchecked.
fn claimed_batch(segment: &[u8]) -> ObjectId {
    let field = RECORD_FIELDS.into_iter().find(|(name, _)| *name == "batch");
    let bytes = field.and_then(|(_, range)| segment.get(range));
    let bytes = bytes.unwrap_or_default().iter().rev();
    ObjectId::from_u64(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// What is wrong with a batch: it ends before what was durable does. A torn end is no damage.
fn damage(batch: &ScannedBatch, synced: Option<SyncedMark>) -> Option<String> {
    let stopped = batch.stopped.as_ref()?;
    let synced = synced.filter(|mark| mark.batch == batch.batch && mark.position > batch.end)?;
    Some(format!(
        "{} was durable up to byte {} of its segment and reads up to byte {}: {stopped}",
        name(batch.batch),
        synced.position,
        batch.end
    ))
}

fn batch_row(number: u32, batch: &ScannedBatch, synced: Option<SyncedMark>) -> Row {
    let end = match (&batch.header, &batch.stopped) {
        (Some(_), _) => "complete".to_owned(),
        (None, _) if damage(batch, synced).is_some() => "damaged".to_owned(),
        (None, Some(LogError::Magic) | None) => "open".to_owned(),
        (None, Some(error)) => format!("torn ({error})"),
    };
    vec![
        ("batch", name(batch.batch).into()),
        ("segment", number.into()),
        ("predecessor", batch.predecessor.map(name).into()),
        ("entries", batch.entries.len().into()),
        ("sectors", batch.sectors.into()),
        ("bytes", batch.end.into()),
        ("end", end.into()),
    ]
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
