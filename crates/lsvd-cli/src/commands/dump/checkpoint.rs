//! A checkpoint object: its lists as they are, then the rows of the object table and the extents that
//! its pieces hold. Those of a root may lie in older objects, which are looked for beside it. A piece
//! at a time is in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use lsvd::bytes::checkpoint::{
    Checkpoint, HEAD_FIELDS, ObjectRow, PIECE_BYTES_MAX, PIECE_FIELDS, PIECES_MAX, PieceStart,
    REFERENCES_MAX,
};
use lsvd::bytes::object_header::{FIXED_HEADER_BYTES, ObjectError};
use lsvd::words::name::{ObjectId, ObjectName};
use lsvd::words::units::{Extent, SECTOR_BYTES};
use serde_json::Value;

use super::header::{Header, hex, number, range_in};
use super::report::{Report, Row};
use super::{Dumped, open, read};

const SECTION: &str = "checkpoint";

/// Bytes of the fields behind the fixed header.
const HEAD_BYTES: usize = HEAD_FIELDS[HEAD_FIELDS.len() - 1].1.end;

const REFERENCE_BYTES: usize = 8;

/// Bytes of a row of the list of pieces.
const PIECE_ROW_BYTES: usize = PIECE_FIELDS[PIECE_FIELDS.len() - 1].1.end;

/// The shortest header.
pub(super) const HEADER_BYTES_MIN: usize = FIXED_HEADER_BYTES + HEAD_BYTES;

/// The longest header, with full lists.
pub(super) const HEADER_BYTES_MAX: usize =
    HEADER_BYTES_MIN + REFERENCES_MAX * REFERENCE_BYTES + PIECES_MAX * PIECE_ROW_BYTES;

/// Shows all behind the fixed header of `dumped`, whose bytes are its header.
///
/// # Errors
/// The file cannot be read.
pub(super) fn show(
    dumped: &Dumped<'_>,
    header: &Header,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let rest = header.rest(dumped.bytes);
    let lists = Lists::new(rest, header);
    show_head(rest, report);
    lists.show_references(report);
    let mut objects = Objects::new(dumped, header.id);
    let sound = lists.show_pieces(&mut objects, report)?;
    // Where the lists do not check, nobody knows which sectors the pieces are of.
    match Checkpoint::decode(dumped.bytes, header.volume, header.id) {
        Ok(checkpoint) => {
            if checkpoint.object_len() != dumped.len {
                let error = ObjectError::ObjectLength {
                    expected: checkpoint.object_len(),
                    found: dumped.len,
                };
                report.problem(error.to_string());
            }
            Content::new(&checkpoint, sound).show(&mut objects, report)
        }
        Err(error) => {
            report.problem(error.to_string());
            Ok(())
        }
    }
}

fn show_head(rest: &[u8], report: &mut Report<'_>) {
    for (name, range) in HEAD_FIELDS {
        let Some(bytes) = rest.get(range) else {
            continue;
        };
        let value = number(bytes);
        let value: Value = match (name, value) {
            ("form", 1) => "1 (part)".into(),
            ("form", 2) => "2 (root)".into(),
            ("cut", id) => ObjectName::data(ObjectId::from_u64(id)).to_string().into(),
            ("reserved 1" | "reserved 2", _) => hex(bytes).into(),
            (_, value) => value.into(),
        };
        report.field_of(SECTION, name, value);
    }
}

/// The lists of references and pieces, unchecked.
struct Lists<'a> {
    own: ObjectId,
    references: &'a [[u8; REFERENCE_BYTES]],
    pieces: &'a [[u8; PIECE_ROW_BYTES]],
}

/// A row of the list of pieces, unchecked.
struct ListedPiece {
    kind: u64,
    /// The object that holds it, if the list of references has it.
    object: Option<ObjectId>,
    count: u64,
    start: u64,
    offset: u64,
    len: u64,
    crc: u64,
}

impl<'a> Lists<'a> {
    fn new(rest: &'a [u8], header: &Header) -> Self {
        let head = rest.get(..HEAD_BYTES).unwrap_or_default();
        let count = head.get(range_in(&HEAD_FIELDS, "reference count"));
        let count = usize::try_from(number(count.unwrap_or_default())).unwrap_or(usize::MAX);
        let lists = rest.get(HEAD_BYTES..).unwrap_or_default();
        let references_end = count.saturating_mul(REFERENCE_BYTES).min(lists.len());
        let (references, pieces) = lists.split_at(references_end);
        let (pieces, _) = pieces.as_chunks();
        Self {
            own: header.id,
            references: references.as_chunks().0,
            pieces: &pieces[..pieces.len().min(header.entry_count)],
        }
    }

    fn show_references(&self, report: &mut Report<'_>) {
        report.begin_table("references", self.references.len() as u64);
        for (index, reference) in self.references.iter().enumerate() {
            let id = ObjectId::from_u64(u64::from_le_bytes(*reference));
            let name = Checkpoint::name_of(id).to_string();
            report.row(&[("reference", (index + 1).into()), ("object", name.into())]);
        }
    }

