//! An NBD server (and small client) over any block device.
//!
#![doc = include_str!("../README.md")]

pub mod client;
mod device;
mod errno;
mod export;
mod handshake;
mod limits;
mod listener;
mod memory;
mod operation;
mod pool;
mod server;
mod session;
mod shutdown;
mod socket_file;
pub mod wire;

pub use device::{BlockDevice, BlockSizes, DeviceError, DeviceResult, Extent, Zeroing};
pub use errno::Errno;
pub use export::Export;
pub use limits::Limits;
pub use listener::Listener;
pub use memory::MemoryDevice;
pub use server::{ConfigError, Drained, Server};
pub use session::SessionError;
