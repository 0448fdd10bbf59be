//! A request that has to wait, as a future that owns all it needs.
//!
//! [`AnyDevice`] is [`BlockDevice`] without its type, so that sessions are compiled once and one
//! server can have devices of several types.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::device::{BlockDevice, DeviceResult, Extent, Zeroing};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the device is to do, with the buffers it needs.
pub(crate) enum Operation {
    Read {
        offset: u64,
        buf: Vec<u8>,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
        fua: bool,
    },
    Flush,
    Trim {
        offset: u64,
        len: u64,
        fua: bool,
    },
    WriteZeroes {
        offset: u64,
        len: u64,
        zeroing: Zeroing,
        fua: bool,
    },
    Cache {
        offset: u64,
        len: u64,
    },
    BlockStatus {
        offset: u64,
        len: u64,
        max_extents: usize,
    },
}

/// What came of an operation.
pub(crate) enum Outcome {
    Nothing,
    Data(Vec<u8>),
    Extents(Vec<Extent>),
}

/// A block device of any type.
pub(crate) trait AnyDevice: Send + Sync {
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>>;
    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>>;
    fn try_flush(&self) -> Option<DeviceResult<()>>;
    fn start(self: Arc<Self>, operation: Operation) -> BoxFuture<DeviceResult<Outcome>>;
}

impl<D: BlockDevice> AnyDevice for D {
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        BlockDevice::try_read(self, offset, buf)
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        BlockDevice::try_write(self, offset, data)
    }

    fn try_flush(&self) -> Option<DeviceResult<()>> {
        BlockDevice::try_flush(self)
    }

    fn start(self: Arc<Self>, operation: Operation) -> BoxFuture<DeviceResult<Outcome>> {
        // One box per kind: a future as large as the largest would be moved for every flush.
        match operation {
            Operation::Read { offset, mut buf } => Box::pin(async move {
                self.read(offset, &mut buf).await?;
                Ok(Outcome::Data(buf))
            }),
            Operation::Write { offset, data, fua } => Box::pin(async move {
                if fua {
                    self.write_fua(offset, &data).await?;
                } else {
                    self.write(offset, &data).await?;
                }
                Ok(Outcome::Nothing)
            }),
            Operation::Flush => Box::pin(async move {
                self.flush().await?;
                Ok(Outcome::Nothing)
            }),
            Operation::Trim { offset, len, fua } => Box::pin(async move {
                self.trim(offset, len).await?;
                flush_if(self.as_ref(), fua).await
            }),
            Operation::WriteZeroes {
                offset,
                len,
                zeroing,
                fua,
            } => Box::pin(async move {
                self.write_zeroes(offset, len, zeroing).await?;
                flush_if(self.as_ref(), fua).await
            }),
            Operation::Cache { offset, len } => Box::pin(async move {
                self.cache(offset, len).await?;
                Ok(Outcome::Nothing)
            }),
            Operation::BlockStatus {
                offset,
                len,
                max_extents,
            } => Box::pin(async move {
                let extents = self.block_status(offset, len, max_extents).await?;
                Ok(Outcome::Extents(extents))
            }),
        }
    }
}

async fn flush_if<D: BlockDevice>(device: &D, fua: bool) -> DeviceResult<Outcome> {
    if fua {
        device.flush().await?;
    }
    Ok(Outcome::Nothing)
}
