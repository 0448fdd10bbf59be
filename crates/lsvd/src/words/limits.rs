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

/// Longest time that an upload is given, or what an opening reads of a checkpoint, which was one.
pub const STORE_PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Most requests to the store that one read has under way.
pub const READ_REQUESTS_MAX: usize = 64;

/// Most headers that an inspection of a volume reads at once.
pub const INSPECTED_AT_ONCE: usize = 16;

/// Most objects that the removal of a volume removes at once.
pub const DELETES_AT_ONCE: usize = 16;

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

/// A writer with unpersisted writes makes sure at least so often that nobody took over, and answers
/// a flush only where it did.
pub const FENCE_CHECK_MAX: Duration = Duration::from_secs(10);

/// Fewest segments of a write log: one for the open batch, one for the next while the first waits
/// for its upload, and as many again so that neither waits for the other.
pub const LOG_SEGMENTS_MIN: u32 = 4;

/// How long after a record the log waits for the next before it writes a mark of what is durable.
/// Each record carries the mark of those before it; only the last needs one of its own.
pub const LOG_MARK_DELAY: Duration = Duration::from_millis(10);

/// Sealed batches that wait for their upload in memory when they are in the log already and the store
/// is slow. More would only spare the log's disk some reads.
pub const WAITING_IN_MEMORY_MAX: usize = 2;

/// Batches in the log alone that may be uploaded before others that wait in memory. Behind more of
/// them memory would be of no use for too long, however fast the store.
pub const WAITING_IN_LOG_MAX: usize = 8;

/// How often it is looked at whether the store is still fast enough for more than
/// [`WAITING_IN_MEMORY_MAX`] batches to wait in memory.
pub const WAITING_IN_MEMORY_CHECK: Duration = Duration::from_millis(20);

/// How long a flush waits for a look at whether another writer took over, before the store counts as
/// out of reach.
pub const FENCE_CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// Longest time that a look in the background is given. It begins with [`STORE_PATIENCE`] and doubles
/// where that was too short: nothing is persisted without it, so a store that is slow must do. The
/// answer is small, so there is no reason to wait for it for as long as for an upload.
pub const FENCE_CHECK_PATIENCE_MAX: Duration = Duration::from_secs(600);

/// How long a writer waits after a look that the store did not answer before it looks again.
pub const FENCE_CHECK_PAUSE: Duration = Duration::from_secs(1);

/// Most batches that are read back from the log for upload at once, each with memory of its own.
pub const RESTORE_BUFFERS_MAX: u32 = 4;

/// How often an opening for reading begins anew because the writer has removed what it began from: each
/// time the writer made two checkpoints meanwhile, so one that never gets through is hopelessly slow.
pub const READ_ONLY_ATTEMPTS_MAX: u32 = 10;

/// Most data objects that an opening rolls forward, unless it was asked otherwise; a checkpoint is
/// due before there are so many, as others are stored while it is made.
pub const ROLL_FORWARD_OBJECTS_MAX: u32 = 2_000;

/// Openings behind the newest checkpoint, each with objects, that make the next one due however few
/// the objects are: the superblock lists them all.
pub const EPOCHS_BEHIND_MAX: usize = 64;

/// Epochs with objects that a superblock lists although both its checkpoints are behind them: from the
/// first one on the whole stream can be read where both are damaged. A row takes some 30 bytes.
pub const EPOCHS_KEPT_MAX: usize = 2_000;

/// Epochs with objects at which a volume is not opened for writing any more, far below what a
/// superblock has room for: a removal, and what the last writer has still to say, always fit.
pub const EPOCHS_LISTED_MAX: usize = 16_384;

/// Epochs that are left when openings begin to warn of their end.
pub const EPOCHS_LEFT_WARNED: u32 = 1 << 20;

/// Data that is worth a checkpoint, as a multiple of the checkpoint's size.
pub const CHECKPOINT_DATA_RATIO: u64 = 100;

/// Fewest data objects that are worth a checkpoint, whatever their size and its.
pub const CHECKPOINT_OBJECTS_MIN: u64 = 64;

/// How long writers that wait for the walk of a cut wait for the store that it waits for: then the
/// cut is given up, and the checkpoint begun again later.
pub const CUT_STALL_MAX: Duration = Duration::from_secs(10);

/// Smallest and largest payload of a checkpoint object at which the next one is begun, in bytes.
pub const CHECKPOINT_PART_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// Most older checkpoint objects that a checkpoint names, where it is not larger than so many of
/// them: what an opening has to read lies in few places, and what is not needed is soon removed.
pub const CHECKPOINT_REFERENCES_MAX: usize = 16;

/// Requests that the loading of a checkpoint has under way.
pub const CHECKPOINT_REQUESTS_MAX: usize = 8;

/// Bytes of a checkpoint that one request asks for.
pub const CHECKPOINT_REQUEST_BYTES: u64 = 8 << 20;
