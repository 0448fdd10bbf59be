//! Clients of an open volume, who write down what they send and what is answered, and check all that
//! they read.

use std::sync::Arc;
use std::time::Duration;

use lsvd::{ErrorKind, Volume};
use parking_lot::Mutex;

use super::Counts;
use super::standing::{Instant, Standing};
use crate::cloud;
use crate::executor::Executor;
use crate::history::{Durable, History, Line, Moment, SECTOR, stamp};
use crate::random::Random;

/// Of a hundred requests, those before which the engine is asked whether it is consistent.
const CHECKED: u64 = 2;

/// Of a hundred clients, those that pause once for so long that a writer which was taken over must
/// have noticed.
const PATIENT: u64 = 15;

/// What a client has to do with.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) executor: Executor,
    pub(super) volume: Volume,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) wrong: Arc<Mutex<Option<String>>>,
    pub(super) counts: Arc<Mutex<Counts>>,
    /// Its writer's line of history.
    pub(super) line: Line,
    pub(super) standing: Standing,
    /// Its way to the store.
    pub(super) store: cloud::Line,
    /// What a flush means here.
    pub(super) durable: Durable,
    /// Whether an answered write is durable.
    pub(super) writes_through: bool,
    pub(super) sectors: u64,
    /// Sectors of the largest write that is one to a crash.
    pub(super) largest: u64,
    /// Whether reads of the store may end too early, which looks like damage.
    pub(super) is_cut_short: bool,
}

impl Client {
    /// One request at a time, of which so many in a hundred are flushes.
    pub(super) async fn work(self, mut random: Random, requests: u64, flushing: u64) {
        let pauses = random.chance(PATIENT).then(|| random.below(requests + 1));
        for request in 0..requests {
            if pauses == Some(request) {
                let pause = Duration::from_millis(5_000 + random.below(15_000));
                self.executor.sleep(pause).await;
            }
            self.counts.lock().operations += 1;
            if random.chance(CHECKED) {
                self.counts.lock().self_checks += 1;
                let checked = self.volume.self_check();
                self.note(checked.map_err(|what| format!("the engine is inconsistent: {what}")));
            }
            let largest = if random.chance(12) { self.largest } else { 8 };
            let sectors = 1 + random.below(largest);
            // Half of it where the others are.
            let start = if random.chance(50) {
                random.below(64)
            } else {
                random.below(self.sectors - sectors)
            };
            if random.chance(flushing) {
                self.flush().await;
                continue;
            }
            match random.below(12) {
                1 => self.clear(start, sectors, random.chance(50)).await,
                2 | 3 => self.read(start, sectors).await,
                4 if random.chance(50) => {
                    let pause = Duration::from_micros(random.below(30_000));
                    self.executor.sleep(pause).await;
                }
                // As the server does it where a write is to be durable when it is answered.
                5 if random.chance(30) => {
                    if self.write(start, sectors).await {
                        self.flush().await;
                    }
                }
                _ => drop(self.write(start, sectors).await),
            }
        }
    }

    /// All that was answered before `asked` is in the store, as a checkpoint or a close says.
    pub(super) fn note_stored(&self, asked: Moment) {
        let flushed = self
            .history
            .lock()
            .flushed(self.line, asked, Durable::InStore);
        self.note(flushed);
    }

    pub(super) async fn flush(&self) {
        let sent = self.now();
        if self.volume.flush_async().await.is_err() {
            return;
        }
        let mut history = self.history.lock();
        let looks = self.store.mood().answers_reads() && self.standing.must_look(sent.time);
        if looks && history.lacks(self.line, sent.moment) {
            self.note(Err(
                "a writer that was taken over long ago answers a flush of what nobody will ever read"
                    .to_owned(),
            ));
        }
        let flushed = history.flushed(self.line, sent.moment, self.durable);
        drop(history);
        self.note(flushed);
    }

    fn now(&self) -> Instant {
        Instant::now(&self.executor, &self.history)
    }

    /// What was sent then has succeeded: this writer must not have known by then that it was taken over.
    fn check_ignorance(&self, sent: Duration, what: &str) {
        let Some(moment) = self.standing.must_know(sent) else {
            return;
        };
        if self.store.mood().answers_reads() && self.history.lock().lacks(self.line, moment) {
            self.note(Err(format!(
                "a writer that was taken over long ago goes on to answer a {what}"
            )));
        }
    }

    /// Whether it was answered.
    pub(super) async fn write(&self, start: u64, sectors: u64) -> bool {
        let sent = self.executor.now();
        let serial = self.history.lock().send(self.line, start, sectors, true);
        let data: Vec<u8> = (start..start + sectors)
            .flat_map(|lba| stamp(serial, lba))
            .collect();
        let written = self.volume.write_async(start * SECTOR as u64, &data).await;
        self.answer(serial, written.is_ok());
        if written.is_ok() {
            self.check_ignorance(sent, "write");
        }
        written.is_ok()
    }

    fn answer(&self, serial: u64, succeeded: bool) {
        let mut history = self.history.lock();
        history.answer(serial, succeeded);
        if succeeded && self.writes_through {
            history.logged(serial);
        }
    }

    async fn clear(&self, start: u64, sectors: u64, discards: bool) {
        let serial = self.history.lock().send(self.line, start, sectors, false);
        let (at, len) = (start * SECTOR as u64, sectors * SECTOR as u64);
        let cleared = match discards {
            true => self.volume.discard_async(at, len).await,
            false => self.volume.write_zeroes_async(at, len).await,
        };
        self.answer(serial, cleared.is_ok());
    }

    async fn read(&self, start: u64, sectors: u64) {
        let sent = self.now();
        let mut found = vec![0xee; super::settings::index(sectors) * SECTOR];
        let read = self.volume.read_async(start * SECTOR as u64, &mut found);
        let read = read.await;
        if read.is_ok() {
            self.check_ignorance(sent.time, "read");
        }
        let history = self.history.lock();
        // What a writer still shows that was taken over is its own line's, and may be removed.
        if history.line() != self.line {
            return;
        }
        let checked = match read {
            Ok(()) => history.check_read(start, &found, sent.moment),
            Err(error) if error.kind() == ErrorKind::Damaged && !self.is_cut_short => {
                Err(format!("a read fails for good: {error}"))
            }
            Err(_) => Ok(()),
        };
        drop(history);
        self.note(checked);
    }

    fn note(&self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.wrong.lock().get_or_insert(what);
        }
    }
}
