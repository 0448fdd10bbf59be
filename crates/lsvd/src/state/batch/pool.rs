//! The buffers of a volume: a fixed number of them, used again and again.

use std::fmt;
use std::ops::Deref;

use super::buffer::Buffer;
use crate::sync::{Arc, Mutex, Signal};
use crate::words::units::SECTOR;

/// Hands out at most `capacity` buffers at a time; that is what bounds the memory of a volume.
pub struct BufferPool {
    buffer_bytes: usize,
    state: Mutex<PoolState>,
    returned: Signal,
}

struct PoolState {
    idle: Vec<Buffer>,
    /// Buffers that may still be made.
    unmade: usize,
}

impl BufferPool {
    /// A pool of `capacity` buffers of `buffer_bytes` each, made when they are first needed.
    #[must_use]
    pub fn new(buffer_bytes: usize, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            buffer_bytes,
            state: Mutex::new(PoolState {
                idle: Vec::new(),
                unmade: capacity,
            }),
            returned: Signal::default(),
        })
    }

    /// Sectors that a buffer holds.
    #[must_use]
    pub fn buffer_sectors(&self) -> usize {
        self.buffer_bytes / SECTOR
    }

    /// Makes a buffer ahead, unless one is idle already or no more may be made. Touching all its
    /// memory takes milliseconds, which is not for under the locks that a writer holds.
    pub fn prepare(&self) {
        {
            let mut state = self.state.lock();
            if !state.idle.is_empty() || state.unmade == 0 {
                return;
            }
            state.unmade -= 1;
        }
        let buffer = Buffer::new(self.buffer_bytes);
        self.state.lock().idle.push(buffer);
        self.returned.notify();
    }

    /// A buffer, if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<PooledBuffer> {
        let idle = {
            let mut state = self.state.lock();
            let idle = state.idle.pop();
            if idle.is_none() {
                state.unmade = state.unmade.checked_sub(1)?;
            }
            idle
        };
        let buffer = idle.unwrap_or_else(|| Buffer::new(self.buffer_bytes));
        Some(PooledBuffer {
            buffer: Some(Arc::new(buffer)),
            pool: Arc::clone(self),
        })
    }

    /// Notified whenever a buffer comes back.
    #[must_use]
    pub fn returned(&self) -> &Signal {
        &self.returned
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("BufferPool")
            .field("idle", &state.idle.len())
            .field("unmade", &state.unmade)
            .finish_non_exhaustive()
    }
}

/// A buffer on loan; it goes back to its pool when this is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    /// Only `drop` takes it out.
    buffer: Option<Arc<Buffer>>,
    pool: Arc<BufferPool>,
}

impl Deref for PooledBuffer {
    type Target = Arc<Buffer>;

    fn deref(&self) -> &Arc<Buffer> {
        self.buffer.as_ref().expect("taken out by drop alone")
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let reusable = self
            .buffer
            .take()
            .and_then(|buffer| Arc::try_unwrap(buffer).ok());
        match reusable {
            Some(mut buffer) => {
                buffer.reset();
                self.pool.state.lock().idle.push(buffer);
            }
            // A region of it is still held by a writer that was stopped half way. The memory
            // goes when that region goes; the pool makes a new one in its place.
            None => self.pool.state.lock().unmade += 1,
        }
        self.pool.returned.notify();
    }
}
