//! The superblock: what the volume is, who may write it, and where its epochs end.
//!
//! The fixed header that all objects have, and behind it the state as one line of JSON, under the
//! same checksum. It is written a few times an hour at most and read by people when things are at
//! their worst, so it is a text. Numbered from 0, never rewritten; the highest number counts.

use serde::{Deserialize, Serialize};

use super::object_header::{FIXED_HEADER_BYTES, ObjectError, ObjectHeader};
use crate::words::limits::{
    OBJECT_BYTES_MAX, OBJECT_BYTES_MIN, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN, WINDOW_MAX,
};
use crate::words::name::{Epoch, ObjectId, ObjectKind, ObjectName, VolumeUuid};
use crate::words::units::SECTOR_BYTES;

/// Largest superblock, in bytes. It holds a handful of epochs and names; a length above this is
/// damage, and is not read.
pub const SUPERBLOCK_BYTES_MAX: usize = 1 << 20;

/// One superblock, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Its number, counted from 0.
    pub number: u64,
    /// The volume.
    pub volume: VolumeUuid,
    /// Random bits that tell it from any other under the same number.
    pub write_id: u128,
    /// When it was made: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The last data object known to be persisted when it was made.
    pub persisted: Option<ObjectId>,
    /// What it says.
    pub state: VolumeState,
}

/// What a superblock says of the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeState {
    /// Write id of the superblock directly before it; nothing in the very first.
    #[serde(with = "hex_or_none")]
    pub predecessor: Option<u128>,
    /// Why it was made.
    pub change: Change,
    /// Size of the volume in bytes.
    pub size: u64,
    /// Size of an object's data area in bytes.
    pub object_size: u64,
    /// The first epoch of this volume. Those before were another's, at the same place.
    pub first_epoch: u32,
    /// The epochs of the data stream that have objects, ascending, and the last one: all of them, or,
    /// where two checkpoints are kept, perhaps only those from the older one's cut on.
    pub epochs: Vec<EpochEnd>,
    /// The checkpoints from which the volume can be opened, the newest last: at most two.
    pub checkpoints: Vec<KeptCheckpoint>,
    /// Who claimed the last epoch; nothing before the first claim.
    pub writer: Option<Writer>,
}

/// Why a superblock was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A new volume.
    Create,
    /// A writer took the next epoch. The ends of those before are not known yet.
    Claim,
    /// The writer that claimed last found where the earlier epochs end.
    FixEnds,
    /// There is a new checkpoint.
    Checkpoint,
    /// The writer ended.
    Close,
    /// The volume is removed; whoever had claimed it is fenced.
    Tombstone,
}

/// How many data objects an epoch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: u32,
    /// Number of its data objects, 0 for none; nothing as long as that is open.
    pub objects: Option<u64>,
}

/// Most checkpoints that a superblock names. While it names one, the volume can also be opened from
/// the beginning of its stream.
pub const CHECKPOINTS_MAX: usize = 2;

/// A checkpoint from which the volume can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptCheckpoint {
    /// Its root.
    #[serde(with = "checkpoint_name")]
    pub object: ObjectId,
    /// Its cut, the last data object whose writes are in it.
    #[serde(with = "data_name")]
    pub cut: ObjectId,
}

/// A claim: who writes, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// The epoch that was claimed.
    pub epoch: u32,
    /// Identity of the machine.
    pub machine: String,
    /// The write log in use, if any.
    pub log: Option<LogPlace>,
    /// Span of the uploads under way: its own, or a larger one of a writer before it that did not
    /// close the volume.
    pub window: u32,
    /// How it ended, if it did.
    pub close: Option<CloseState>,
    /// The write log that it did without, of a writer before it that was not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
}

/// A write log that a take-over did without: what was in it alone is not in the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// Identity of the machine that wrote it.
    pub machine: String,
    /// The log, if it had one.
    pub log: Option<LogPlace>,
    /// Bytes that were in it alone, where its writer said so when it ended.
    pub log_bytes: Option<u64>,
}

/// Where a write log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlace {
    /// Its identity.
    pub uuid: VolumeUuid,
    /// Its directory on that machine.
    pub path: String,
}

/// How a writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CloseState {
    /// All of the stream is persisted, and a checkpoint with it: its log is not needed any more.
    Clean,
    /// Bytes that are in its log alone.
    Unclean {
        /// How many.
        log_bytes: u64,
    },
}

