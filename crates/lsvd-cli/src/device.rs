//! A volume as the NBD server wants it.

use std::ops::Range;

use lsvd::Volume;
use lsvd_nbd::{BlockDevice, DeviceError, DeviceResult, Errno, Extent, Zeroing};

/// A volume that is served.
#[derive(Debug)]
pub(crate) struct VolumeDevice(pub(crate) Volume);

fn answer<T>(result: lsvd::Result<T>) -> DeviceResult<T> {
    result.map_err(|error| DeviceError::new(Errno::from_os(error.errno()), error.to_string()))
}

impl BlockDevice for VolumeDevice {
    fn size(&self) -> u64 {
        self.0.size()
    }

    /// Zeroing is an entry in the log of writes, whatever its length.
    fn fast_zero(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        self.0.try_read(offset, buf).map(answer)
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        self.0.try_write(offset, data).map(answer)
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> DeviceResult<()> {
        answer(self.0.read_async(offset, buf).await)
    }

    async fn write(&self, offset: u64, data: &[u8]) -> DeviceResult<()> {
        answer(self.0.write_async(offset, data).await)
    }

    async fn flush(&self) -> DeviceResult<()> {
        answer(self.0.flush_async().await)
    }

    async fn trim(&self, offset: u64, len: u64) -> DeviceResult<()> {
        answer(self.0.discard_async(offset, len).await)
    }

    /// There is no space that could stay allocated: a log writes nothing in place. What a client
    /// wants with `no_hole`, that a later write finds room, no log can promise.
    async fn write_zeroes(&self, offset: u64, len: u64, _zeroing: Zeroing) -> DeviceResult<()> {
        answer(self.0.write_zeroes_async(offset, len).await)
    }

    async fn block_status(
        &self,
        offset: u64,
        len: u64,
        max_extents: usize,
    ) -> DeviceResult<Vec<Extent>> {
        let runs = answer(self.0.allocation(offset, len, max_extents))?;
        Ok(runs.into_iter().map(extent).collect())
    }
}

/// What was never written, or given up, takes no space and reads as zeroes.
fn extent((run, written): (Range<u64>, bool)) -> Extent {
    Extent {
        len: run.end - run.start,
        hole: !written,
        zero: !written,
    }
}
