//! Every bound of the engine, with its unit and its reason.

use std::time::Duration;

use super::units::SECTOR_BYTES;

/// Largest write that is atomic across a crash, in bytes. Larger ones are split here: a batch must
/// have room for a whole entry, and a client that wants more atomicity than its disk promised has
/// no way to ask for it.
pub const ATOMIC_WRITE_BYTES_MAX: usize = 1 << 20;

/// Smallest volume, in bytes: one sector.
pub const VOLUME_BYTES_MIN: u64 = SECTOR_BYTES;

/// Largest volume, in bytes: 8 EiB less one sector would still fit the signed offsets of the C
/// functions, but entries hold 48-bit LBAs, so 64 PiB.
pub const VOLUME_BYTES_MAX: u64 = 1 << 56;

/// Smallest object, in bytes of its data area. Below [`ATOMIC_WRITE_BYTES_MAX`] a write is atomic
/// only up to the object size; objects so small are for tests, where everything is to fill up soon.
pub const OBJECT_BYTES_MIN: u64 = 16 << 10;

/// Largest object, in bytes of its data area: a batch is one piece of memory, and an upload that
/// fails is repeated whole.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Most PUTs under way at once.
pub const WINDOW_MAX: u32 = 64;

/// Buffers of a volume beyond its upload window: one that is open, one for the next batch while the
/// last writers of the one before are still copying, and two that wait for their turn, so that an
/// upload that ends finds the next at hand.
pub const SPARE_BUFFERS: u32 = 4;

/// How long a request to a store may take before it is given up. An upload is then repeated, and
/// is given twice as long each time, up to [`STORE_PATIENCE_MAX`]: a store that is slow but not gone
/// gets every object in the end, however large the object and however many share the line. What
/// fails otherwise is repeated in the same time: only when it is over do others learn of a hang.
pub const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// Longest time that an upload is given.
pub const STORE_PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Most requests to the store that one read has under way.
pub const READ_REQUESTS_MAX: usize = 64;

/// Most extents that one question about the allocation looks at; the answer ends there.
pub const ALLOCATION_EXTENTS_MAX: usize = 1 << 16;

/// Buffers that are made when a volume is opened, so that the first writes do not wait for memory:
/// one to be open and one to follow it.
pub const BUFFERS_AT_OPEN: u32 = 2;

/// First pause before a failed upload is tried again; it doubles up to the next.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause before a failed upload is tried again: a store that is back is used again soon,
/// and one that is gone is not bothered much.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
