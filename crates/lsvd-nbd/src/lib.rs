//! An NBD server (and small client) over any block device.
//!
//! The server knows a [`BlockDevice`] and nothing of what is behind it.

mod device;
mod errno;

pub use device::{BlockDevice, BlockSizes, DeviceError, DeviceResult, Extent, Zeroing};
pub use errno::Errno;
