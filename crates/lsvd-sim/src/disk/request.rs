//! Requests, as a test sees them.

use bytes::Bytes;
use lsvd::doors::disk::WriteDurability;

/// One of the writes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where it starts.
    pub offset: u64,
    /// What is written.
    pub bytes: Bytes,
    /// Whether its first unit was written before, since the file was made.
    pub is_over: bool,
}

/// A request to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To open a file.
    Open {
        /// Its name.
        name: String,
    },
    /// To create a file.
    Create {
        /// Its name.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// To rename a file.
    Rename {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// To remove a file.
    Remove {
        /// Its name.
        name: String,
    },
    /// To list the files.
    List,
    /// To write to a file.
    Write {
        /// The name that it had when it was opened or created.
        name: String,
        /// What is written.
        writes: Vec<Write>,
        /// Whether it is to be synced.
        durability: WriteDurability,
    },
    /// To read a file.
    Read {
        /// The name that it had when it was opened or created.
        name: String,
        /// Where it starts.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
}

impl Request {
    /// Whether it is a write to be synced.
    #[must_use]
    pub const fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::Write {
                durability: WriteDurability::Synced,
                ..
            }
        )
    }

    /// Whether it is a write, synced or not.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}
