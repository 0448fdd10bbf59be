//! What a machine does to its disk and to the store, by what it is for.

use bytes::Bytes;
use lsvd::bytes::log::{Record, SEGMENTS_AT};
use lsvd::bytes::superblock::{Change, Superblock};
use lsvd::words::name::{ObjectKind, ObjectName};

use crate::cloud::Verb;
use crate::disk::{Request, Write};

/// What a process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It opens its volume.
    Opening,
    /// It serves it.
    Serving,
}

/// What a machine is about to do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Lists the store: for the newest superblock, or for what is to be removed.
    List,
    /// Tries whether the store keeps a second writer out.
    Probe,
    /// Looks for the newest superblock when it opens.
    FindSuperblock,
    /// Looks whether another writer took over.
    CheckFence,
    /// Makes the superblock of a claim.
    Claim,
    /// Makes the one that says where the epochs before end.
    FixEnds,
    /// Makes the one that names a new checkpoint.
    NameCheckpoint,
    /// Makes the one that says that the volume was closed.
    MarkClosed,
    /// Reads the header of an object of the stream when it opens.
    RollForward,
    /// Reads of a data object for a client, or to see whose it is.
    ReadData,
    /// An upload.
    CreateData,
    /// Removes an object of no stream.
    DeleteData,
    /// Reads of a checkpoint.
    ReadCheckpoint,
    /// A part of a checkpoint, or its root.
    CreateCheckpoint,
    /// Removes a checkpoint that nothing needs.
    DeleteCheckpoint,
    /// Reads the log that is there when it opens.
    ScanLog,
    /// Makes the last writer's log its last word.
    CloseLog,
    /// Reads of the log what left memory.
    ReadLog,
    /// Appends a record to the log.
    AppendRecord,
    /// Appends the one that ends a sealed batch.
    SealBatch,
    /// Writes over what another batch left in a segment.
    ReuseSegment,
    /// Notes behind the last record what is durable.
    MarkDurable,
    /// Makes a file for a log.
    CreateLog,
    /// Writes the header of a new log.
    FormatLog,
    /// Gives a log its name, or sets one aside.
    RenameLog,
    /// Removes a log.
    RemoveLog,
    /// Looks at what the disk has.
    LookAtDisk,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::List,
        Self::Probe,
        Self::FindSuperblock,
        Self::CheckFence,
        Self::Claim,
        Self::FixEnds,
        Self::NameCheckpoint,
        Self::MarkClosed,
        Self::RollForward,
        Self::ReadData,
        Self::CreateData,
        Self::DeleteData,
        Self::ReadCheckpoint,
        Self::CreateCheckpoint,
        Self::DeleteCheckpoint,
        Self::ScanLog,
        Self::CloseLog,
        Self::ReadLog,
        Self::AppendRecord,
        Self::SealBatch,
        Self::ReuseSegment,
        Self::MarkDurable,
        Self::CreateLog,
        Self::FormatLog,
        Self::RenameLog,
        Self::RemoveLog,
        Self::LookAtDisk,
    ];

    /// Whether it is something that the store is asked for.
    pub(crate) const fn is_of_store(self) -> bool {
        match self {
            Self::List
            | Self::Probe
            | Self::FindSuperblock
            | Self::CheckFence
            | Self::Claim
            | Self::FixEnds
            | Self::NameCheckpoint
            | Self::MarkClosed
            | Self::RollForward
            | Self::ReadData
            | Self::CreateData
            | Self::DeleteData
            | Self::ReadCheckpoint
            | Self::CreateCheckpoint
            | Self::DeleteCheckpoint => true,
            Self::ScanLog
            | Self::CloseLog
            | Self::ReadLog
            | Self::AppendRecord
            | Self::SealBatch
            | Self::ReuseSegment
            | Self::MarkDurable
            | Self::CreateLog
            | Self::FormatLog
            | Self::RenameLog
            | Self::RemoveLog
            | Self::LookAtDisk => false,
        }
    }

    /// Whether a life passes it a few times at most.
    pub(crate) const fn is_rare(self) -> bool {
        match self {
            Self::List
            | Self::Probe
            | Self::Claim
            | Self::FixEnds
            | Self::MarkClosed
            | Self::DeleteData
            | Self::CloseLog
            | Self::CreateLog
            | Self::FormatLog
            | Self::RenameLog
            | Self::RemoveLog
            | Self::LookAtDisk => true,
            Self::FindSuperblock
            | Self::CheckFence
            | Self::NameCheckpoint
            | Self::RollForward
            | Self::ReadData
            | Self::CreateData
            | Self::ReadCheckpoint
            | Self::CreateCheckpoint
            | Self::DeleteCheckpoint
            | Self::ScanLog
            | Self::ReadLog
            | Self::AppendRecord
            | Self::SealBatch
            | Self::ReuseSegment
            | Self::MarkDurable => false,
        }
    }

    /// That of a request to the store, which creates an object with `body` where it creates one.
    pub(crate) fn of_store(verb: Verb, object: &str, body: Option<&Bytes>, phase: Phase) -> Self {
        let name = ObjectName::parse(object);
        match (verb, name.map(|name| name.kind), phase) {
            (Verb::List, ..) => Self::List,
            (Verb::Create, Some(ObjectKind::Superblock), _) => {
                let number = name.map_or(0, |name| name.id.as_u64());
                Self::of_superblock(body.map_or(&[], |body| &**body), number)
            }
            (_, Some(ObjectKind::Superblock), Phase::Opening) => Self::FindSuperblock,
            (_, Some(ObjectKind::Superblock), Phase::Serving) => Self::CheckFence,
            (Verb::Create, Some(ObjectKind::Data), _) => Self::CreateData,
            (Verb::Delete, Some(ObjectKind::Data), _) => Self::DeleteData,
            (Verb::Read, Some(ObjectKind::Data), Phase::Opening) => Self::RollForward,
            (Verb::Read, Some(ObjectKind::Data), Phase::Serving) => Self::ReadData,
            (Verb::Create, Some(ObjectKind::Checkpoint), _) => Self::CreateCheckpoint,
            (Verb::Delete, Some(ObjectKind::Checkpoint), _) => Self::DeleteCheckpoint,
            (Verb::Read, Some(ObjectKind::Checkpoint), _) => Self::ReadCheckpoint,
            (_, None, _) => Self::Probe,
        }
    }

    fn of_superblock(bytes: &[u8], number: u64) -> Self {
        let superblock = Superblock::decode(bytes, number);
        match superblock.map(|superblock| superblock.state.change) {
            Ok(Change::FixEnds) => Self::FixEnds,
            Ok(Change::Checkpoint) => Self::NameCheckpoint,
            Ok(Change::Close) => Self::MarkClosed,
            Ok(Change::Claim | Change::Create | Change::Tombstone) | Err(_) => Self::Claim,
        }
    }

    /// That of a request to the disk.
    pub(crate) fn of_disk(request: &Request, phase: Phase) -> Self {
        match (request, phase) {
            (Request::Open { .. } | Request::List, _) => Self::LookAtDisk,
            (Request::Read { .. }, Phase::Opening) => Self::ScanLog,
            (Request::Read { .. }, Phase::Serving) => Self::ReadLog,
            (Request::Create { .. }, _) => Self::CreateLog,
            (Request::Rename { .. }, _) => Self::RenameLog,
            (Request::Remove { .. }, _) => Self::RemoveLog,
            (Request::Write { writes, .. }, Phase::Opening) => {
                let is_header = writes.iter().any(|write| write.offset < SEGMENTS_AT);
                if is_header {
                    Self::FormatLog
                } else {
                    Self::CloseLog
                }
            }
            (Request::Write { writes, .. }, Phase::Serving) => Self::of_records(writes),
        }
    }

    /// Of several records the rarest counts.
    fn of_records(writes: &[Write]) -> Self {
        let place = |write: &Write| match Record::decode(&write.bytes) {
            Ok(record) if record.place == 0 && write.is_over => Self::ReuseSegment,
            Ok(record) if record.object_header.is_some() => Self::SealBatch,
            Ok(record) if record.is_mark => Self::MarkDurable,
            Ok(_) | Err(_) => Self::AppendRecord,
        };
        let places = || writes.iter().map(place);
        let rare = [Self::ReuseSegment, Self::SealBatch, Self::MarkDurable];
        let rarest = rare
            .into_iter()
            .find(|rare| places().any(|place| place == *rare));
        rarest.unwrap_or(Self::AppendRecord)
    }
}
