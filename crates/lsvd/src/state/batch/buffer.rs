//! The memory of a batch: carved into regions, each filled once, readable where filled.
//!
//! Several threads fill disjoint regions at once while others read what is filled, without a lock
//! and without a copy. That takes `unsafe`, which is confined to this file; what makes it sound is
//! checked at run time: regions are handed out once, and a bit per sector says that its region was
//! filled before anyone may look at it.

#![expect(
    unsafe_code,
    reason = "one buffer, filled and read by many threads without a lock"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use crate::bytes::block::{self, BLOCK_BYTES};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::words::units::{DataOffset, SECTOR};

const SECTORS_PER_BLOCK: u32 = 8;
const _: () = assert!(SECTORS_PER_BLOCK as usize * SECTOR == BLOCK_BYTES);
const SECTORS_PER_WORD: u32 = u64::BITS;

/// Says that nothing is handed out any more; above every number of sectors.
const FROZEN: u32 = u32::MAX;

/// What is added to the checksum of a block whose content was lost; any value but 0 does.
const SPOILED: u32 = 0x5bad_5bad;

/// Alignment of the memory: that of pages, which is what direct I/O asks for at most.
const ALIGNMENT: usize = 4096;

/// A batch's data area and the checksums of its blocks.
pub struct Buffer {
    memory: NonNull<u8>,
    sectors: u32,
    /// Sectors handed out, or [`FROZEN`].
    carved: AtomicU32,
    /// Sectors in use, once the buffer is frozen.
    used: AtomicU32,
    /// A bit for every sector that was filled.
    filled: Box<[AtomicU64]>,
    /// Gathered checksum contributions of every block.
    sums: Box<[AtomicU32]>,
}

