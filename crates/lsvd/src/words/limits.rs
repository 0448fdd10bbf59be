//! Every bound of the engine, with its unit and its reason.

use super::units::SECTOR_BYTES;

/// Largest write that is atomic across a crash, in bytes. Larger ones are split here: a batch must
/// have room for a whole entry, and a client that wants more atomicity than its disk promised has
/// no way to ask for it.
pub const ATOMIC_WRITE_BYTES_MAX: u64 = 1 << 20;

/// Smallest volume, in bytes: one sector.
pub const VOLUME_BYTES_MIN: u64 = SECTOR_BYTES;

/// Largest volume, in bytes: 8 EiB less one sector would still fit the signed offsets of the C
/// functions, but entries hold 48-bit LBAs, so 64 PiB.
pub const VOLUME_BYTES_MAX: u64 = 1 << 56;

/// Smallest object, in bytes of its data area: room for one atomic write.
pub const OBJECT_BYTES_MIN: u64 = ATOMIC_WRITE_BYTES_MAX;

/// Largest object, in bytes of its data area: a batch is one piece of memory, and an upload that
/// fails is repeated whole.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Most PUTs under way at once.
pub const WINDOW_MAX: u32 = 64;
