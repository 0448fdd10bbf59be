//! Clients of an open volume, who write down what they send and what is answered.

use std::sync::{Arc, Mutex};

use lsvd::Volume;
use lsvd_sim::history::{Durable, Expect, History, Moment, SECTOR, stamp};
use lsvd_sim::random::Random;

use super::SECTORS;

/// A volume as long as it is open.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) seed: u64,
    pub(super) volume: Volume,
    pub(super) history: Arc<Mutex<History>>,
    /// What a flush means here.
    pub(super) durable: Durable,
}

impl Life {
    /// Compares all that is there with what may be.
    pub(super) async fn check(&self, expect: Expect) {
        let mut found = vec![0xee; usize::try_from(SECTORS).unwrap() * SECTOR];
        let read = self.volume.read_async(0, &mut found).await;
        read.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        let mut history = self.history.lock().unwrap();
        let (changes, required) = (history.len(), history.required(expect));
        let settled = history.settle(&found, expect);
        settled.unwrap_or_else(|why| {
            panic!(
                "seed {}: of {changes} changes, of which {required} must be there: {why}",
                self.seed
            )
        });
    }

    /// Whether the flush succeeded, which it need not.
    pub(super) async fn flush(&self) -> bool {
        let sent: Moment = self.history.lock().unwrap().tick();
        let flushed = self.volume.flush_async().await.is_ok();
        if flushed {
            let mut history = self.history.lock().unwrap();
            let line = history.line();
            history.flushed(line, sent, self.durable).unwrap();
        }
        flushed
    }

    /// One client's work, one request at a time, of which so many in a hundred are flushes.
    pub(super) async fn work(self, mut random: Random, flushing: u64) {
        for _ in 0..random.below(60) {
            let largest = if random.chance(12) { 64 } else { 8 };
            let sectors = 1 + random.below(largest);
            // Half of it where the others are.
            let start = if random.chance(50) {
                random.below(64)
            } else {
                random.below(SECTORS - sectors)
            };
            if random.chance(flushing) {
                self.flush().await;
                continue;
            }
            match random.below(12) {
                1 => self.clear(start, sectors, random.chance(50)).await,
                2 => {
                    let mut buffer = vec![0; usize::try_from(sectors).unwrap() * SECTOR];
                    let read = self.volume.read_async(start * SECTOR as u64, &mut buffer);
                    let read = read.await;
                    read.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
                }
                3 if random.chance(50) => tokio::task::yield_now().await,
                _ => self.write(start, sectors).await,
            }
        }
    }

    fn send(&self, start: u64, sectors: u64, is_write: bool) -> u64 {
        let mut history = self.history.lock().unwrap();
        let line = history.line();
        history.send(line, start, sectors, is_write)
    }

    async fn write(&self, start: u64, sectors: u64) {
        let serial = self.send(start, sectors, true);
        let data: Vec<u8> = (start..start + sectors)
            .flat_map(|lba| stamp(serial, lba))
            .collect();
        let written = self.volume.write_async(start * SECTOR as u64, &data).await;
        self.history.lock().unwrap().answer(serial, written.is_ok());
    }

    async fn clear(&self, start: u64, sectors: u64, discards: bool) {
        let serial = self.send(start, sectors, false);
        let (at, len) = (start * SECTOR as u64, sectors * SECTOR as u64);
        let cleared = match discards {
            true => self.volume.discard_async(at, len).await,
            false => self.volume.write_zeroes_async(at, len).await,
        };
        self.history.lock().unwrap().answer(serial, cleared.is_ok());
    }
}
