//! What client and server of a control socket say to each other.
//!
//! ```text
//! > {"version":1,"verb":"status"}
//! < {"version":1,"status":{"volume":"...","at_risk_bytes":0,...}}
//! < {"version":1,"error":{"kind":"unknown-verb","message":"..."}}
//! ```
//!
//! Every line carries the version of the speaker. A server answers what it understands of its own
//! version and refuses others by their number, so either may be newer. A field that is not known is
//! left alone; one that is gone or means something else needs a new version.

use lsvd::Status;
use lsvd::words::name::ObjectName;
use lsvd::words::text::wall_time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this program speaks.
pub(crate) const VERSION: u64 = 1;

/// Longest request in bytes, its line end included.
pub(crate) const REQUEST_BYTES_MAX: u64 = 4096;

/// Longest reply in bytes, its line end included.
pub(crate) const REPLY_BYTES_MAX: u64 = 64 << 10;

/// What a server can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verb {
    /// How the volume is.
    Status,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// How the volume is.
    Status(Box<VolumeStatus>),
    /// Why there is no answer.
    Error(Refusal),
}

/// How a volume is that is being served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolumeStatus {
    /// Process of the server.
    pub(crate) pid: u32,
    /// Where its clients connect.
    pub(crate) uri: String,
    /// Uuid of the volume.
    pub(crate) volume: String,
    pub(crate) size: u64,
    pub(crate) object_size: u64,
    pub(crate) epoch: u32,
    /// Bytes that are lost if the local disk is lost: written, and not persisted.
    pub(crate) at_risk_bytes: u64,
    /// Age of the oldest of them.
    pub(crate) at_risk_seconds: Option<f64>,
    /// Bytes that a loss of power takes: written, and neither in the synced log nor persisted.
    pub(crate) not_durable_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) log_used_bytes: u64,
    /// Memory of the extent map, and how many extents are in it. Older servers say nothing of it.
    #[serde(default)]
    pub(crate) map_bytes: u64,
    #[serde(default)]
    pub(crate) map_extents: u64,
    /// Name of the last data object that is persisted, and when that was.
    pub(crate) persisted: Option<String>,
    pub(crate) persisted_at: Option<String>,
    /// Why requests fail, if they do.
    pub(crate) error: Option<String>,
    /// Whether another writer took the volume over.
    pub(crate) fenced: bool,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// One line for people.
    pub(crate) message: String,
}

/// The kinds of refusals. One that is not known here comes from a newer server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefusalKind {
    /// It is no request at all.
    Malformed,
    /// It is longer than a request may be.
    TooLong,
    /// It is of a version that the server does not speak.
    UnknownVersion,
    /// The server cannot do this.
    UnknownVerb,
    #[serde(other)]
    Other,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl VolumeStatus {
    pub(crate) fn new(status: &Status, uri: &str) -> Self {
        Self {
            pid: std::process::id(),
            uri: uri.to_owned(),
            volume: status.uuid.to_string(),
            size: status.size,
            object_size: status.object_size,
            epoch: status.epoch.0,
            at_risk_bytes: status.at_risk_bytes,
            at_risk_seconds: status.at_risk_since.map(|age| age.as_secs_f64()),
            not_durable_bytes: status.not_durable_bytes,
            log_bytes: status.log_bytes,
            log_used_bytes: status.log_used_bytes,
            map_bytes: status.map_bytes,
            map_extents: status.map_extents,
            persisted: status.persisted.map(|id| ObjectName::data(id).to_string()),
            persisted_at: status.persisted_at.map(wall_time),
            error: status.error.as_ref().map(ToString::to_string),
            fenced: status.fenced,
        }
    }
}

/// The line of a request.
pub(crate) fn encode_request(verb: Verb) -> String {
    line(&serde_json::json!({ "version": VERSION, "verb": verb }))
}

/// Reads a request, without its line end.
pub(crate) fn decode_request(line: &[u8]) -> Result<Verb, Refusal> {
    let malformed = |message: String| Refusal::new(RefusalKind::Malformed, message);
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| malformed(format!("a request is one line of JSON: {error}")))?;
    check_version(&value).map_err(|version| match version {
        None => malformed("a request is an object with a version".to_owned()),
        Some(version) => {
            let message = format!("this server speaks version {VERSION}, not {version}");
            Refusal::new(RefusalKind::UnknownVersion, message)
        }
    })?;
    match value.get("verb") {
        Some(Value::String(name)) => Verb::deserialize(Value::String(name.clone())).map_err(|_| {
            let message = format!("this server does not know the verb {name:?}");
            Refusal::new(RefusalKind::UnknownVerb, message)
        }),
        _ => Err(malformed("a request has a verb".to_owned())),
    }
}

/// The line of a reply.
pub(crate) fn encode_reply(answer: &Answer) -> String {
    let mut value = serde_json::to_value(answer).unwrap_or_default();
    if let Value::Object(members) = &mut value {
        members.insert("version".to_owned(), VERSION.into());
    }
    line(&value)
}

/// Reads a reply; or says what is wrong with it, in one line.
pub(crate) fn decode_reply(line: &[u8]) -> Result<Answer, String> {
    let wrong = |error: serde_json::Error| format!("its reply makes no sense: {error}");
    let mut value: Value = serde_json::from_slice(line).map_err(wrong)?;
    check_version(&value).map_err(|version| match version {
        None => "its reply has no version".to_owned(),
        Some(version) => {
            format!("it speaks version {version} and this program version {VERSION}")
        }
    })?;
    if let Value::Object(members) = &mut value {
        members.remove("version");
    }
    serde_json::from_value(value).map_err(wrong)
}

/// Fails with the version that it has, if it has one.
fn check_version(value: &Value) -> Result<(), Option<u64>> {
    match value.get("version").and_then(Value::as_u64) {
        Some(VERSION) => Ok(()),
        other => Err(other),
    }
}

fn line(value: &Value) -> String {
    let mut line = value.to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
