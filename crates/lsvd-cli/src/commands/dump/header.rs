//! The fixed header, with which every object begins: shown field by field, whether it checks or not.

use std::ops::Range;
use std::time::Duration;

use lsvd::bytes::object_header::{FIELDS, FIXED_HEADER_BYTES, ObjectError, ObjectHeader};
use lsvd::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};
use lsvd::words::text::wall_time;
use serde_json::Value;

use super::Dumped;
use super::report::Report;

const SECTION: &str = "header";

/// What the fixed header says, unchecked: it may be damaged.
pub(super) struct Header {
    pub(super) header_len: usize,
    pub(super) volume: VolumeUuid,
    pub(super) id: ObjectId,
    pub(super) data_len: u64,
    pub(super) entry_count: usize,
}

impl Header {
    /// Shows what there is of the fixed header and what is wrong with it.
    pub(super) fn read(
        dumped: &Dumped<'_>,
        kind: Option<ObjectKind>,
        report: &mut Report<'_>,
    ) -> Self {
        let bytes = dumped.bytes;
        // What is cut off counts as zeroes below and is not shown here.
        let mut fixed = [0; FIXED_HEADER_BYTES];
        let there = bytes.len().min(FIXED_HEADER_BYTES);
        fixed[..there].copy_from_slice(&bytes[..there]);
        for (name, range) in FIELDS {
            if range.end <= there {
                report.field_of(SECTION, name, shown(name, &fixed[range], kind));
            }
        }
        let number = |name| number(&fixed[range_of(name)]);
        let this = Self {
            header_len: usize::try_from(number("header length")).unwrap_or(usize::MAX),
            volume: VolumeUuid::from_slice(&fixed[range_of("volume")]).unwrap_or_default(),
            id: ObjectId::from_u64(number("id")),
            data_len: number("data length"),
            entry_count: usize::try_from(number("entry count")).unwrap_or(usize::MAX),
        };
        this.check(dumped, kind, report);
        this
    }

    fn check(&self, dumped: &Dumped<'_>, kind: Option<ObjectKind>, report: &mut Report<'_>) {
        let claimed = ObjectHeader::claimed_lengths(dumped.bytes);
        let decoded = claimed.and_then(|_| {
            let kind = kind.unwrap_or(ObjectKind::Data);
            ObjectHeader::decode(dumped.bytes, self.header_len, kind)
        });
        let verdict = match &decoded {
            Ok(_) | Err(ObjectError::Kind { .. } | ObjectError::Reserved) => "matches",
            Err(ObjectError::Checksum) => "does not match",
            Err(_) => "cannot be computed",
        };
        report.field_of(SECTION, "checksum", verdict);
        match decoded {
            Err(error) => report.problem(error.to_string()),
            Ok((header, _)) => {
                if let Some(name) = dumped.name.filter(|name| *name != header.name) {
                    report.problem(format!("the file is {name} and the object {}", header.name));
                }
            }
        }
    }

    /// Its name, as an object of this kind.
    pub(super) const fn name(&self, kind: ObjectKind) -> ObjectName {
        ObjectName { kind, id: self.id }
    }

    /// What follows the fixed header in the header, as far as it is there.
    pub(super) fn rest<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let end = self.header_len.min(bytes.len());
        bytes.get(FIXED_HEADER_BYTES..end).unwrap_or_default()
    }
}

/// The length of the header that the first bytes of an object claim.
pub(super) fn claimed_header_len(first: &[u8]) -> usize {
    let field = first.get(range_of("header length")).unwrap_or_default();
    usize::try_from(number(field)).unwrap_or(usize::MAX)
}

fn range_of(name: &str) -> Range<usize> {
    range_in(&FIELDS, name)
}

/// Where a field lies, by a table of all of them.
pub(super) fn range_in(fields: &[(&str, Range<usize>)], name: &str) -> Range<usize> {
    let field = fields.iter().find(|(field, _)| *field == name);
    field.map_or(0..0, |(_, range)| range.clone())
}

/// The little-endian number that these bytes, at most eight, are.
pub(super) fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn shown(name: &str, bytes: &[u8], kind: Option<ObjectKind>) -> Value {
    let number = || number(bytes);
    match name {
        "magic" => bytes.escape_ascii().to_string().into(),
        "volume" => VolumeUuid::from_slice(bytes)
            .map_or_else(|_| hex(bytes), |volume| volume.to_string())
            .into(),
        "kind" => match kind.filter(|kind| u64::from(*kind as u8) == number()) {
            Some(kind) => format!("{} ({kind})", number()).into(),
            None => number().to_string().into(),
        },
        "id" => object_of(kind, number()).into(),
        "predecessor" => (number() != u64::MAX)
            .then(|| object_of(kind, number()))
            .into(),
        "persisted" => (number() != u64::MAX)
            .then(|| object_of(Some(ObjectKind::Data), number()))
            .into(),
        "write id" => {
            let write_id: Vec<u8> = bytes.iter().rev().copied().collect();
            hex(&write_id).into()
        }
        "wall time" => wall_time(Duration::from_nanos(number())).into(),
        "header CRC" => format!("{:08x}", number()).into(),
        "reserved 1" | "reserved 2" => hex(bytes).into(),
        _ => number().into(),
    }
}

fn object_of(kind: Option<ObjectKind>, id: u64) -> String {
    let id = ObjectId::from_u64(id);
    match kind {
        Some(kind) => ObjectName { kind, id }.to_string(),
        None => format!("{:08x}", id.as_u64()),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
