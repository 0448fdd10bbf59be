//! A sparse disk in memory, for tests and examples.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::device::{BlockDevice, DeviceResult, Extent, Zeroing};

/// Unit of allocation in bytes.
const CHUNK_LEN: usize = 64 << 10;

/// Locks that the chunks are spread over.
const SHARDS: usize = 64;

/// Chunks that one block status looks at.
const STATUS_CHUNKS: usize = 1 << 16;

type Chunk = Box<[u8]>;

/// A sparse disk in memory: what was never written, or was trimmed, takes no space and reads as
/// zeroes. A write is atomic within each 64 KiB.
pub struct MemoryDevice {
    size: u64,
    shards: Vec<RwLock<HashMap<u64, Chunk>>>,
}

impl std::fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDevice")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The part of a range that lies in one chunk.
struct Part {
    chunk: u64,
    /// Where it begins in the chunk and in the range.
    at: usize,
    from: u64,
    len: usize,
}

/// The parts of a range, in order.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = Part> {
    let chunk_len = CHUNK_LEN as u64;
    let mut from = 0;
    std::iter::from_fn(move || {
        if from >= len {
            return None;
        }
        let position = offset + from;
        let at = position % chunk_len;
        let part = (chunk_len - at).min(len - from);
        let found = Part {
            chunk: position / chunk_len,
            at: usize::try_from(at).ok()?,
            from,
            len: usize::try_from(part).ok()?,
        };
        from += part;
        Some(found)
    })
}

impl MemoryDevice {
    /// An empty disk of this many bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    fn shard(&self, chunk: u64) -> &RwLock<HashMap<u64, Chunk>> {
        // The remainder is below the number of shards.
        &self.shards[usize::try_from(chunk % SHARDS as u64).unwrap_or(0)]
    }

    fn reading(&self, chunk: u64) -> RwLockReadGuard<'_, HashMap<u64, Chunk>> {
        let shard = self.shard(chunk).read();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self, chunk: u64) -> RwLockWriteGuard<'_, HashMap<u64, Chunk>> {
        let shard = self.shard(chunk).write();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, offset: u64, buf: &mut [u8]) {
        for part in parts(offset, buf.len() as u64) {
            let from = usize::try_from(part.from).unwrap_or(usize::MAX);
            let target = &mut buf[from..from + part.len];
            match self.reading(part.chunk).get(&part.chunk) {
                Some(chunk) => target.copy_from_slice(&chunk[part.at..part.at + part.len]),
                None => target.fill(0),
            }
        }
    }

    fn put(&self, offset: u64, data: &[u8]) {
        for part in parts(offset, data.len() as u64) {
            let from = usize::try_from(part.from).unwrap_or(usize::MAX);
            self.writing(part.chunk)
                .entry(part.chunk)
                .or_insert_with(|| vec![0; CHUNK_LEN].into())[part.at..part.at + part.len]
                .copy_from_slice(&data[from..from + part.len]);
        }
    }

    /// Zeroes a range, giving back the chunks that it covers. Looks at what is allocated and not
    /// at each chunk of the range, which may be huge.
    fn zero(&self, offset: u64, len: u64) {
        let chunk_len = CHUNK_LEN as u64;
        let (first, last) = (offset.div_ceil(chunk_len), (offset + len) / chunk_len);
        if first < last {
            for shard in &self.shards {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.retain(|chunk, _| !(first..last).contains(chunk));
            }
        }
        let head = (first * chunk_len).min(offset + len) - offset;
        let tail = (last * chunk_len).max(offset + head);
        for (offset, len) in [(offset, head), (tail, offset + len - tail)] {
            for part in parts(offset, len) {
                if let Some(chunk) = self.writing(part.chunk).get_mut(&part.chunk) {
                    chunk[part.at..part.at + part.len].fill(0);
                }
            }
        }
    }
}

impl BlockDevice for MemoryDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn fast_zero(&self) -> bool {
        true
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Option<DeviceResult<()>> {
        self.get(offset, buf);
        Some(Ok(()))
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Option<DeviceResult<()>> {
        self.put(offset, data);
        Some(Ok(()))
    }

    fn try_flush(&self) -> Option<DeviceResult<()>> {
        Some(Ok(()))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> impl Future<Output = DeviceResult<()>> + Send {
        self.get(offset, buf);
        ready(Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> impl Future<Output = DeviceResult<()>> + Send {
        self.put(offset, data);
        ready(Ok(()))
    }

    fn flush(&self) -> impl Future<Output = DeviceResult<()>> + Send {
        ready(Ok(()))
    }

    fn trim(&self, offset: u64, len: u64) -> impl Future<Output = DeviceResult<()>> + Send {
        self.zero(offset, len);
        ready(Ok(()))
    }

    async fn write_zeroes(&self, offset: u64, len: u64, zeroing: Zeroing) -> DeviceResult<()> {
        if zeroing.no_hole {
            // Space that has to stay allocated is written like any other.
            if zeroing.fast {
                return Err(crate::Errno::NotSup.into());
            }
            let zeroes = vec![0; CHUNK_LEN];
            for part in parts(offset, len) {
                self.put(offset + part.from, &zeroes[..part.len]);
            }
            return Ok(());
        }
        self.zero(offset, len);
        Ok(())
    }

    fn block_status(
        &self,
        offset: u64,
        len: u64,
        max_extents: usize,
    ) -> impl Future<Output = DeviceResult<Vec<Extent>>> + Send {
        let mut extents: Vec<Extent> = Vec::new();
        // A bound on the work of one request: the client asks again for the rest.
        for part in parts(offset, len).take(STATUS_CHUNKS) {
            let hole = !self.reading(part.chunk).contains_key(&part.chunk);
            let len = part.len as u64;
            let count = extents.len();
            match extents.last_mut() {
                Some(last) if last.hole == hole => last.len += len,
                _ if count == max_extents => break,
                _ => extents.push(Extent {
                    len,
                    hole,
                    zero: hole,
                }),
            }
        }
        ready(Ok(extents))
    }
}
