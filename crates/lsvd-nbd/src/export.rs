//! An export: a device under a name, and what its clients are told of it.

use std::sync::Arc;

use crate::device::{BlockDevice, BlockSizes};
use crate::operation::AnyDevice;
use crate::wire::ReplyMode;
use crate::wire::constants::{
    FLAG_CAN_MULTI_CONN, FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_CACHE, FLAG_SEND_DF,
    FLAG_SEND_FAST_ZERO, FLAG_SEND_FLUSH, FLAG_SEND_FUA, FLAG_SEND_TRIM, FLAG_SEND_WRITE_ZEROES,
    STRING_LEN_MAX,
};

/// A device under a name. The name `""` is the default export.
#[derive(Clone)]
pub struct Export {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) device: Arc<dyn AnyDevice>,
    /// Rounded down to whole blocks: a client could not reach the rest.
    pub(crate) size: u64,
    pub(crate) block_sizes: BlockSizes,
    pub(crate) read_only: bool,
    pub(crate) fast_zero: bool,
    pub(crate) multi_conn: bool,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("name", &self.name)
            .field("description", &self.description)
            .field("size", &self.size)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// A device under a name.
    #[must_use]
    pub fn new<D: BlockDevice>(name: impl Into<String>, device: Arc<D>) -> Self {
        let block_sizes = device.block_sizes();
        Self {
            name: name.into(),
            description: String::new(),
            size: device.size() / u64::from(block_sizes.minimum.max(1))
                * u64::from(block_sizes.minimum),
            block_sizes,
            read_only: device.read_only(),
            fast_zero: device.fast_zero(),
            multi_conn: device.multi_conn(),
            device,
        }
    }

    /// A line for people, told to clients that ask.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Refuses changes, whatever the device would do.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// What is wrong with it, if something is.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let BlockSizes {
            minimum,
            preferred,
            maximum,
        } = self.block_sizes;
        if self.name.len() > STRING_LEN_MAX || self.description.len() > STRING_LEN_MAX {
            Some("its name or description is longer than 4096 bytes")
        } else if !minimum.is_power_of_two() || minimum > 64 << 10 {
            Some("its minimum block size is not a power of two up to 64 KiB")
        } else if !preferred.is_power_of_two() || preferred < minimum.max(512) {
            Some("its preferred block size is not a power of two of at least 512 and the minimum")
        } else if maximum % minimum != 0
            || maximum < preferred
            || !(1 << 20..=32 << 20).contains(&maximum)
        {
            Some("its maximum block size is not a multiple of the minimum from 1 to 32 MiB")
        } else {
            None
        }
    }

    /// The transmission flags for a connection in this mode.
    pub(crate) fn flags(&self, mode: ReplyMode) -> u16 {
        let mut flags = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH | FLAG_SEND_FUA | FLAG_SEND_CACHE;
        if self.read_only {
            flags |= FLAG_READ_ONLY;
        } else {
            flags |= FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES;
            if self.fast_zero {
                flags |= FLAG_SEND_FAST_ZERO;
            }
        }
        if mode > ReplyMode::Simple {
            flags |= FLAG_SEND_DF;
        }
        if self.multi_conn {
            flags |= FLAG_CAN_MULTI_CONN;
        }
        flags
    }
}