impl Superblock {
    /// Name of the superblock with this number.
    #[must_use]
    pub const fn name_of(number: u64) -> ObjectName {
        ObjectName {
            kind: ObjectKind::Superblock,
            id: ObjectId::from_u64(number),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> ObjectName {
        Self::name_of(self.number)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When it says what no superblock may say.
    pub fn encode(&self) -> Result<Vec<u8>, ObjectError> {
        self.check()?;
        let header = ObjectHeader {
            name: self.name(),
            volume: self.volume,
            predecessor: self.number.checked_sub(1).map(ObjectId::from_u64),
            write_id: self.write_id,
            wall_time_ns: self.wall_time_ns,
            persisted: self.persisted,
            data_len: 0,
            entry_count: 0,
        };
        let mut text = serde_json::to_vec(&self.state).map_err(text_error)?;
        text.push(b'\n');
        let bytes = header.encode(&text)?;
        if bytes.len() > SUPERBLOCK_BYTES_MAX {
            return Err(ObjectError::Length);
        }
        Ok(bytes)
    }

    /// Bytes of the superblock with this fixed header.
    ///
    /// # Errors
    /// When it is no header of a superblock.
    pub fn len_of(fixed: &[u8]) -> Result<usize, ObjectError> {
        let claimed = ObjectHeader::claimed_lengths(fixed)?;
        let header_len = claimed.header_len as usize;
        let lengths = FIXED_HEADER_BYTES..=SUPERBLOCK_BYTES_MAX;
        if !lengths.contains(&header_len) || claimed.data_len != 0 || claimed.entry_count != 0 {
            return Err(ObjectError::Length);
        }
        Ok(header_len)
    }

    /// Reads the whole of superblock `number` back.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode(bytes: &[u8], number: u64) -> Result<Self, ObjectError> {
        let header_len = Self::len_of(bytes)?;
        let (header, text) = ObjectHeader::decode(bytes, header_len, ObjectKind::Superblock)?;
        if bytes.len() != header_len {
            return Err(ObjectError::ObjectLength {
                expected: header_len as u64,
                found: bytes.len() as u64,
            });
        }
        if header.name != Self::name_of(number) {
            return Err(ObjectError::Identity {
                volume: header.volume,
                name: header.name,
            });
        }
        let this = Self {
            number,
            volume: header.volume,
            write_id: header.write_id,
            wall_time_ns: header.wall_time_ns,
            persisted: header.persisted,
            state: serde_json::from_slice(text).map_err(text_error)?,
        };
        if header.predecessor != number.checked_sub(1).map(ObjectId::from_u64) {
            return Err(ObjectError::Text("a predecessor of another number".into()));
        }
        this.check()?;
        Ok(this)
    }

    /// What holds in every superblock that is written.
    fn check(&self) -> Result<(), ObjectError> {
        let state = &self.state;
        let rule = |holds: bool, rule: &str| {
            let broken = || ObjectError::Text(rule.to_owned());
            holds.then_some(()).ok_or_else(broken)
        };
        let sizes = VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX;
        rule(
            state.size.is_multiple_of(SECTOR_BYTES) && sizes.contains(&state.size),
            "the size is out of range",
        )?;
        let sizes = OBJECT_BYTES_MIN..=OBJECT_BYTES_MAX;
        rule(
            state.object_size.is_multiple_of(4096) && sizes.contains(&state.object_size),
            "the object size is out of range",
        )?;
        rule(
            (self.number == 0) == state.predecessor.is_none(),
            "all but the first name a predecessor",
        )?;
        let first = state.epochs.first().map(|epoch| epoch.epoch);
        rule(
            state.first_epoch <= first.unwrap_or(ObjectId::EPOCH_MAX + 1),
            "an epoch before the first",
        )?;
        let ascending = state
            .epochs
            .is_sorted_by(|one, next| one.epoch < next.epoch);
        rule(ascending, "the epochs are out of order")?;
        let sequences = state.epochs.iter().filter_map(|epoch| epoch.objects);
        let last = state.epochs.last().map(|epoch| epoch.epoch);
        rule(
            last.unwrap_or_default() <= ObjectId::EPOCH_MAX
                && sequences.max().unwrap_or_default() <= ObjectId::SEQUENCE_MAX + 1,
            "an epoch is out of range",
        )?;
        let writer = state.writer.as_ref();
        rule(
            writer.map(|writer| writer.epoch) == last,
            "the last epoch is not the writer's",
        )?;
        rule(
            writer.is_none_or(|writer| (1..=WINDOW_MAX).contains(&writer.window)),
            "the window is out of range",
        )?;
        self.check_checkpoints()
    }
}

impl Superblock {
    /// The checkpoints are in order, all that they name is persisted, and the stream is listed from
    /// the older one on.
    fn check_checkpoints(&self) -> Result<(), ObjectError> {
        let checkpoints = &self.state.checkpoints;
        let ascending =
            checkpoints.is_sorted_by(|one, next| one.object < next.object && one.cut < next.cut);
        let persisted = checkpoints
            .last()
            .is_none_or(|newest| Some(newest.cut) <= self.persisted);
        if checkpoints.len() > CHECKPOINTS_MAX || !ascending || !persisted {
            return Err(text_error("the checkpoints are out of order"));
        }
        let mut listed = self.state.epochs.iter().map(|epoch| epoch.epoch);
        let is_listed = |kept: &KeptCheckpoint| listed.any(|epoch| epoch == kept.cut.epoch().0);
        // Both are ascending, so the search goes on from where the last one ended, but for two cuts
        // in one epoch.
        let mut cuts = checkpoints.clone();
        cuts.dedup_by_key(|kept| kept.cut.epoch());
        if !cuts.iter().all(is_listed) {
            return Err(text_error("the epochs do not reach back to a checkpoint"));
        }
        Ok(())
    }
}

impl VolumeState {
    /// The names of the checkpoints, for people.
    #[must_use]
    pub fn checkpoint_names(&self) -> String {
        let names = self.checkpoints.iter().map(|kept| {
            let kind = ObjectKind::Checkpoint;
            let id = kept.object;
            ObjectName { kind, id }.to_string()
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether the last writer stored everything before it ended: nobody has the volume, and nobody
    /// needs its write log. So it is before the first claim, too.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let writer = self.writer.as_ref();
        writer.is_none_or(|writer| writer.close == Some(CloseState::Clean))
    }

    /// Largest span of uploads that any writer had under way of whom not everything is known to be
    /// persisted: how far behind a missing object others may lie.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.writer.as_ref().map_or(1, |writer| writer.window)
    }

    /// The epoch that the next writer claims; nothing when they are used up.
    #[must_use]
    pub fn next_epoch(&self) -> Option<Epoch> {
        let next = match self.epochs.last() {
            Some(last) => last.epoch.checked_add(1)?,
            None => self.first_epoch,
        };
        (next <= ObjectId::EPOCH_MAX).then_some(Epoch(next))
    }
}

fn text_error(error: impl std::fmt::Display) -> ObjectError {
    ObjectError::Text(error.to_string())
}

/// 128 bits as people compare them: 32 hexadecimal digits.
mod hex_or_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<u128>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .map(|value| format!("{value:032x}"))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u128>, D::Error> {
        let Some(digits) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        match u128::from_str_radix(&digits, 16) {
            Ok(value) if format!("{value:032x}") == digits => Ok(Some(value)),
            _ => Err(de::Error::custom("a write id is 32 hexadecimal digits")),
        }
    }
}

/// Objects by their names, as people see them in the store.
macro_rules! named {
    ($module:ident, $kind:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

            use crate::words::name::{ObjectId, ObjectKind, ObjectName};

            const KIND: ObjectKind = $kind;

            pub(super) fn serialize<S: Serializer>(
                id: &ObjectId,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                let name = ObjectName {
                    kind: KIND,
                    id: *id,
                };
                name.to_string().serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<ObjectId, D::Error> {
                let name = String::deserialize(deserializer)?;
                let parsed = ObjectName::parse(&name).filter(|name| name.kind == KIND);
                let wrong = || de::Error::custom(format!("{name} does not name a {KIND} object"));
                parsed.map(|name| name.id).ok_or_else(wrong)
            }
        }
    };
}

named!(checkpoint_name, ObjectKind::Checkpoint);
named!(data_name, ObjectKind::Data);

#[cfg(test)]
mod tests;
