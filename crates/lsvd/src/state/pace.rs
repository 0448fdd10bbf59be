//! How fast log and store take what is written, one beside the other.

use std::time::Duration;

use crate::sync::Mutex;

/// Bytes over which a rate is an average, roughly: some uploads at once, which may all end at the
/// same time.
const SPAN_BYTES: u64 = 128 << 20;

/// Least bytes of a write to the log that tell how fast it is; a smaller one tells how long a sync
/// takes.
const LOGGED_BYTES_MIN: u64 = 1 << 20;

/// How many times as fast as the store the log may be before the store counts as slow. Log and store
/// that share a disk are about equal; a store over a network is mostly far behind.
const RATIO_MAX: u128 = 3;

/// Whether the store keeps pace with the log. Where it does, writers that wait for memory get it
/// from uploads soon enough; where it does not, the log takes the batches out of memory.
#[derive(Debug, Default)]
pub struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    log: Rate,
    store: Rate,
    /// Bytes on the way to the store.
    under_way: u64,
    /// Until when the time of the store's work is counted, while anything is under way.
    counted: Duration,
}

/// Bytes of the recent past and the time that they took.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    bytes: u64,
    time: Duration,
}

impl Rate {
    fn add(&mut self, bytes: u64, time: Duration) {
        self.bytes += bytes;
        self.time += time;
    }

    /// Lets the past count for less. Not between a time and the bytes that came of it: they would
    /// weigh more than the time.
    fn fade(&mut self) {
        while self.bytes > SPAN_BYTES {
            self.bytes /= 2;
            self.time /= 2;
        }
    }
}

impl Pace {
    /// The log took so long for so many bytes.
    pub fn logged(&self, bytes: u64, time: Duration) {
        if bytes >= LOGGED_BYTES_MIN {
            let mut state = self.0.lock();
            state.log.fade();
            state.log.add(bytes, time);
        }
    }

    /// An upload of so many bytes begins.
    pub fn upload_begins(&self, bytes: u64, now: Duration) {
        let mut state = self.0.lock();
        state.count(now);
        state.under_way += bytes;
    }

    /// An upload of so many bytes was answered.
    pub fn upload_ends(&self, bytes: u64, now: Duration) {
        let mut state = self.0.lock();
        state.count(now);
        state.under_way = state.under_way.saturating_sub(bytes);
        state.store.add(bytes, Duration::ZERO);
    }

    /// Whether the store takes bytes at least a third as fast as the log does, as far as that is
    /// known. Of a store that has answered nothing yet the best is assumed: that it is about to take
    /// all that is under way.
    #[must_use]
    pub fn store_keeps_up(&self, now: Duration) -> bool {
        let mut state = self.0.lock();
        state.count(now);
        let (log, store) = (state.log, state.store);
        if log.bytes == 0 {
            return false;
        }
        let stored = if store.bytes == 0 {
            state.under_way
        } else {
            store.bytes
        };
        store.time.as_nanos() * u128::from(log.bytes)
            <= log.time.as_nanos() * u128::from(stored) * RATIO_MAX
    }
}

impl State {
    /// Counts the time up to `now`, if the store had anything to do.
    fn count(&mut self, now: Duration) {
        if self.under_way > 0 {
            let time = now.saturating_sub(self.counted);
            if !time.is_zero() {
                self.store.fade();
                self.store.add(0, time);
            }
        }
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u64 = 8 << 20;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A log that takes a batch in 10 ms.
    fn pace() -> Pace {
        let pace = Pace::default();
        for _ in 0..32 {
            pace.logged(BATCH, ms(10));
        }
        pace
    }

    /// Uploads of `at_once` batches, again and again, each taking `time`; gives the end.
    fn upload(pace: &Pace, at_once: u64, time: u64, times: u64) -> Duration {
        for time_before in (0..times).map(|number| number * time) {
            (0..at_once).for_each(|_| pace.upload_begins(BATCH, ms(time_before)));
            (0..at_once).for_each(|_| pace.upload_ends(BATCH, ms(time_before + time)));
        }
        ms(times * time)
    }

    #[test]
    fn what_counts_is_the_rate_of_all_uploads_together() {
        for (time, keeps_up) in [(80, true), (200, true), (280, false), (1280, false)] {
            let pace = pace();
            let now = upload(&pace, 8, time, 20);
            assert_eq!(pace.store_keeps_up(now), keeps_up, "8 in {time} ms");
        }
    }

    #[test]
    fn a_store_that_hangs_does_not_keep_up_any_more() {
        let pace = pace();
        let now = upload(&pace, 8, 80, 20);
        pace.upload_begins(BATCH, now);
        assert!(pace.store_keeps_up(now + ms(50)));
        assert!(!pace.store_keeps_up(now + ms(1000)));
    }

    #[test]
    fn idle_time_says_nothing_about_a_store() {
        let pace = pace();
        let now = upload(&pace, 8, 80, 20);
        assert!(pace.store_keeps_up(now + ms(3_600_000)));
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_is_known_of_the_log() {
        let pace = Pace::default();
        pace.logged(4096, ms(1));
        let now = upload(&pace, 8, 80, 20);
        assert!(!pace.store_keeps_up(now));
    }

    #[test]
    fn an_unknown_store_gets_the_time_that_its_first_uploads_may_take() {
        let pace = pace();
        (0..8).for_each(|_| pace.upload_begins(BATCH, ms(0)));
        assert!(pace.store_keeps_up(ms(200)));
        assert!(!pace.store_keeps_up(ms(300)));
    }
}