// SAFETY: `memory` is owned by the buffer alone. It is written only through a `Region`, which is
// unique for its sectors, and read only where `filled` says that the region is gone.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access never overlaps a write.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `bytes` bytes, a multiple of the block size, with all its pages present, so that
    /// no write has to wait for one.
    ///
    /// # Panics
    /// When `bytes` is no positive multiple of the block size or above 2^32 sectors.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
            "{bytes} bytes are no data area"
        );
        let sectors = u32::try_from(bytes / SECTOR).expect("a data area has below 2^32 sectors");
        let layout = Self::layout(sectors);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        let buffer = Self {
            memory,
            sectors,
            carved: AtomicU32::new(0),
            used: AtomicU32::new(0),
            filled: (0..sectors.div_ceil(SECTORS_PER_WORD))
                .map(|_| AtomicU64::new(0))
                .collect(),
            sums: (0..sectors / SECTORS_PER_BLOCK)
                .map(|_| AtomicU32::new(0))
                .collect(),
        };
        for page in (0..bytes).step_by(ALIGNMENT) {
            let first_byte = buffer.pointer(page);
            // SAFETY: inside the allocation, and nobody else knows of it yet. Volatile, because a
            // plain store of a zero into zeroed memory would be optimised away.
            unsafe { first_byte.write_volatile(0) };
        }
        buffer
    }

    fn layout(sectors: u32) -> Layout {
        Layout::from_size_align(sectors as usize * SECTOR, ALIGNMENT)
            .expect("an allocation far below the size of the address space")
    }

    fn pointer(&self, byte: usize) -> *mut u8 {
        debug_assert!(byte <= self.sectors as usize * SECTOR);
        // SAFETY: at most one past the end of the allocation.
        unsafe { self.memory.as_ptr().add(byte) }
    }

    /// Whether there is no sector left to hand out.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.carved.load(Ordering::Acquire) >= self.sectors
    }

    /// Hands out the next `sectors` sectors, or nothing where they do not fit any more.
    #[must_use]
    pub fn carve(self: &Arc<Self>, sectors: u32) -> Option<Region> {
        let fits = |carved: u32| {
            carved
                .checked_add(sectors)
                .filter(|end| *end <= self.sectors)
        };
        let start = self
            .carved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .ok()?;
        Some(Region {
            buffer: Arc::clone(self),
            start,
            sectors,
        })
    }

    /// Hands out nothing from now on, zeroes the rest of the last block in use, and says how many
    /// sectors are in use. A second time it changes nothing.
    pub fn freeze(self: &Arc<Self>) -> u32 {
        // `used` is there before anybody can see that it counts.
        let close = |carved: u32| {
            let open = carved != FROZEN;
            if open {
                self.used.store(carved, Ordering::Release);
            }
            open.then_some(FROZEN)
        };
        let Ok(used) = self
            .carved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, close)
        else {
            return self.used.load(Ordering::Acquire);
        };
        let padding = used.next_multiple_of(SECTORS_PER_BLOCK) - used;
        if padding > 0 {
            let tail = Region {
                buffer: Arc::clone(self),
                start: used,
                sectors: padding,
            };
            tail.fill(&[0; BLOCK_BYTES][..padding as usize * SECTOR]);
        }
        used
    }

    /// Copies filled sectors out.
    ///
    /// # Panics
    /// When a sector was not filled: a location that names it was published too early.
    pub fn read(&self, offset: DataOffset, out: &mut [u8]) {
        assert!(
            out.len().is_multiple_of(SECTOR),
            "a read of {} bytes",
            out.len()
        );
        let sectors = u32::try_from(out.len() / SECTOR).expect("a read inside a buffer");
        self.assert_filled(offset.0, sectors);
        let from = self.pointer(offset.0 as usize * SECTOR);
        // SAFETY: the sectors lie in the allocation (`assert_filled`), their writer is gone and
        // no other ever comes; `out` is exclusive and so no part of the buffer.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
    }

    /// Sectors in use: those handed out so far, or all there ever will be once it is frozen.
    #[must_use]
    pub fn used(&self) -> u32 {
        match self.carved.load(Ordering::Acquire) {
            FROZEN => self.used.load(Ordering::Acquire),
            carved => carved,
        }
    }

    /// Whether all of these sectors were filled.
    #[must_use]
    pub fn is_filled(&self, sectors: Range<u32>) -> bool {
        sectors.end <= self.sectors
            && words_of(sectors.start, sectors.end.saturating_sub(sectors.start)).all(
                |(word, mask)| {
                    let filled = self.filled.get(word);
                    filled.is_some_and(|bits| bits.load(Ordering::Acquire) & mask == mask)
                },
            )
    }

    /// Sectors that were filled.
    ///
    /// # Panics
    /// When one of them was not.
    #[must_use]
    pub fn filled_sectors(&self, sectors: Range<u32>) -> &[u8] {
        let count = sectors.end.saturating_sub(sectors.start);
        self.assert_filled(sectors.start, count);
        let first = self.pointer(sectors.start as usize * SECTOR);
        // SAFETY: inside the allocation and filled (`assert_filled`), so that their writer is gone
        // and no other ever comes while the buffer is shared.
        unsafe { std::slice::from_raw_parts(first, count as usize * SECTOR) }
    }

    /// What was gathered of a block's checksum so far.
    #[must_use]
    pub fn sum(&self, block: u32) -> Option<u32> {
        let sum = self.sums.get(block as usize)?;
        Some(sum.load(Ordering::Acquire))
    }

    /// Makes a block fail its checksum wherever the buffer goes: what should have been in it is
    /// lost, and nobody is to take what is there for it.
    pub fn spoil(&self, block: u32) {
        if let Some(sum) = self.sums.get(block as usize) {
            sum.fetch_xor(SPOILED, Ordering::AcqRel);
        }
    }

    /// The checksum of a block of a frozen buffer.
    #[must_use]
    pub fn checksum(&self, block: u32) -> Option<u32> {
        self.sum(block).map(block::checksum)
    }

    /// Makes the buffer as new; its old content stays, unreadable, until it is overwritten.
    pub fn reset(&mut self) {
        self.carved.store(0, Ordering::Release);
        self.used.store(0, Ordering::Release);
        for word in &self.filled {
            word.store(0, Ordering::Release);
        }
        for sum in &self.sums {
            sum.store(0, Ordering::Release);
        }
    }

    fn assert_filled(&self, start: u32, sectors: u32) {
        let end = start.checked_add(sectors);
        assert!(
            end.is_some_and(|end| end <= self.sectors),
            "sectors behind the end of a batch"
        );
        for (word, mask) in words_of(start, sectors) {
            let filled = self
                .filled
                .get(word)
                .map_or(0, |bits| bits.load(Ordering::Acquire));
            assert!(
                filled & mask == mask,
                "sectors {start}+{sectors} of a batch are not filled"
            );
        }
    }
}

