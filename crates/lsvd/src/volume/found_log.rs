//! The write log that is there when a volume is opened: the last writer's, another's, or none.

use uuid::Uuid;

use super::recover::OpenOptions;
use crate::bytes::superblock::Superblock;
use crate::doors::disk::LocalDisk;
use crate::doors::runtime::Runtime;
use crate::parts::write_log::{Beyond, WriteLog};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::planted::{self, Fault};

/// The write log that was found in the directory.
pub(super) enum FoundLog {
    None,
    /// The one that the last writer of the volume used.
    Own(WriteLog),
    /// An older one of the same volume: others wrote to it since.
    Foreign(WriteLog),
}

impl FoundLog {
    pub(super) async fn look(disk: &dyn LocalDisk, newest: &Superblock) -> Result<Self> {
        let Some(log) = WriteLog::open(disk).await? else {
            return Ok(Self::None);
        };
        if log.volume() != newest.volume {
            return Err(of_another_volume(&log));
        }
        let last = newest.state.writer.as_ref();
        let named = last.and_then(|writer| writer.log.as_ref());
        if named.is_some_and(|named| named.uuid == log.uuid()) || planted::is(Fault::ForeignLog) {
            Ok(Self::Own(log))
        } else {
            Ok(Self::Foreign(log))
        }
    }

    /// A log to write to, and whether it is the last writer's. A foreign one is never written,
    /// replayed or uploaded.
    pub(super) async fn usable(
        self,
        disk: &dyn LocalDisk,
        newest: &Superblock,
        runtime: &dyn Runtime,
        options: &OpenOptions,
    ) -> Result<(WriteLog, bool)> {
        let uuid = match self {
            Self::Own(log) if log.is_of_size(options.log_bytes) => {
                return kept(log, disk, true).await;
            }
            // Of a volume that was closed nobody needs what it holds. A claim that was given up may
            // still arrive, and names it: who opens the volume then must find a log of that name.
            Self::Own(log) if newest.state.is_closed() => log.uuid(),
            Self::Own(log) => {
                tell_size(&log, options);
                return kept(log, disk, true).await;
            }
            Self::None => Uuid::from_u128(runtime.random()),
            Self::Foreign(log) => {
                if let Some(unused) = foreign(log, disk, newest, options).await? {
                    return kept(unused, disk, false).await;
                }
                Uuid::from_u128(runtime.random())
            }
        };
        let object_size = newest.state.object_size;
        // It takes the name of one that nobody needs.
        let log = WriteLog::create(disk, newest.volume, uuid, object_size, options.log_bytes);
        Ok((log.await?, false))
    }
}

/// A log that is in the way, as its volume may need it.
pub(super) fn of_another_volume(log: &WriteLog) -> Error {
    let message = format!(
        "{} holds the write log of another volume ({}): name another directory with --cache-dir, or, \
         where that volume is gone, remove the file log there",
        log.directory(),
        log.volume()
    );
    Error::new(ErrorKind::NotEmpty, message)
}

/// A log that is there and is written to, the last writer's or not. Who gave it its name may have been
/// killed before that was durable, and one of the same uuid have had the name before: what is written to
/// this one would be gone with the power.
async fn kept(log: WriteLog, disk: &dyn LocalDisk, is_own: bool) -> Result<(WriteLog, bool)> {
    if !planted::is(Fault::LogName) {
        log.keep(disk).await?;
    }
    Ok((log, is_own))
}

/// Sees to a log that is not the last writer's: one that was never written to is used, and one that may
/// have what the store has not is set aside.
async fn foreign(
    log: WriteLog,
    disk: &dyn LocalDisk,
    newest: &Superblock,
    options: &OpenOptions,
) -> Result<Option<WriteLog>> {
    match log.beyond(newest).await? {
        // Of an opening whose claim was given up: that may still arrive, and names this one.
        Beyond::Unused => {
            tell_size(&log, options);
            return Ok(Some(log));
        }
        Beyond::Nothing => {}
        Beyond::Bytes(bytes) => {
            let place = log.set_aside(disk).await?;
            tracing::warn!(
                place,
                bytes,
                "an older write log of this volume was set aside: others wrote to the volume since, and so \
                 many bytes of it, or discards, are not known to have reached the store; remove the file \
                 when nobody misses them"
            );
        }
    }
    Ok(None)
}

fn tell_size(log: &WriteLog, options: &OpenOptions) {
    if !log.is_of_size(options.log_bytes) {
        tracing::warn!(
            directory = log.directory(),
            wanted = options.log_bytes,
            "the write log keeps its size until the volume was closed and is opened again"
        );
    }
}
