//! The write log on the local disk: what is durable long before it is in the store.
//!
//! One file of equal segments, one batch a segment. [`writer`] appends records, several clients'
//! at once; [`reader`] brings back what left memory; [`log_end`] says what is in the log of a writer
//! that is gone, and [`recovery`] closes it.

mod log_end;
mod reader;
mod recovery;
mod unreadable;
mod writer;

use ::bytes::Bytes;
use uuid::Uuid;

use crate::bytes::log::{FileHeader, HEADER_COPIES, RecordBounds, SEGMENTS_AT};
use crate::doors::disk::{
    DiskError, DiskErrorKind, DiskFile, DiskWrite, LocalDisk, WriteDurability,
};
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::LOG_SEGMENTS_MIN;
use crate::words::name::VolumeUuid;

pub(crate) use log_end::{Beyond, LogEnd};
pub(crate) use recovery::Recovered;
use unreadable::read_headers;
pub(crate) use writer::Writer;

/// Name of the log's file in its directory.
const FILE: &str = "log";

/// Name of a log that is being made.
const NEW_FILE: &str = "log.new";

/// What the names of logs begin with that were set aside.
const FOREIGN_FILE: &str = "log.foreign.";

/// An open log, whose directory is held.
#[derive(Debug)]
pub(crate) struct WriteLog {
    file: Arc<dyn DiskFile>,
    header: FileHeader,
    /// The directory, for messages and for the claim.
    directory: String,
}

/// Bytes of a segment for batches of `object_size` bytes: the data, a header of 512 bytes for each
/// 4 KiB written and synced by itself, and what a batch needs at its end. A batch that takes more
/// headers ends before its data area is full.
fn segment_bytes(object_size: u64) -> u64 {
    (object_size + object_size / 8 + (64 << 10)).next_multiple_of(4096)
}

/// The smallest log for batches of `object_size` bytes.
#[must_use]
pub(crate) fn bytes_min(object_size: u64) -> u64 {
    SEGMENTS_AT + segment_bytes(object_size) * u64::from(LOG_SEGMENTS_MIN)
}

/// The largest one: its segments are counted with 32 bits.
fn bytes_max(object_size: u64) -> u64 {
    SEGMENTS_AT + segment_bytes(object_size) * u64::from(u32::MAX)
}

