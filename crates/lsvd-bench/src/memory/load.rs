//! Random writes over NBD whose every word says which block it belongs to and which write of it.

use std::path::Path;

use lsvd_nbd::client::{Client as NbdClient, ClientError, ClientOptions};
use tokio::runtime::{Builder, Runtime};

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Blocks that are read back at once.
const BLOCKS_IN_READ: u64 = 256;

/// How often each block was written.
#[derive(Debug)]
pub(super) struct Model {
    writes: Vec<u32>,
}

impl Model {
    pub(super) fn bytes_written(&self) -> u64 {
        let writes: u64 = self.writes.iter().map(|writes| u64::from(*writes)).sum();
        writes * BLOCK_BYTES as u64
    }
}

/// A connection to the server, with so many requests in flight.
#[derive(Debug)]
pub(super) struct Client {
    runtime: Runtime,
    connection: NbdClient,
    depth: u32,
}

fn failed(error: ClientError) -> String {
    format!("the server failed: {error}")
}

impl Client {
    pub(super) fn connect(socket: &Path, depth: u32) -> Result<Self, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start threads: {error}"))?;
        let connection = runtime
            .block_on(NbdClient::unix(socket, &ClientOptions::default()))
            .map_err(failed)?;
        Ok(Self {
            runtime,
            connection,
            depth: depth.max(1),
        })
    }

    /// Writes `count` blocks at random places of the first `blocks`, and flushes.
    pub(super) fn write(&self, blocks: u64, count: u64) -> Result<Model, String> {
        let lanes = u64::from(self.depth);
        let tasks: Vec<_> = (0..lanes)
            .map(|lane| {
                let share = count / lanes + u64::from(lane < count % lanes);
                let work = write_lane(self.connection.clone(), (lane, lanes), blocks, share);
                self.runtime.spawn(work)
            })
            .collect();
        let mut writes = vec![0; usize::try_from(blocks).map_err(|error| error.to_string())?];
        self.runtime.block_on(async {
            for (lane, task) in tasks.into_iter().enumerate() {
                let lane_writes = task.await.map_err(|error| error.to_string())?;
                let lane_writes = lane_writes.map_err(failed)?;
                let places = writes.iter_mut().skip(lane).step_by(self.depth as usize);
                for (place, count) in places.zip(lane_writes) {
                    *place = count;
                }
            }
            self.connection.flush().await.map_err(failed)
        })?;
        Ok(Model { writes })
    }

    /// Reads all of the model's blocks, and says what is wrong first, if anything is.
    pub(super) fn compare(&self, model: &Model) -> Result<Option<String>, String> {
        let blocks = model.writes.len() as u64;
        let mut expected = vec![0; BLOCK_BYTES];
        self.runtime.block_on(async {
            for first in (0..blocks).step_by(usize::try_from(BLOCKS_IN_READ).unwrap_or(1)) {
                let end = blocks.min(first + BLOCKS_IN_READ);
                let offset = first * BLOCK_BYTES as u64;
                let len = u32::try_from((end - first) * BLOCK_BYTES as u64).unwrap_or(u32::MAX);
                let data = self.connection.read(offset, len).await.map_err(failed)?;
                for (block, found) in (first..end).zip(data.chunks(BLOCK_BYTES)) {
                    let at = usize::try_from(block).unwrap_or(usize::MAX);
                    let write = model.writes.get(at).copied().unwrap_or(0);
                    stamp(block, write, &mut expected);
                    if found != expected {
                        return Ok(Some(format!("block {block} is not its write {write}")));
                    }
                }
            }
            Ok(None)
        })
    }
}

/// One request after the other, at the places of one lane, so that the last write of a block is the
/// one that was sent last. Gives how often each of its places was written.
async fn write_lane(
    connection: NbdClient,
    (lane, lanes): (u64, u64),
    blocks: u64,
    count: u64,
) -> Result<Vec<u32>, ClientError> {
    let places = usize::try_from((blocks - lane).div_ceil(lanes)).unwrap_or(0);
    let mut writes = vec![0; places];
    let mut random = fastrand::Rng::with_seed(lane);
    let mut data = vec![0; BLOCK_BYTES];
    for _ in 0..count {
        let place = random.usize(0..places);
        let block = place as u64 * lanes + lane;
        if let Some(writes) = writes.get_mut(place) {
            *writes += 1;
            stamp(block, *writes, &mut data);
        }
        connection.write(block * BLOCK_BYTES as u64, &data).await?;
    }
    Ok(writes)
}

/// What a write of a block looks like: every word of it differs from that of any other. A block
/// that was never written is all zeroes.
fn stamp(block: u64, write: u32, data: &mut [u8]) {
    if write == 0 {
        data.fill(0);
        return;
    }
    // Odd, so that multiplying by it loses nothing.
    let factor = (block << 32 | u64::from(write)) << 1 | 1;
    for (number, word) in (1_u64..).zip(data.chunks_mut(8)) {
        let value = factor.wrapping_mul(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_writes_look_alike_anywhere() {
        let mut of = vec![0; BLOCK_BYTES];
        let mut other = vec![0; BLOCK_BYTES];
        for (a, b) in [((0, 1), (0, 2)), ((0, 1), (1, 1)), ((7, 0), (7, 1))] {
            stamp(a.0, a.1, &mut of);
            stamp(b.0, b.1, &mut other);
            let same = of.chunks(8).zip(other.chunks(8)).any(|(a, b)| a == b);
            assert!(!same, "{a:?} and {b:?}");
        }
    }
}
