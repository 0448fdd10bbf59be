//! The sum of what the headers of a volume's objects say.

use std::time::{Duration, UNIX_EPOCH};

use lsvd::bytes::data_object::DataHeader;
use lsvd::words::name::{ObjectId, ObjectName, VolumeUuid};
use serde_json::json;

/// What all objects together show.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) location: String,
    /// Objects whose headers check.
    pub(super) objects: u64,
    /// Their bytes, headers and checksums included.
    bytes: u64,
    /// Bytes of the data areas.
    data_bytes: u64,
    entries: u64,
    first: Option<ObjectId>,
    last: Option<ObjectId>,
    /// The volume of the first object that checks. Objects of another one do not check.
    pub(super) volume: Option<VolumeUuid>,
    newest_ns: u64,
    /// Ids that are absent between the first and the last.
    missing: u64,
    /// Files that are no objects by their names.
    pub(super) foreign: u64,
    /// Objects that do not check, and why.
    pub(super) damaged: Vec<String>,
}

impl Summary {
    pub(super) fn new(location: String) -> Self {
        Self {
            location,
            objects: 0,
            bytes: 0,
            data_bytes: 0,
            entries: 0,
            first: None,
            last: None,
            volume: None,
            newest_ns: 0,
            missing: 0,
            foreign: 0,
            damaged: Vec::new(),
        }
    }

    /// Takes one object in; they come in the order of their ids.
    pub(super) fn add(&mut self, header: &DataHeader, bytes: u64) {
        if let Some(last) = self.last
            && last.epoch() == header.id.epoch()
        {
            self.missing += header.id.sequence() - last.sequence() - 1;
        }
        self.objects += 1;
        self.bytes += bytes;
        self.data_bytes += header.data_len;
        self.entries += header.entries.len() as u64;
        self.first = self.first.or(Some(header.id));
        self.last = Some(header.id);
        self.volume = self.volume.or(Some(header.volume));
        self.newest_ns = self.newest_ns.max(header.wall_time_ns);
    }

    fn newest(&self) -> Option<String> {
        let since = Duration::from_nanos(self.newest_ns);
        (self.newest_ns > 0)
            .then(|| humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string())
    }

    fn name(id: Option<ObjectId>) -> Option<String> {
        id.map(|id| ObjectName::data(id).to_string())
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![("location", self.location.clone())];
        if let Some(volume) = self.volume {
            lines.push(("volume", volume.to_string()));
        }
        let range = match (Self::name(self.first), Self::name(self.last)) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            _ => String::new(),
        };
        lines.push(("objects", format!("{}{range}", self.objects)));
        lines.push((
            "bytes",
            format!("{}, of which {} are data", self.bytes, self.data_bytes),
        ));
        lines.push(("entries", self.entries.to_string()));
        if let Some(newest) = self.newest() {
            lines.push(("newest", newest));
        }
        if self.missing > 0 {
            lines.push(("missing", format!("{} objects between these", self.missing)));
        }
        if self.foreign > 0 {
            lines.push((
                "foreign",
                format!("{} files that are no objects", self.foreign),
            ));
        }
        for damaged in &self.damaged {
            lines.push(("damaged", damaged.clone()));
        }
        lines
            .iter()
            .map(|(name, value)| format!("{name:<9} {value}\n"))
            .collect()
    }

    pub(super) fn json(&self) -> String {
        let mut text = json!({
            "location": self.location,
            "volume": self.volume.map(|volume| volume.to_string()),
            "objects": self.objects,
            "bytes": self.bytes,
            "data_bytes": self.data_bytes,
            "entries": self.entries,
            "first": Self::name(self.first),
            "last": Self::name(self.last),
            "newest": self.newest(),
            "missing": self.missing,
            "foreign": self.foreign,
            "damaged": self.damaged,
        })
        .to_string();
        text.push('\n');
        text
    }
}
