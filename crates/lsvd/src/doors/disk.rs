//! The local disk as the engine sees it: one directory, which belongs to one process at a time.

use std::error::Error as StdError;
use std::fmt;

use ::bytes::Bytes;

use super::BoxFuture;
use crate::sync::Arc;
use crate::words::error::ErrorKind;

mod directory;

pub use directory::{Directory, DirectoryOptions, is_file_name, keep_name};

/// What the length of a file is a multiple of, in bytes: the largest unit of writing.
pub const LENGTH_MULTIPLE: u64 = 4096;

/// A directory on a local disk, held exclusively: whoever has this value has its lock.
pub trait LocalDisk: fmt::Debug + Send + Sync + 'static {
    /// Opens the file `name` for reading and writing; nothing where there is none.
    fn open<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn DiskFile>>, DiskError>>;

    /// Creates the file `name`, which must not exist, with `bytes` bytes, a multiple of
    /// [`LENGTH_MULTIPLE`], that read as zeroes and need no more space and no change of metadata when
    /// they are overwritten. Content and size are durable when it returns; the name is durable after
    /// [`rename`](Self::rename).
    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn DiskFile>, DiskError>>;

    /// Renames a file, replacing what has the new name, durable when it returns.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>>;

    /// Removes a file, durable when it returns; one that is not there is no error.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>>;

    /// The names of all files, in no order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<String>, DiskError>>;

    /// The directory, as people write it. For messages, and for the next who opens the volume.
    fn path(&self) -> String;
}

/// A file of a [`LocalDisk`].
///
/// Dropping a future stops the waiting, not the work.
#[expect(
    clippy::len_without_is_empty,
    reason = "a file is made with its content; nobody asks whether it has any"
)]
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// The unit of writing in bytes, 512 or 4096: offset and length of every write and read are
    /// multiples of it. A crash leaves each unit of an unsynced write old or new.
    fn block_bytes(&self) -> usize;

    /// Length in bytes.
    fn len(&self) -> u64;

    /// Carries the writes out, in no order, and where `durability` asks for it makes them and all
    /// that was written before durable. After an error nothing is known of what was not durable
    /// before, and a later sync proves nothing about it.
    fn write(
        &self,
        writes: Vec<DiskWrite>,
        durability: WriteDurability,
    ) -> BoxFuture<'_, Result<(), DiskError>>;

    /// The `len` bytes at `offset`, which lie inside the file.
    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, DiskError>>;
}

/// One write to a file.
#[derive(Clone, Debug)]
pub struct DiskWrite {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// What is written, one behind the other. Together a multiple of the file's unit of writing;
    /// memory aligned to 4096 bytes is written without a copy.
    pub parts: Vec<Bytes>,
}

/// Whether a write is to survive the loss of power when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDurability {
    /// It may be lost, whole or in part, until a later write is synced.
    Unsynced,
    /// It is durable, and so is all that was written to the file before.
    Synced,
}

/// What kind of failure of the local disk it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskErrorKind {
    /// Another process has the directory; the message names it.
    InUse,
    /// Access was refused.
    Permission,
    /// The disk is full.
    NoSpace,
    /// The medium does not give what is there, a bad sector: a read of less may do, and what is written
    /// there anew may be read again. Reads alone fail so.
    Unreadable,
    /// Anything else: an I/O error, a file that is not what it must be.
    Failed,
}

impl DiskErrorKind {
    /// What it means to the user of a volume.
    #[must_use]
    pub const fn for_user(self) -> ErrorKind {
        match self {
            Self::InUse => ErrorKind::InUse,
            Self::Permission => ErrorKind::Permission,
            Self::NoSpace => ErrorKind::NoSpace,
            Self::Unreadable | Self::Failed => ErrorKind::LocalDisk,
        }
    }
}

/// A failed request to the local disk: what was asked of which file, and why it failed.
#[derive(Debug)]
pub struct DiskError {
    kind: DiskErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl DiskError {
    /// A failure of this kind; `message` says what could not be done to which file.
    #[must_use]
    pub fn new(kind: DiskErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> DiskErrorKind {
        self.kind
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for DiskError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
