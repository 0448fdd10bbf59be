//! The volume: one user-visible verb a file.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::words::error::Result;

/// What a flush waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushTarget {
    /// The local disk. An ephemeral volume keeps nothing there, so its flush answers at once.
    #[default]
    Local,
    /// The object store: everything answered before is in objects when flush returns.
    Store,
}

/// Settings of an ephemeral volume.
#[derive(Clone, Debug)]
pub struct EphemeralOptions {
    /// Size of the volume in bytes, a multiple of 512.
    pub size: u64,
    /// Size of an object's data area in bytes, a multiple of 4096.
    pub object_size: u64,
    /// Most uploads at once.
    pub window: u32,
    /// How long after its first entry a batch that is not full is uploaded all the same.
    pub seal_timeout: Duration,
    /// What a flush waits for.
    pub flush: FlushTarget,
    /// How long a failing store is retried before writes that wait for it, and flushes, fail.
    /// Retrying goes on behind the failure.
    pub retry_timeout: Duration,
}

/// A virtual disk. Clones are the same disk; any number of threads may use it.
#[derive(Clone, Debug)]
pub struct Volume {}

#[expect(
    unused_variables,
    missing_docs,
    clippy::todo,
    reason = "signatures first"
)]
impl Volume {
    pub fn open_ephemeral(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: EphemeralOptions,
    ) -> Result<Self> {
        todo!()
    }
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        todo!()
    }
    // Blocking verbs, for threads.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        todo!()
    }
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        todo!()
    }
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        todo!()
    }
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        todo!()
    }
    pub fn flush(&self) -> Result<()> {
        todo!()
    }
    /// Waits until all is stored (or fails), then refuses everything.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
    // The same, answered at once or not at all: `None` means "would have to wait, nothing done".
    pub fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Option<Result<()>> {
        todo!()
    }
    pub fn try_write(&self, offset: u64, data: &[u8]) -> Option<Result<()>> {
        todo!()
    }
    // The same, for tasks.
    pub async fn read_async(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        todo!()
    }
    pub async fn write_async(&self, offset: u64, data: &[u8]) -> Result<()> {
        todo!()
    }
    pub async fn discard_async(&self, offset: u64, len: u64) -> Result<()> {
        todo!()
    }
    pub async fn write_zeroes_async(&self, offset: u64, len: u64) -> Result<()> {
        todo!()
    }
    pub async fn flush_async(&self) -> Result<()> {
        todo!()
    }
    pub async fn close_async(&self) -> Result<()> {
        todo!()
    }
    /// The runs of bytes of `offset..offset+len`, ascending and without gaps, and whether data was
    /// written there (`true`) or it is a hole that reads as zeroes (`false`).
    pub fn allocation(&self, offset: u64, len: u64) -> Result<Vec<(Range<u64>, bool)>> {
        todo!()
    }
}
