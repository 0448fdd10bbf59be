//! What the server asks of a block device.
//!
//! Offsets and lengths are bytes. The server checks every request before the device sees it:
//! ranges are not empty, inside the size, multiples of the minimum block size, and reads and
//! writes are no longer than the maximum. A device that is read-only is never changed.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::future::ready;

use crate::Errno;

/// What a device's verb returns.
pub type DeviceResult<T> = Result<T, DeviceError>;

/// Why a device failed: the number for the client, and a line for people.
///
/// Clients with structured replies get the message too, so it holds nothing that a client must
/// not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    errno: Errno,
    message: Cow<'static, str>,
}

impl DeviceError {
    /// An error with its message.
    #[must_use]
    pub fn new(errno: Errno, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }

    /// The number for the client.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// The line for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.errno)
    }
}

impl std::error::Error for DeviceError {}

impl From<Errno> for DeviceError {
    fn from(errno: Errno) -> Self {
        Self::new(errno, errno.name())
    }
}

impl From<std::io::Error> for DeviceError {
    fn from(error: std::io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::Io, Errno::from_os);
        Self::new(errno, error.to_string())
    }
}

/// The block sizes that a device announces to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of it: a power of two up to 64 KiB.
    pub minimum: u32,
    /// Best size and alignment: a power of two, at least 512 and at least the minimum.
    pub preferred: u32,
    /// The longest read or write: a multiple of the minimum, at least 1 MiB and at most 32 MiB.
    pub maximum: u32,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self {
            minimum: 512,
            preferred: 4096,
            maximum: 32 << 20,
        }
    }
}

/// How a range is to be zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeroing {
    /// Space stays allocated: a later write there must not fail for want of space.
    pub no_hole: bool,
    /// Fail with [`Errno::NotSup`], having changed nothing, where it would be no faster than
    /// writing zeroes. Asked only of a device whose [`BlockDevice::fast_zero`] is true.
    pub fast: bool,
}

/// A run of bytes in one state, as `base:allocation` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, a multiple of the minimum block size.
    pub len: u64,
    /// Nothing is allocated here.
    pub hole: bool,
    /// It reads as zeroes.
    pub zero: bool,
}

/// A block device that any number of tasks use at once.
///
/// The futures of a connection run on the connection's one task: they may wait, but not block or
/// compute for long. They may be dropped before they complete when a connection dies; what they
/// had begun may then have happened or not.
pub trait BlockDevice: Send + Sync + 'static {
    /// Size in bytes. It does not change while the device is served.
    fn size(&self) -> u64;

    /// The block sizes to announce. They do not change while the device is served.
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes::default()
    }

    /// Whether changes are refused.
    fn read_only(&self) -> bool {
        false
    }

    /// Whether zeroing is always faster than writing zeroes, or says so when it is not.
    fn fast_zero(&self) -> bool {
        false
    }

    /// Whether a client may spread its requests over several connections: a write answered on
    /// one is seen by reads on all, and a flush on one covers what was answered on all.
    fn multi_conn(&self) -> bool {
        true
    }

    /// Reads at once or not at all: `None` says that it would have to wait. This is the hot
    /// path: `buf` is the place in the send buffer.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        let _ = (offset, buf);
        None
    }

    /// Writes at once or not at all: `None` says that it would have to wait and nothing was
    /// done. `data` is the place in the receive buffer.
    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        let _ = (offset, data);
        None
    }

    /// Flushes at once or not at all, for devices where that needs no waiting.
    fn try_flush(&self) -> Option<DeviceResult<()>> {
        None
    }

    /// Fills `buf` with what is at `offset`.
    fn read(&self, offset: u64, buf: &mut [u8]) -> impl Future<Output = DeviceResult<()>> + Send;

    /// Writes `data` at `offset`. Writes longer than 1 MiB arrive in pieces of 1 MiB.
    fn write(&self, offset: u64, data: &[u8]) -> impl Future<Output = DeviceResult<()>> + Send;

    /// Writes and makes this write durable. The default flushes the whole device.
    fn write_fua(&self, offset: u64, data: &[u8]) -> impl Future<Output = DeviceResult<()>> + Send {
        async move {
            self.write(offset, data).await?;
            self.flush().await
        }
    }

    /// Makes durable all changes that were answered before it was called.
    fn flush(&self) -> impl Future<Output = DeviceResult<()>> + Send;

    /// Says that the contents of the range are no longer needed. The range may be the whole
    /// device.
    fn trim(&self, offset: u64, len: u64) -> impl Future<Output = DeviceResult<()>> + Send;

    /// Makes the range read as zeroes. The range may be the whole device.
    fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        zeroing: Zeroing,
    ) -> impl Future<Output = DeviceResult<()>> + Send;

    /// Says that the range will be read soon.
    fn cache(&self, offset: u64, len: u64) -> impl Future<Output = DeviceResult<()>> + Send {
        let _ = (offset, len);
        ready(Ok(()))
    }

    /// The states of the bytes from `offset` on, ascending and without gaps: at least one
    /// extent, about `max_extents` of them at most; they may end before or after the range
    /// does. The default says that all is data.
    fn block_status(
        &self,
        offset: u64,
        len: u64,
        max_extents: usize,
    ) -> impl Future<Output = DeviceResult<Vec<Extent>>> + Send {
        let _ = (offset, max_extents);
        ready(Ok(vec![Extent {
            len,
            hole: false,
            zero: false,
        }]))
    }
}
