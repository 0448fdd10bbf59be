//! What holds of the decoders of bytes at rest whatever bytes they get: they do not panic, and what
//! they read is sound and is written as it was.
//!
//! The fuzzer calls these, and the tests do with golden files that a seed damages. Each looks at the
//! bytes as they are, and once more with all checksums made right: without that nearly every input
//! ends at the first checksum, and what is behind it would never be tried.

mod seal;

use std::ops::Range;

use uuid::Uuid;

use super::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES};
use super::checkpoint::{Checkpoint, PieceStart};
use super::data_object::{BlockSpan, DataHeader};
use super::entry::EntryKind;
use super::fields::{array_at, u64_at};
use super::log::{
    BadData, FILE_HEADER_BYTES, FileHeader, RECORD_FIELDS, RECORD_HEADER_BYTES, Record,
    ScannedBatch, claims_log, marks, scan, sums_of,
};
use super::object_header::{FIELDS, FIXED_HEADER_BYTES, ObjectError};
use super::superblock::Superblock;
use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::name::{ObjectId, VolumeUuid};
use crate::words::units::{SECTOR, SECTOR_BYTES};

/// Any bytes as a data object: its header, its blocks, and the runs of them that a reader asks for.
pub fn data_object(bytes: &[u8]) {
    let sealed = seal::data_object(bytes);
    for bytes in [bytes, &sealed] {
        let header = match DataHeader::decode(bytes) {
            Ok(header) => header,
            Err(error) => {
                assert_needs_more(&error, bytes.len());
                assert!(DataHeader::decode_object(bytes).is_err());
                continue;
            }
        };
        let encoded = header.encode().expect("it was decoded");
        assert!(bytes.starts_with(&encoded));
        assert_eq!(DataHeader::len_of(bytes), Ok(encoded.len()));
        let whole = DataHeader::decode_object(bytes);
        let sound = whole.is_ok();
        assert!(whole.is_ok_and(|whole| whole == header) || !sound);
        runs_of_blocks(&header, bytes, sound);
    }
}

/// Reads the data of each entry as a reader does, which has the object's length from elsewhere.
fn runs_of_blocks(header: &DataHeader, bytes: &[u8], sound: bool) {
    let header_len = header.layout().expect("it was decoded").header_len();
    let place = Place::of(header.volume, header.name());
    for entry in &header.entries {
        let EntryKind::Write(offset) = entry.kind else {
            continue;
        };
        let len = usize::try_from(entry.data_sectors()).expect("a data area is small") * SECTOR;
        let span = BlockSpan::new(offset, len);
        let Some(stored) = run(bytes, span.stored_range(header_len)) else {
            assert!(!sound, "the data area is shorter than its entries");
            continue;
        };
        let mut read = vec![0; len];
        match span.extract(place, stored, &mut read) {
            Ok(()) => {
                let blocks = stored.chunks(STORED_BLOCK_BYTES);
                let data: Vec<u8> = blocks
                    .flat_map(|block| &block[..BLOCK_BYTES])
                    .copied()
                    .collect();
                assert_eq!(data[span.data.clone()], read);
            }
            Err(_) => assert!(!sound, "a block of an object that checks does not"),
        }
    }
}