/// Whether there can be a log of `bytes` bytes for batches of `object_size` bytes.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], and what would be right.
pub(crate) fn check_size(bytes: u64, object_size: u64) -> Result<()> {
    let (least, most) = (bytes_min(object_size), bytes_max(object_size));
    let right = match bytes {
        bytes if bytes < least => format!("needs at least {least}"),
        bytes if bytes > most => format!("has at most {most}"),
        _ => return Ok(()),
    };
    let message = format!(
        "a write log of {bytes} bytes cannot be: with objects of {object_size} bytes it {right}"
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// Removes the logs of `volume` from a directory: the one that was written last, those that were set
/// aside, and one that is half made. What belongs to another volume stays, and so does what does not
/// say whose it is.
///
/// # Errors
/// The disk's.
pub(crate) async fn remove_all(disk: &dyn LocalDisk, volume: VolumeUuid) -> Result<()> {
    let directory = disk.path();
    let failed = |error| failure("remove", &directory, error);
    for name in disk.list().await.map_err(failed)? {
        let goes = match name.as_str() {
            // Of use to nobody: the next log that is made here takes its place.
            NEW_FILE => true,
            name if name == FILE || name.starts_with(FOREIGN_FILE) => {
                is_of_volume(disk, name, volume).await.map_err(failed)?
            }
            _ => false,
        };
        if goes {
            disk.remove(&name).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether a file says that it is a log of `volume`.
async fn is_of_volume(
    disk: &dyn LocalDisk,
    name: &str,
    volume: VolumeUuid,
) -> Result<bool, DiskError> {
    let Some(file) = disk.open(name).await? else {
        return Ok(false);
    };
    let bytes = match file.len() < SEGMENTS_AT {
        true => Bytes::new(),
        false => match read_headers(&*file).await {
            Err(error) if error.kind() == DiskErrorKind::Unreadable => Bytes::new(),
            read => read?,
        },
    };
    match FileHeader::decode(&bytes) {
        Ok(header) => Ok(header.volume == volume),
        Err(error) => {
            let directory = disk.path();
            tracing::warn!(directory, name, %error, "left here: nothing says whose write log this is");
            Ok(false)
        }
    }
}

impl WriteLog {
    /// Makes a log of at most `bytes` bytes, whose space is taken from now on. It is there, whole and
    /// under its name, or it is not.
    pub(crate) async fn create(
        disk: &dyn LocalDisk,
        volume: VolumeUuid,
        log: Uuid,
        object_size: u64,
        bytes: u64,
    ) -> Result<Self> {
        check_size(bytes, object_size)?;
        let segment_bytes = segment_bytes(object_size);
        let segments = (bytes - SEGMENTS_AT) / segment_bytes;
        let counts =
            u32::try_from(segment_bytes).and_then(|bytes| Ok((bytes, segments.try_into()?)));
        let (segment_bytes, segments): (u32, u32) = counts.map_err(|error| {
            let message = format!("a write log for objects of {object_size} bytes cannot be");
            Error::new(ErrorKind::InvalidArgument, message).because(error)
        })?;
        let directory = disk.path();
        let failed = |error| failure("make", &directory, error);
        // What a crash left half made is of no use to anybody.
        disk.remove(NEW_FILE).await.map_err(failed)?;
        let file_bytes = SEGMENTS_AT + u64::from(segment_bytes) * u64::from(segments);
        let file = disk.create(NEW_FILE, file_bytes).await.map_err(failed)?;
        let header = FileHeader {
            log,
            volume,
            segment_bytes,
            segments,
            block_bytes: u32::try_from(file.block_bytes()).unwrap_or_default(),
        };
        let copy = Bytes::from(header.encode());
        let write = DiskWrite {
            offset: 0,
            parts: vec![copy; HEADER_COPIES],
        };
        file.write(vec![write], WriteDurability::Synced)
            .await
            .map_err(failed)?;
        disk.rename(NEW_FILE, FILE).await.map_err(failed)?;
        Ok(Self {
            file,
            header,
            directory,
        })
    }

    /// Opens the log of a directory; nothing where there is none.
    pub(crate) async fn open(disk: &dyn LocalDisk) -> Result<Option<Self>> {
        let directory = disk.path();
        let failed = |error| failure("open", &directory, error);
        let Some(file) = disk.open(FILE).await.map_err(failed)? else {
            return Ok(None);
        };
        let damaged = |what: &str| {
            let message = format!(
                "the write log in {directory} is damaged: {what}; nothing was changed. Keep the file \
                 {FILE} for whoever can repair it; with it out of the way, and \
                 --take-over, the volume opens as the store has it"
            );
            Error::new(ErrorKind::Damaged, message)
        };
        if file.len() < SEGMENTS_AT {
            return Err(damaged("it is shorter than its header"));
        }
        let bytes = match read_headers(&*file).await {
            Err(error) if error.kind() == DiskErrorKind::Unreadable => {
                return Err(damaged("its header cannot be read").because(error));
            }
            read => read.map_err(failed)?,
        };
        let header = FileHeader::decode(&bytes)
            .map_err(|error| damaged("its header does not check").because(error))?;
        if file.len() < header.file_bytes() {
            return Err(damaged("it is shorter than its header says"));
        }
        if !(header.block_bytes as usize).is_multiple_of(file.block_bytes()) {
            let message = format!(
                "the write log in {directory} was made on a disk with blocks of {} bytes, and this \
                 one writes {} at a time: bring it back to a disk as it was",
                header.block_bytes,
                file.block_bytes()
            );
            return Err(Error::new(ErrorKind::NotEmpty, message));
        }
        Ok(Some(Self {
            file,
            header,
            directory,
        }))
    }

    /// Takes a log out of the way of a new one, under a name of its own, which is returned.
    pub(crate) async fn set_aside(self, disk: &dyn LocalDisk) -> Result<String> {
        let name = format!("{FOREIGN_FILE}{}", self.header.log);
        disk.rename(FILE, &name)
            .await
            .map_err(|error| failure("set aside", &self.directory, error))?;
        Ok(format!("{}/{name}", self.directory))
    }

    /// Makes its name durable, which it may not be: who gave it may have been killed before it was.
    pub(crate) async fn keep(&self, disk: &dyn LocalDisk) -> Result<()> {
        let kept = disk.rename(FILE, FILE).await;
        kept.map_err(|error| failure("keep", &self.directory, error))
    }

    /// Identity of the log.
    pub(crate) const fn uuid(&self) -> Uuid {
        self.header.log
    }

    /// The volume that it belongs to.
    pub(crate) const fn volume(&self) -> VolumeUuid {
        self.header.volume
    }

    /// The directory that it is in.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// Whether a log made for so many bytes would be as large.
    pub(crate) fn is_of_size(&self, bytes: u64) -> bool {
        let segments = bytes.saturating_sub(SEGMENTS_AT) / u64::from(self.header.segment_bytes);
        segments == u64::from(self.header.segments)
    }

    /// Number of segments.
    pub(crate) const fn segments(&self) -> u32 {
        self.header.segments
    }

    /// Bytes of a segment.
    pub(crate) const fn segment_bytes(&self) -> u32 {
        self.header.segment_bytes
    }

    /// How long records get.
    pub(crate) const fn bounds(&self) -> RecordBounds {
        RecordBounds {
            block_bytes: self.header.block_bytes,
        }
    }

    async fn read_segment(&self, segment: u32, from: u32, len: u32) -> Result<Bytes> {
        let at = self.header.segment_at(segment) + u64::from(from);
        self.file
            .read(at, len as usize)
            .await
            .map_err(|error| self.failure("read", error))
    }

    fn failure(&self, verb: &str, error: DiskError) -> Error {
        failure(verb, &self.directory, error)
    }
}

fn failure(verb: &str, directory: &str, error: DiskError) -> Error {
    let message = format!("cannot {verb} the write log in {directory}");
    Error::new(error.kind().for_user(), message).because(error)
}
