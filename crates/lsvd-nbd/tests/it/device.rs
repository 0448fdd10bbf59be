//! A disk in memory whose answers can be held back, made to wait, or made to fail.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lsvd_nbd::{BlockDevice, DeviceError, DeviceResult, Errno, Extent, MemoryDevice, Zeroing};
use tokio::sync::Semaphore;

use crate::setup::soon;

/// A disk in memory with faults.
pub(crate) struct TestDevice {
    pub(crate) disk: MemoryDevice,
    /// Nothing is answered at once; each operation takes a permit for a moment.
    pub(crate) gate: Option<Semaphore>,
    /// Operations that wait at the gate now.
    pub(crate) held: AtomicUsize,
    /// Ranges that touch it fail with EIO.
    pub(crate) bad: Range<u64>,
    pub(crate) flush_fails: AtomicBool,
    pub(crate) read_only: bool,
    pub(crate) fast_zero: bool,
    pub(crate) flushes: AtomicUsize,
    pub(crate) longest_write: AtomicUsize,
}

impl TestDevice {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            disk: MemoryDevice::new(size),
            gate: None,
            held: AtomicUsize::new(0),
            bad: 0..0,
            flush_fails: AtomicBool::new(false),
            read_only: false,
            fast_zero: false,
            flushes: AtomicUsize::new(0),
            longest_write: AtomicUsize::new(0),
        }
    }

    /// A device that answers nothing at once.
    pub(crate) fn waiting(size: u64) -> Self {
        Self {
            gate: Some(Semaphore::new(Semaphore::MAX_PERMITS)),
            ..Self::new(size)
        }
    }

    /// A device that answers nothing until its gate is opened.
    pub(crate) fn gated(size: u64) -> Self {
        Self {
            gate: Some(Semaphore::new(0)),
            ..Self::new(size)
        }
    }

    /// Lets all operations pass, those that wait and those that come, one by one.
    pub(crate) fn open_gate(&self) {
        self.gate.as_ref().expect("a gate").add_permits(1);
    }

    /// Waits until so many operations wait at the gate.
    pub(crate) async fn holds(&self, count: usize) {
        soon(async {
            while self.held.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn pass(&self) {
        if let Some(gate) = &self.gate {
            self.held.fetch_add(1, Ordering::SeqCst);
            let permit = gate.acquire().await.expect("the gate is never closed");
            self.held.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        }
    }

    fn check(&self, offset: u64, len: usize) -> DeviceResult<()> {
        if offset < self.bad.end && self.bad.start < offset + len as u64 {
            return Err(DeviceError::new(Errno::Io, "a planted fault"));
        }
        Ok(())
    }
}

impl BlockDevice for TestDevice {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn fast_zero(&self) -> bool {
        self.fast_zero
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        if self.gate.is_some() {
            return None;
        }
        if let Err(error) = self.check(offset, buf.len()) {
            return Some(Err(error));
        }
        self.disk.try_read(offset, buf)
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        self.longest_write.fetch_max(data.len(), Ordering::SeqCst);
        if self.gate.is_some() {
            return None;
        }
        if let Err(error) = self.check(offset, data.len()) {
            return Some(Err(error));
        }
        self.disk.try_write(offset, data)
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> DeviceResult<()> {
        self.pass().await;
        self.check(offset, buf.len())?;
        self.disk.read(offset, buf).await
    }

    async fn write(&self, offset: u64, data: &[u8]) -> DeviceResult<()> {
        self.pass().await;
        self.check(offset, data.len())?;
        self.disk.write(offset, data).await
    }

    async fn flush(&self) -> DeviceResult<()> {
        self.pass().await;
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if self.flush_fails.load(Ordering::SeqCst) {
            return Err(Errno::NoSpc.into());
        }
        Ok(())
    }

    async fn trim(&self, offset: u64, len: u64) -> DeviceResult<()> {
        self.pass().await;
        self.disk.trim(offset, len).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, zeroing: Zeroing) -> DeviceResult<()> {
        self.pass().await;
        assert!(
            self.fast_zero || !zeroing.fast,
            "FAST_ZERO reached a device without it"
        );
        self.disk.write_zeroes(offset, len, zeroing).await
    }

    async fn block_status(
        &self,
        offset: u64,
        len: u64,
        max_extents: usize,
    ) -> DeviceResult<Vec<Extent>> {
        self.pass().await;
        self.disk.block_status(offset, len, max_extents).await
    }
}