fn run(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// An error can be printed, and one that asks for more bytes than there are does so: a reader
/// fetches as many and tries again, for ever if they were there already.
fn assert_needs_more(error: &ObjectError, len: usize) {
    drop(error.to_string());
    if let ObjectError::Truncated { needed } = error {
        assert!(*needed > len);
    }
}

/// Whose object the bytes say that they are: what is refused for its name alone tries nothing.
fn claimed(bytes: &[u8]) -> (VolumeUuid, ObjectId) {
    let Some(fixed) = bytes.get(..FIXED_HEADER_BYTES) else {
        return (VolumeUuid::nil(), ObjectId::from_u64(0));
    };
    let volume = VolumeUuid::from_bytes(array_at(fixed, seal::range_of(&FIELDS, "volume")));
    let id = u64_at(fixed, seal::range_of(&FIELDS, "id"));
    (volume, ObjectId::from_u64(id))
}

/// Any bytes as a superblock.
pub fn superblock(bytes: &[u8]) {
    let number = claimed(bytes).1.as_u64();
    let sealed = seal::superblock(bytes);
    for bytes in [bytes, &sealed] {
        match Superblock::decode(bytes, number) {
            Ok(superblock) => {
                let again = superblock.encode().expect("it was decoded");
                assert_eq!(Superblock::decode(&again, number).as_ref(), Ok(&superblock));
                let state = &superblock.state;
                let next = state.next_epoch();
                assert!(next.is_none_or(|next| next.0 >= state.first_epoch));
                assert!(state.is_closed() || state.writer.is_some());
                drop((state.window(), state.checkpoint_names()));
            }
            Err(error) => assert_needs_more(&error, bytes.len()),
        }
        let other = number.wrapping_add(1);
        assert!(Superblock::decode(bytes, other).is_err());
    }
}

/// Any bytes as a part or a root of a checkpoint: its lists, and every piece that it holds.
pub fn checkpoint(bytes: &[u8]) {
    let (volume, id) = claimed(bytes);
    let sealed = seal::checkpoint(bytes);
    for bytes in [bytes, &sealed] {
        let whole = Checkpoint::decode_object(bytes, volume, id);
        match Checkpoint::decode(bytes, volume, id) {
            Ok(checkpoint) => {
                let encoded = checkpoint.encode().expect("it was decoded");
                assert!(bytes.starts_with(&encoded));
                pieces(&checkpoint, bytes, whole.is_ok());
            }
            Err(error) => {
                assert_needs_more(&error, bytes.len());
                assert!(whole.is_err());
            }
        }
    }
}

fn pieces(checkpoint: &Checkpoint, bytes: &[u8], sound: bool) {
    for (index, piece) in checkpoint.pieces.iter().enumerate() {
        let start = piece.offset;
        let Some(content) = run(bytes, start..start.saturating_add(u64::from(piece.len))) else {
            assert!(!sound || piece.object != checkpoint.id);
            continue;
        };
        let read = match piece.start {
            PieceStart::Rows(_) => checkpoint
                .decode_rows(index, content)
                .map(|rows| assert_eq!(rows.len(), piece.count as usize)),
            PieceStart::Extents(_) => extents(checkpoint, index, content),
        };
        assert!(read.is_ok() || !sound || piece.object != checkpoint.id);
    }
}

/// Extents ascend in the sectors of their piece, also those before one that is refused: a reader
/// has put them into its map by then.
fn extents(checkpoint: &Checkpoint, index: usize, content: &[u8]) -> Result<(), ObjectError> {
    let span = checkpoint.span(index);
    let (mut end, mut count) = (span.start, 0);
    checkpoint.decode_extents(index, content, |extent| {
        let range = extent.range;
        assert!(end <= range.start && range.start < range.end && range.end <= span.end);
        end = range.end;
        count += 1;
        true
    })?;
    assert_eq!(count, checkpoint.pieces[index].count);
    Ok(())
}

/// Any bytes as a write log: a file header with a segment behind it, or a segment alone.
pub fn write_log(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    seal::file_header(&mut sealed);
    let header = file_header(bytes).or_else(|| file_header(&sealed));
    let behind = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
    for segment in [bytes, behind] {
        let header = header.unwrap_or_else(|| FileHeader {
            log: log_of(segment),
            volume: VolumeUuid::nil(),
            segment_bytes: 4096,
            segments: 1,
            block_bytes: 512,
        });
        let mut sealed = segment.to_vec();
        seal::segment(&mut sealed, header.block_bytes);
        any_segment(segment, &header);
        any_segment(&sealed, &header);
    }
}

fn file_header(bytes: &[u8]) -> Option<FileHeader> {
    match FileHeader::decode(bytes) {
        Ok(header) => {
            assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
            // No sum of its lengths may overflow.
            assert!(header.segment_at(header.segments) == header.file_bytes());
            Some(header)
        }
        Err(error) => {
            drop(error.to_string());
            None
        }
    }
}

/// The log that the first record of a segment names.
fn log_of(segment: &[u8]) -> Uuid {
    let fixed = segment.get(..RECORD_HEADER_BYTES);
    fixed.map_or_else(Uuid::nil, |fixed| {
        Uuid::from_bytes(array_at(fixed, seal::range_of(&RECORD_FIELDS, "log")))
    })
}

fn any_segment(bytes: &[u8], header: &FileHeader) {
    for at in (0..bytes.len()).step_by(SECTOR) {
        let rest = &bytes[at..];
        if claims_log(rest, header.log) {
            record(rest);
        }
    }
    let marks = marks(bytes, header);
    let torn = scan(bytes, header, BadData::Ends);
    let damaged = scan(bytes, header, BadData::IsNoted);
    let (Some(torn), Some(damaged)) = (&torn, &damaged) else {
        assert_eq!(torn, damaged, "both begin with the same record");
        return;
    };
    assert!(marks.has_records);
    assert!(marks.persisted >= torn.persisted.max(damaged.persisted));
    assert!(damaged.entries.starts_with(&torn.entries));
    assert!(damaged.slices.starts_with(&torn.slices));
    assert!(torn.bad_blocks.is_empty());
    scanned(damaged, bytes, header);
    let data = scanned(torn, bytes, header);
    assert_eq!(
        sums_of(0, &data, |_| None),
        torn.sums,
        "the data that was written"
    );
}

fn record(bytes: &[u8]) {
    match Record::decode(bytes) {
        Ok(record) => {
            let end = u64::from(record.first_sector) + u64::from(record.sectors);
            assert!(end * SECTOR_BYTES <= OBJECT_BYTES_MAX);
            for unit in [512, 4096] {
                let encoded = record.encode(unit);
                assert_eq!(encoded.len(), record.padded_header_len(unit) as usize);
                assert_eq!(Record::decode(&encoded).as_ref(), Ok(&record));
                assert!(record.len(unit).is_multiple_of(unit));
            }
        }
        Err(error) => drop(error.to_string()),
    }
}

/// The slices of a batch are its data area without a gap, inside the segment; gives their data.
fn scanned(batch: &ScannedBatch, bytes: &[u8], header: &FileHeader) -> Vec<u8> {
    let mut data = Vec::new();
    for slice in &batch.slices {
        assert_eq!(slice.first_sector as usize, data.len() / SECTOR);
        let start = slice.data_at as usize;
        data.extend_from_slice(&bytes[start..start + slice.sectors as usize * SECTOR]);
    }
    assert_eq!(data.len(), batch.sectors as usize * SECTOR);
    assert!(batch.stopped.is_none() || batch.header.is_none());
    if let Some(object) = &batch.header {
        assert_eq!(object.entries, batch.entries);
        assert_eq!((object.volume, object.id), (header.volume, batch.batch));
        assert_eq!(object.predecessor, batch.predecessor);
        assert_eq!(object.data_len, data.len() as u64);
    }
    data
}

#[cfg(test)]
mod tests;
