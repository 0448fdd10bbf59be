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

/// Size of a large page on the machines that matter, and of what the pool is given at a time.
const PAGE_BYTES: usize = 2 << 20;

/// Bytes of a region. What was never touched takes no memory.
const REGION: Layout = match Layout::from_size_align(16 << 20, PAGE_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a region is a whole number of pages"),
};

/// Largest block, in bytes; a page has room for it beside what the pool needs for itself.
pub(super) const BLOCK_BYTES_MAX: usize = 1 << 20;

/// What the pool needs of each block for itself, and what it rounds blocks up to.
const BLOCK_OVERHEAD: usize = 16;
const BLOCK_ROUNDING: usize = rlsf::GRANULARITY;

/// Free memory by size, found in constant time: 20 powers of two from 32 bytes, each in 32 parts.
type Pool = Tlsf<'static, u32, u32, 20, 32>;

/// Held for well under a microsecond; nothing is copied or waited for and no other lock taken
/// meanwhile. So it does not take part in the order of locks, nor, as one of the process and
/// not of a map, in the model checker's schedules.
static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// The pages that the pool has not got yet. Held while a page is touched for the first time, which
/// the system uses to clear it; only who finds the pool empty waits for that.
static PAGES: Mutex<Pages> = Mutex::new(Pages(None));

/// The rest of the newest region.
struct Pages(Option<Rest>);

struct Rest {
    next: NonNull<u8>,
    pages: usize,
}

// SAFETY: the memory belongs to nobody else until a page of it is handed out.
unsafe impl Send for Pages {}

/// A list in large pages, as long as it is made.
pub(super) type List<T> = Box<[T], LargePages>;

/// Makes a list.
pub(super) fn list<T>(items: impl Iterator<Item = T>) -> List<T> {
    let mut list = Vec::new_in(LargePages);
    list.reserve_exact(items.size_hint().0);
    list.extend(items);
    list.into_boxed_slice()
}

/// What a block of `bytes` bytes takes of the pool.
pub(super) const fn block_bytes(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    (bytes + BLOCK_OVERHEAD).next_multiple_of(BLOCK_ROUNDING)
}

/// The bytes that may as well be used where `bytes` are needed: they cost the same.
pub(super) const fn usable_bytes(bytes: usize) -> usize {
    block_bytes(bytes) - BLOCK_OVERHEAD
}

/// Allocates from the regions of this process.
#[derive(Clone, Copy, Debug)]
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
        if layout.size() > BLOCK_BYTES_MAX {
            return Err(AllocError);
        }
        loop {
            let block = POOL.lock().allocate(layout);
            if let Some(block) = block {
                return Ok(NonNull::slice_from_raw_parts(block, layout.size()));
            }
            add_page()?;
        }
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller got the block from `allocate` with this layout, and the pool with
            // the same alignment.
            unsafe { POOL.lock().deallocate(block, layout.align()) };
        }
    }
}

/// Gives the pool one more page.
fn add_page() -> Result<(), AllocError> {
    let mut pages = PAGES.lock();
    let page = pages.take()?;
    // SAFETY: the page is ours alone. Touched here, it is not touched first under the pool's lock.
    unsafe { page.write_volatile(0) };
    let page = NonNull::slice_from_raw_parts(page, PAGE_BYTES);
    // SAFETY: the page is ours alone, and its region is never freed.
    let inserted = unsafe { POOL.lock().insert_free_block_ptr(page) };
    inserted.map(|_| ()).ok_or(AllocError)
}

impl Pages {
    /// The next page; of a new region where the last one is used up.
    fn take(&mut self) -> Result<NonNull<u8>, AllocError> {
        let rest = match self.0.take() {
            Some(rest) => rest,
            None => Rest {
                next: region()?,
                pages: REGION.size() / PAGE_BYTES,
            },
        };
        let page = rest.next;
        if rest.pages > 1 {
            // SAFETY: there is one more page behind this one.
            let next = unsafe { page.add(PAGE_BYTES) };
            self.0 = Some(Rest {
                next,
                pages: rest.pages - 1,
            });
        }
        Ok(page)
    }
}

fn region() -> Result<NonNull<u8>, AllocError> {
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc(REGION) };
    let start = NonNull::new(start).ok_or(AllocError)?;
    // SAFETY: the range is ours, and the advice does not change what is in it. Where the system
    // has no large pages, or does not give them, small ones serve; that is slower and no error.
    let _ = unsafe { madvise(start.as_ptr().cast(), REGION.size(), Advice::LinuxHugepage) };
    Ok(start)
}