    /// Shows the pieces and whether their checksums match; says of which ones they do.
    fn show_pieces(
        &self,
        objects: &mut Objects<'_>,
        report: &mut Report<'_>,
    ) -> io::Result<Vec<bool>> {
        let fields = PieceFields::new();
        let mut sound = Vec::with_capacity(self.pieces.len());
        report.begin_table("pieces", self.pieces.len() as u64);
        for (index, row) in self.pieces.iter().enumerate() {
            if report.is_broken() {
                break;
            }
            let piece = fields.read(row, self);
            let verdict = piece.verdict(objects)?;
            sound.push(verdict == MATCHES);
            if verdict != MATCHES {
                let (offset, object) = (piece.offset, piece.object_name());
                report.problem(format!(
                    "piece {index}, at byte {offset} of {object}: {verdict}"
                ));
            }
            report.row(&piece.shown(index, &verdict));
        }
        Ok(sound)
    }
}

/// Where the fields of a piece lie.
struct PieceFields {
    kind: Range<usize>,
    object: Range<usize>,
    count: Range<usize>,
    start: Range<usize>,
    offset: Range<usize>,
    length: Range<usize>,
    crc: Range<usize>,
}

impl PieceFields {
    fn new() -> Self {
        let range = |name| range_in(&PIECE_FIELDS, name);
        Self {
            kind: range("kind"),
            object: range("object"),
            count: range("count"),
            start: range("start"),
            offset: range("offset"),
            length: range("length"),
            crc: range("CRC"),
        }
    }

    fn read(&self, row: &[u8; PIECE_ROW_BYTES], lists: &Lists<'_>) -> ListedPiece {
        let field = |range: &Range<usize>| number(&row[range.clone()]);
        let reference = usize::try_from(field(&self.object)).unwrap_or(usize::MAX);
        let object = match reference.checked_sub(1) {
            None => Some(lists.own),
            Some(at) => {
                let id = lists.references.get(at);
                id.map(|id| ObjectId::from_u64(u64::from_le_bytes(*id)))
            }
        };
        ListedPiece {
            kind: field(&self.kind),
            object,
            count: field(&self.count),
            start: field(&self.start),
            offset: field(&self.offset),
            len: field(&self.length),
            crc: field(&self.crc),
        }
    }
}

const MATCHES: &str = "its checksum matches";

impl ListedPiece {
    /// What is to be said of its bytes.
    fn verdict(&self, objects: &mut Objects<'_>) -> io::Result<String> {
        let Some(object) = self.object else {
            return Ok("no reference names its object".to_owned());
        };
        if self.len > PIECE_BYTES_MAX {
            return Ok("it is longer than any piece".to_owned());
        }
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        Ok(match objects.read(object, self.offset, len)? {
            Err(missing) => missing,
            Ok(bytes) if bytes.len() < len => "it is cut off".to_owned(),
            Ok(bytes) if u64::from(crc32c::crc32c(&bytes)) == self.crc => MATCHES.to_owned(),
            Ok(_) => "its checksum does not match".to_owned(),
        })
    }

    fn object_name(&self) -> String {
        self.object.map_or_else(
            || "no object".to_owned(),
            |id| Checkpoint::name_of(id).to_string(),
        )
    }

    fn shown(&self, index: usize, verdict: &str) -> Row {
        let kind = match self.kind {
            1 => "objects".to_owned(),
            2 => "extents".to_owned(),
            other => other.to_string(),
        };
        let object = self.object.map(|id| Checkpoint::name_of(id).to_string());
        vec![
            ("piece", index.into()),
            ("kind", kind.into()),
            ("start", self.start.into()),
            ("count", self.count.into()),
            ("object", object.into()),
            ("at", self.offset.into()),
            ("bytes", self.len.into()),
            ("crc", format!("{:08x}", self.crc).into()),
            (
                "checksum",
                verdict.trim_start_matches("its checksum ").into(),
            ),
        ]
    }
}

/// The objects that hold the pieces: the one that is shown, and those beside it.
struct Objects<'a> {
    own: ObjectId,
    file: &'a File,
    folder: &'a Path,
    /// The one of the others that was read last: they are many, and all open at once may be too many.
    other: Option<(ObjectId, Result<File, String>)>,
}

impl<'a> Objects<'a> {
    fn new(dumped: &Dumped<'a>, own: ObjectId) -> Self {
        Self {
            own,
            file: dumped.file,
            folder: dumped.path.parent().unwrap_or_else(|| Path::new("")),
            other: None,
        }
    }

    /// Reads a piece, or says why its object cannot be read; fewer bytes where the object ends.
    fn read(
        &mut self,
        id: ObjectId,
        offset: u64,
        len: usize,
    ) -> io::Result<Result<Vec<u8>, String>> {
        if id == self.own {
            return read(self.file, offset, len).map(Ok);
        }
        if self.other.as_ref().is_none_or(|(open, _)| *open != id) {
            let path = self.folder.join(Checkpoint::name_of(id).to_string());
            let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
            let opened = open(&path).map(|(file, _)| file);
            self.other = Some((id, opened.map_err(failed)));
        }
        match &self.other {
            Some((_, Ok(file))) => read(file, offset, len).map(Ok),
            Some((_, Err(missing))) => Ok(Err(missing.clone())),
            None => Ok(Err("it is in no object".to_owned())),
        }
    }
}

