//! Memory at an aligned address.

use std::ops::Range;

use bytes::Bytes;

/// Zeroed memory that starts at a multiple of its alignment.
#[derive(Debug)]
pub(super) struct AlignedBuffer {
    /// A little more than was asked for, so that an aligned part of that size is in it. Never grows,
    /// so it never moves. Made zeroed by the allocator, which costs nothing where memory is new.
    memory: Vec<u8>,
    /// The aligned part.
    used: Range<usize>,
}

impl AlignedBuffer {
    /// `len` bytes at a multiple of `alignment`, a power of two.
    pub(super) fn zeroed(len: usize, alignment: usize) -> Self {
        if len == 0 {
            // Most writes need no copy, and so no memory.
            return Self {
                memory: Vec::new(),
                used: 0..0,
            };
        }
        let memory = vec![0; len + alignment - 1];
        let start = memory.as_ptr().align_offset(alignment);
        Self {
            memory,
            used: start..start + len,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.used.clone()]
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.used.clone()]
    }

    /// The memory as it is, without a copy.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self.memory).slice(self.used)
    }
}
