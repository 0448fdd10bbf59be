//! What there is to say of a volume, as text and as JSON.

use std::time::Duration;

use lsvd::VolumeInfo;
use lsvd::bytes::superblock::{CloseState, Superblock, Writer};
use lsvd::words::name::{ObjectId, ObjectName};
use lsvd::words::text::{Size, wall_time};
use serde_json::{Value, json};

use crate::control::protocol::VolumeStatus;

/// What the server of a volume says.
pub(super) enum Served {
    /// There is none on this machine.
    No,
    By(Box<VolumeStatus>),
    /// There is one, and it does not answer, for this reason.
    Silent(String),
}

/// What is shown.
pub(super) struct Summary<'a> {
    pub(super) info: &'a VolumeInfo,
    pub(super) served: &'a Served,
}

type Line = (&'static str, String);

impl Summary<'_> {
    pub(super) fn text(&self) -> String {
        let info = self.info;
        let mut lines = vec![("location", info.location.clone())];
        if let Some(volume) = info.volume {
            lines.push(("volume", volume.to_string()));
        }
        if let Some(newest) = &info.superblock {
            lines.extend(superblock_lines(newest));
        }
        lines.extend(self.object_lines());
        lines.extend(self.served_lines());
        for damaged in &info.damaged {
            lines.push(("damaged", format!("{}: {}", damaged.name, damaged.reason)));
        }
        lines
            .iter()
            .map(|(name, value)| format!("{name:<11} {value}\n"))
            .collect()
    }

    fn object_lines(&self) -> Vec<Line> {
        let info = self.info;
        let range = info.range.map_or(String::new(), |(first, last)| {
            format!(", {} to {}", name(first), name(last))
        });
        let mut lines = vec![
            ("objects", format!("{}{range}", info.data.objects)),
            (
                "bytes",
                format!("{}, of which {} are data", info.data.bytes, info.data_bytes),
            ),
            ("entries", info.entries.to_string()),
        ];
        if info.superblock.is_some() {
            let (checkpoints, superblocks) = (info.checkpoints, info.superblocks);
            lines.push((
                "checkpoints",
                format!("{}, {} bytes", checkpoints.objects, checkpoints.bytes),
            ));
            lines.push((
                "superblocks",
                format!("{}, {} bytes", superblocks.objects, superblocks.bytes),
            ));
        }
        if info.newest_ns > 0 {
            lines.push(("newest", made(info.newest_ns)));
        }
        if let Some((id, when)) = info.persisted {
            let when = when.map_or(String::new(), |ns| format!(", made {}", made(ns)));
            lines.push(("persisted", format!("{}{when}", name(id))));
        }
        let mut count = |what, number: u64, of: &str| {
            if number > 0 {
                lines.push((what, format!("{number} {of}")));
            }
        };
        count("missing", info.missing, "objects between these");
        count("left over", info.left_over, "objects of a removed volume");
        count("foreign", info.foreign, "files that are no objects");
        lines
    }

    fn served_lines(&self) -> Vec<Line> {
        let status = match self.served {
            Served::No => return Vec::new(),
            Served::Silent(reason) => {
                return vec![(
                    "served",
                    format!("by a server that cannot be asked: {reason}"),
                )];
            }
            Served::By(status) => status,
        };
        let served = format!("by process {} at {}", status.pid, status.uri);
        let age = status
            .at_risk_seconds
            .map_or(String::new(), |age| format!(", the oldest for {age:.1} s"));
        let mut lines = vec![
            ("served", served),
            (
                "at risk",
                format!("{} bytes not stored yet{age}", status.at_risk_bytes),
            ),
            (
                "not durable",
                format!("{} bytes not flushed yet", status.not_durable_bytes),
            ),
            (
                "log",
                format!("{} of {} bytes", status.log_used_bytes, status.log_bytes),
            ),
        ];
        if status.fenced {
            lines.push(("fenced", "another writer took the volume over".to_owned()));
        }
        if let Some(error) = &status.error {
            lines.push(("failing", error.clone()));
        }
        lines
    }

    pub(super) fn json(&self) -> String {
        let info = self.info;
        let mut shown = json!({
            "location": info.location,
            "volume": info.volume.map(|volume| volume.to_string()),
            "objects": info.data.objects,
            "bytes": info.data.bytes,
            "data_bytes": info.data_bytes,
            "entries": info.entries,
            "first": info.range.map(|(first, _)| name(first)),
            "last": info.range.map(|(_, last)| name(last)),
            "newest": (info.newest_ns > 0).then(|| made(info.newest_ns)),
            "missing": info.missing,
            "left_over": info.left_over,
            "foreign": info.foreign,
            "damaged": info
                .damaged
                .iter()
                .map(|damaged| format!("{}: {}", damaged.name, damaged.reason))
                .collect::<Vec<_>>(),
        });
        if let (Some(newest), Value::Object(members)) = (&info.superblock, &mut shown) {
            members.extend(self.lasting_json(newest));
        }
        format!("{shown}\n")
    }

    /// What only a volume that lasts has.
    fn lasting_json(&self, newest: &Superblock) -> serde_json::Map<String, Value> {
        let info = self.info;
        let state = &newest.state;
        let served = match self.served {
            Served::No => Value::Null,
            Served::Silent(reason) => json!({ "error": reason }),
            Served::By(status) => json!(status),
        };
        let totals =
            |totals: lsvd::KindTotals| json!({ "objects": totals.objects, "bytes": totals.bytes });
        let members =
            [
                ("size", json!(state.size)),
                ("object_size", json!(state.object_size)),
                (
                    "superblock",
                    json!({
                        "name": newest.name().to_string(),
                        "made": made(newest.wall_time_ns),
                        "change": state.change,
                    }),
                ),
                ("first_epoch", json!(state.first_epoch)),
                ("epochs", json!(state.epochs)),
                ("writer", json!(state.writer)),
                (
                    "persisted",
                    json!(info.persisted.map(|(id, when)| {
                        json!({ "object": name(id), "made": when.map(made) })
                    })),
                ),
                ("checkpoints", totals(info.checkpoints)),
                ("superblocks", totals(info.superblocks)),
                ("served", served),
            ];
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn superblock_lines(newest: &Superblock) -> Vec<Line> {
    let state = &newest.state;
    let mut lines = vec![
        ("size", Size(state.size).to_string()),
        ("object size", Size(state.object_size).to_string()),
    ];
    let written = match &state.writer {
        None => "by nobody yet".to_owned(),
        Some(writer) => format!(
            "by machine {} (epoch {}), {}",
            writer.machine,
            writer.epoch,
            closed(writer)
        ),
    };
    lines.push(("written", written));
    lines.push((
        "superblock",
        format!("{}, made {}", newest.name(), made(newest.wall_time_ns)),
    ));
    lines
}

/// How a writer ended.
fn closed(writer: &Writer) -> String {
    match writer.close {
        // What it had not stored is there.
        None => match &writer.log {
            Some(log) => format!("not closed, its log is {}", log.path),
            None => "not closed".to_owned(),
        },
        Some(CloseState::Clean) => "closed, all is stored".to_owned(),
        Some(CloseState::Unclean { log_bytes }) => {
            let place = writer.log.as_ref().map_or("", |log| log.path.as_str());
            format!("closed, {log_bytes} bytes are in its log {place} alone")
        }
    }
}

fn name(id: ObjectId) -> String {
    ObjectName::data(id).to_string()
}

fn made(wall_time_ns: u64) -> String {
    wall_time(Duration::from_nanos(wall_time_ns))
}