/// What the pieces of a checkpoint hold whose lists check.
struct Content<'a> {
    checkpoint: &'a Checkpoint,
    /// Of which pieces the checksum matches: the others are left out.
    sound: Vec<bool>,
    /// Rows of the object table, by the slot of the first one.
    rows: BTreeMap<u32, Vec<ObjectRow>>,
}

impl<'a> Content<'a> {
    fn new(checkpoint: &'a Checkpoint, sound: Vec<bool>) -> Self {
        Self {
            checkpoint,
            sound,
            rows: BTreeMap::new(),
        }
    }

    fn show(mut self, objects: &mut Objects<'_>, report: &mut Report<'_>) -> io::Result<()> {
        let (rows, extents): (Vec<usize>, Vec<usize>) = (0..self.sound.len())
            .filter(|index| self.sound[*index])
            .partition(|index| {
                let start = self.checkpoint.pieces[*index].start;
                matches!(start, PieceStart::Rows(_))
            });
        report.begin_table("objects", self.count(&rows));
        for index in rows {
            self.show_rows(index, objects, report)?;
        }
        report.begin_table("extents", self.count(&extents));
        for index in extents {
            if report.is_broken() {
                break;
            }
            self.show_extents(index, objects, report)?;
        }
        Ok(())
    }

    /// How many rows or extents are in these pieces.
    fn count(&self, pieces: &[usize]) -> u64 {
        let counts = pieces.iter().map(|index| self.checkpoint.pieces[*index]);
        counts.map(|piece| u64::from(piece.count)).sum()
    }

    fn bytes(&self, index: usize, objects: &mut Objects<'_>) -> io::Result<Vec<u8>> {
        let piece = self.checkpoint.pieces[index];
        let read = objects.read(piece.object, piece.offset, piece.len as usize)?;
        // What was there a moment ago and is gone now does not check, which is what is said then.
        Ok(read.unwrap_or_default())
    }

    fn show_rows(
        &mut self,
        index: usize,
        objects: &mut Objects<'_>,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let bytes = self.bytes(index, objects)?;
        let PieceStart::Rows(first) = self.checkpoint.pieces[index].start else {
            return Ok(());
        };
        let rows = match self.checkpoint.decode_rows(index, &bytes) {
            Ok(rows) => rows,
            Err(error) => {
                report.problem(self.of_piece(index, &error));
                return Ok(());
            }
        };
        for (slot, row) in (u64::from(first.0)..).zip(&rows) {
            if row.id > self.checkpoint.cut {
                let name = ObjectName::data(row.id);
                report.problem(format!("slot {slot} is {name}, which is behind the cut"));
            }
            report.row(&[
                ("slot", slot.into()),
                ("object", ObjectName::data(row.id).to_string().into()),
                ("header length", row.header_len.into()),
                (
                    "data length",
                    (u64::from(row.data_sectors) * SECTOR_BYTES).into(),
                ),
            ]);
        }
        self.rows.insert(first.0, rows);
        Ok(())
    }

    fn show_extents(
        &self,
        index: usize,
        objects: &mut Objects<'_>,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let bytes = self.bytes(index, objects)?;
        let decoded = self.checkpoint.decode_extents(index, &bytes, |extent| {
            self.show_extent(&extent, report);
            true
        });
        if let Err(error) = decoded {
            report.problem(self.of_piece(index, &error));
        }
        Ok(())
    }

    fn show_extent(&self, extent: &Extent, report: &mut Report<'_>) {
        let Extent { range, location } = extent;
        let (lba, slot) = (range.start.0, location.object.0);
        let row = self.row(slot);
        let object = row.map(|row| ObjectName::data(row.id).to_string());
        match row {
            Some(row) => {
                let end = u64::from(location.offset.0) + range.sectors();
                if end > u64::from(row.data_sectors) {
                    let name = ObjectName::data(row.id);
                    report.problem(format!(
                        "the extent at LBA {lba} reaches behind the data of {name}"
                    ));
                }
            }
            // A part knows no objects, and of a table that is not all there this is told already.
            None if u64::from(slot) >= u64::from(self.checkpoint.object_count)
                && self.checkpoint.object_count > 0 =>
            {
                report.problem(format!(
                    "the extent at LBA {lba} is in slot {slot}, which the object table does not have"
                ));
            }
            None => {}
        }
        report.row(&[
            ("lba", lba.into()),
            ("sectors", range.sectors().into()),
            ("slot", slot.into()),
            ("object", object.into()),
            ("data offset", location.offset.bytes().into()),
        ]);
    }

    fn row(&self, slot: u32) -> Option<&ObjectRow> {
        let (first, rows) = self.rows.range(..=slot).next_back()?;
        rows.get((slot - first) as usize)
    }

    /// What is wrong with a piece, and where that is.
    fn of_piece(&self, index: usize, error: &ObjectError) -> String {
        let object = Checkpoint::name_of(self.checkpoint.pieces[index].object);
        format!("piece {index}, in {object}: {error}")
    }
}