/// The words of the bitmap that hold a run of sectors, each with a mask of its bits.
fn words_of(start: u32, sectors: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = start + sectors;
    let mut next = start;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let word = next / SECTORS_PER_WORD;
        let first = next % SECTORS_PER_WORD;
        let count = (SECTORS_PER_WORD - first).min(end - next);
        next += count;
        Some((
            word as usize,
            (u64::MAX >> (SECTORS_PER_WORD - count)) << first,
        ))
    })
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; nobody holds a reference any more.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.sectors)) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("sectors", &self.sectors)
            .field("carved", &self.carved.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// Sectors of a buffer that were handed out and are not filled yet; there is one such value for
/// them, ever.
#[derive(Debug)]
pub struct Region {
    buffer: Arc<Buffer>,
    start: u32,
    sectors: u32,
}

impl Region {
    /// Where it lies in the data area.
    #[must_use]
    pub fn offset(&self) -> DataOffset {
        DataOffset(self.start)
    }

    /// Copies `data` in, adds it to the checksums and makes it readable.
    ///
    /// # Panics
    /// When `data` has another length than the region.
    pub fn fill(self, data: &[u8]) {
        assert_eq!(
            data.len(),
            self.sectors as usize * SECTOR,
            "data of another length"
        );
        let mut data = data;
        let mut at = self.start as usize * SECTOR;
        // Block by block, so that the bytes are still in the processor's cache when the second of
        // the two passes, copy and checksum, comes to them.
        while !data.is_empty() {
            let in_block = at % BLOCK_BYTES;
            let (piece, rest) = data.split_at(data.len().min(BLOCK_BYTES - in_block));
            let to = self.buffer.pointer(at);
            // SAFETY: inside the allocation, in sectors that only this region may touch and that
            // nobody reads before their bits are set below.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len()) };
            let sum = block::contribution(in_block, piece);
            if let Some(sums) = self.buffer.sums.get(at / BLOCK_BYTES) {
                sums.fetch_xor(sum, Ordering::AcqRel);
            }
            at += piece.len();
            data = rest;
        }
        for (word, mask) in words_of(self.start, self.sectors) {
            if let Some(bits) = self.buffer.filled.get(word) {
                bits.fetch_or(mask, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_handed_out_once_and_in_order() {
        let buffer = Arc::new(Buffer::new(2 * BLOCK_BYTES));
        let first = buffer.carve(3).unwrap();
        let second = buffer.carve(13).unwrap();
        assert!(buffer.carve(1).is_none());
        assert_eq!(
            (first.offset(), second.offset()),
            (DataOffset(0), DataOffset(3))
        );
        second.fill(&[2; 13 * 512]);
        first.fill(&[1; 3 * 512]);
        let mut out = [0; 1024];
        buffer.read(DataOffset(2), &mut out);
        assert_eq!((out[0], out[512]), (1, 2));
        assert_eq!(buffer.freeze(), 16);
        let mut all = vec![1; 3 * 512];
        all.resize(16 * 512, 2);
        assert_eq!(buffer.filled_sectors(0..16), all);
        assert_eq!(
            buffer.checksum(0),
            Some(block::checksum_of(&all[..BLOCK_BYTES]))
        );
        assert_eq!(buffer.checksum(2), None);
    }

    #[test]
    #[should_panic(expected = "not filled")]
    fn what_is_not_filled_is_not_read() {
        let buffer = Arc::new(Buffer::new(BLOCK_BYTES));
        let _region = buffer.carve(2);
        buffer.read(DataOffset(0), &mut [0; 512]);
    }

    #[test]
    fn a_used_buffer_comes_back_as_new_and_its_padding_is_zero() {
        let mut buffer = Arc::new(Buffer::new(BLOCK_BYTES));
        buffer.carve(8).unwrap().fill(&[0xff; BLOCK_BYTES]);
        Arc::get_mut(&mut buffer).unwrap().reset();
        buffer.carve(1).unwrap().fill(&[7; 512]);
        assert_eq!(buffer.freeze(), 1);
        assert_eq!(buffer.freeze(), 1, "a second time changes nothing");
        let mut block = [0; BLOCK_BYTES];
        block[..512].fill(7);
        assert_eq!(buffer.filled_sectors(0..8), block);
        assert_eq!(buffer.checksum(0), Some(block::checksum_of(&block)));
        assert!(buffer.carve(1).is_none());
    }

    #[test]
    fn many_threads_fill_and_read_at_once() {
        let buffer = Arc::new(Buffer::new(64 * BLOCK_BYTES));
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let buffer = &buffer;
                scope.spawn(move || {
                    for sectors in (1..6).cycle() {
                        let Some(region) = buffer.carve(sectors) else {
                            break;
                        };
                        let offset = region.offset();
                        let data = vec![thread; sectors as usize * SECTOR];
                        region.fill(&data);
                        let mut out = vec![0; data.len()];
                        buffer.read(offset, &mut out);
                        assert_eq!(out, data);
                    }
                });
            }
        });
        buffer.freeze();
        let blocks = buffer.filled_sectors(0..64 * SECTORS_PER_BLOCK);
        for (number, block) in (0..).zip(blocks.chunks(BLOCK_BYTES)) {
            assert_eq!(
                buffer.checksum(number),
                Some(block::checksum_of(block)),
                "block {number}"
            );
        }
    }
}
