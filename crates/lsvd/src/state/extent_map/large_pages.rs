//! The memory of the map's arrays, in large pages where the system has them.
//!
//! A look into a large map misses the processor's translation of addresses as well as its cache,
//! and on a virtual machine the former costs more than the latter. The system gives out large pages
//! only to whoever asks for them, and only where a region is aligned and big; the general allocator
//! does neither. So the arrays come from regions of their own.
//!
//! Regions belong to the process and are shared by all its maps. What a map frees, the next one
//! uses; regions are not given back to the system. This takes `unsafe`, which is confined to this
//! file.
#![expect(
    unsafe_code,
    reason = "an allocator hands out raw memory; each block says why it is sound"
)]

use std::alloc::{Layout, alloc};
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use parking_lot::Mutex;
use rlsf::Tlsf;
use rustix::mm::{Advice, madvise};

/// Bytes of a region, which is far more than the largest array. What was never touched takes no
/// memory.
const REGION_BYTES: usize = 16 << 20;

/// Alignment of a region: the size of a large page on the machines that matter.
const REGION_ALIGN: usize = 2 << 20;

/// Free memory by size, found in constant time: 20 powers of two from 32 bytes, each in 32 parts.
type Pool = Tlsf<'static, u32, u32, 20, 32>;

/// A thread holds it for well under a microsecond, once in many inserts, or for the time of making
/// a region, once in a million; so it does not take part in the order of locks.
static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// A list in large pages, as long as it is made.
pub(super) type List<T> = Box<[T], LargePages>;

/// Makes a list.
pub(super) fn list<T>(items: impl Iterator<Item = T>) -> List<T> {
    let mut list = Vec::new_in(LargePages);
    list.reserve_exact(items.size_hint().0);
    list.extend(items);
    list.into_boxed_slice()
}

/// Allocates from the regions of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LargePages;

// SAFETY: blocks come from regions that are never freed, and stay valid until they are given back;
// all values of this type, which has no content, are the same allocator.
unsafe impl Allocator for LargePages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let aligned =
                NonNull::without_provenance(layout.align().try_into().map_err(|_| AllocError)?);
            return Ok(NonNull::slice_from_raw_parts(aligned, 0));
        }
        let mut pool = POOL.lock();
        let block = pool.allocate(layout).or_else(|| {
            add_region(&mut pool);
            pool.allocate(layout)
        });
        let block = block.ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller got the block from `allocate` with this layout, and the pool with
            // the same alignment.
            unsafe { POOL.lock().deallocate(block, layout.align()) };
        }
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promises are those that `resize` asks for.
        unsafe { self.resize(block, old, new) }
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promises are those that `resize` asks for.
        unsafe { self.resize(block, old, new) }
    }
}

impl LargePages {
    /// Makes a block larger or smaller, in its place where that goes.
    ///
    /// # Safety
    /// The block was allocated here with layout `old`.
    unsafe fn resize(
        self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() != 0 && new.size() != 0 && old.align() == new.align() {
            // SAFETY: the caller got the block from the pool with this alignment.
            let resized = unsafe { POOL.lock().reallocate(block, new) };
            if let Some(resized) = resized {
                return Ok(NonNull::slice_from_raw_parts(resized, new.size()));
            }
        }
        let target = self.allocate(new)?;
        let bytes = old.size().min(new.size());
        // SAFETY: both blocks have at least so many bytes, and they are different ones.
        unsafe { block.copy_to_nonoverlapping(target.cast(), bytes) };
        // SAFETY: the caller gives the old block up.
        unsafe { self.deallocate(block, old) };
        Ok(target)
    }
}

/// Gives the pool one more region. Without memory it does nothing.
fn add_region(pool: &mut Pool) {
    let Ok(layout) = Layout::from_size_align(REGION_BYTES, REGION_ALIGN) else {
        return;
    };
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc(layout) };
    let Some(start) = NonNull::new(start) else {
        return;
    };
    // SAFETY: the range is ours, and the advice does not change what is in it. Where the system
    // has no large pages, or does not give them, small ones serve; that is slower and no error.
    let _ = unsafe { madvise(start.as_ptr().cast(), REGION_BYTES, Advice::LinuxHugepage) };
    let region = NonNull::slice_from_raw_parts(start, REGION_BYTES);
    // SAFETY: the region is ours alone, and it is never freed.
    let _ = unsafe { pool.insert_free_block_ptr(region) };
}
