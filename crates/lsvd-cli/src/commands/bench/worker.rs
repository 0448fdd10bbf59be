//! The work of the benchmark's threads, and what they count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lsvd::Volume;
use lsvd::words::text::Size;

use super::{Arguments, Pattern};
use crate::failure::Failure;

/// Longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Random bytes that all threads write from: more than a processor's caches hold, as what clients
/// send would be.
const SOURCE_BYTES: usize = 64 << 20;

/// What all threads do, checked against the volume.
#[derive(Debug)]
pub(super) struct Plan {
    pattern: Pattern,
    request_bytes: usize,
    requests_in_volume: u64,
    threads: u16,
    runtime: Duration,
    requests_max: u64,
    /// Writes of a thread from one flush to the next.
    fsync: Option<u32>,
}

/// What was done, and how long it took.
#[derive(Debug)]
pub(super) struct Tally {
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// Nanoseconds of each request.
    pub(super) latencies: Histogram<u64>,
}

impl Plan {
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let Size(bytes) = arguments.bs;
        let Size(volume) = arguments.create;
        if bytes == 0 || bytes % 512 != 0 || bytes > 64 << 20 {
            return Err(Failure::usage(format!(
                "--bs {} is no request size: give a multiple of 512 up to 64M",
                arguments.bs
            )));
        }
        let requests_in_volume = volume / bytes;
        if requests_in_volume < u64::from(arguments.threads) {
            return Err(Failure::usage(format!(
                "a volume of {} has no request of {} for each of {} threads: give a larger \
                 --create",
                arguments.create, arguments.bs, arguments.threads
            )));
        }
        Ok(Self {
            pattern: arguments.rw,
            request_bytes: usize::try_from(bytes)
                .map_err(|_| Failure::usage("--bs is larger than this machine's memory"))?,
            requests_in_volume,
            threads: arguments.threads,
            runtime: arguments.runtime,
            requests_max: arguments
                .total
                .map_or(u64::MAX, |Size(total)| total.div_ceil(bytes)),
            fsync: arguments.fsync,
        })
    }

    /// Writes all of the volume once, so that there is something to read.
    pub(super) fn fill(&self, volume: &Volume) -> lsvd::Result<()> {
        let source = random_bytes(SOURCE_BYTES);
        let mut at = 0;
        while at < volume.size() {
            let left = usize::try_from(volume.size() - at).unwrap_or(usize::MAX);
            let piece = &source[..left.min(1 << 20)];
            volume.write(at, piece)?;
            at += piece.len() as u64;
        }
        volume.flush()
    }

    /// Runs all threads to the end of the time or of the work.
    pub(super) fn run(&self, volume: &Volume) -> lsvd::Result<Tally> {
        let begun = AtomicU64::new(0);
        // Made before the clock runs: it can take longer than a short run.
        let source = random_bytes(SOURCE_BYTES.max(2 * self.request_bytes));
        let started = Instant::now();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|index| {
                    scope.spawn({
                        let (begun, source) = (&begun, &source);
                        move || self.work(volume, (index, started), begun, source)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        let mut latencies = empty_histogram();
        for outcome in outcomes {
            latencies += outcome?;
        }
        let requests = latencies.len();
        Ok(Tally {
            elapsed: started.elapsed(),
            requests,
            bytes: requests * self.request_bytes as u64,
            latencies,
        })
    }

    /// One thread's requests, one after the other; `begun` counts those of all threads. There is at
    /// least one, however short the time and however late the thread gets to run.
    fn work(
        &self,
        volume: &Volume,
        (index, started): (u16, Instant),
        begun: &AtomicU64,
        source: &[u8],
    ) -> lsvd::Result<Histogram<u64>> {
        let mut latencies = empty_histogram();
        let mut places = Places::new(self, index);
        let mut buffer = vec![0; self.request_bytes];
        let mut unflushed = 0;
        let mut before = Instant::now();
        while begun.fetch_add(1, Ordering::Relaxed) < self.requests_max {
            let offset = places.next() * self.request_bytes as u64;
            if self.pattern.writes() {
                let from = fastrand::usize(0..source.len() - self.request_bytes);
                volume.write(offset, &source[from..from + self.request_bytes])?;
                unflushed += 1;
                if Some(unflushed) == self.fsync {
                    volume.flush()?;
                    unflushed = 0;
                }
            } else {
                volume.read(offset, &mut buffer)?;
            }
            let now = Instant::now();
            let nanoseconds = u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX);
            latencies.saturating_record(nanoseconds);
            if now - started >= self.runtime {
                break;
            }
            before = now;
        }
        Ok(latencies)
    }
}

/// The places of one thread's requests, counted in requests from the start of the volume.
struct Places {
    random: bool,
    first: u64,
    count: u64,
    next: u64,
}

impl Places {
    /// Random places are anywhere; each sequential thread has a part of the volume to itself.
    fn new(plan: &Plan, index: u16) -> Self {
        if plan.pattern.random() {
            return Self {
                random: true,
                first: 0,
                count: plan.requests_in_volume,
                next: 0,
            };
        }
        let count = plan.requests_in_volume / u64::from(plan.threads);
        Self {
            random: false,
            first: count * u64::from(index),
            count,
            next: 0,
        }
    }

    fn next(&mut self) -> u64 {
        if self.random {
            return fastrand::u64(0..self.count);
        }
        let place = self.first + self.next;
        self.next = (self.next + 1) % self.count;
        place
    }
}

fn empty_histogram() -> Histogram<u64> {
    // Three digits; the bounds are constants that the constructor accepts.
    Histogram::new_with_max(u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX), 3)
        .unwrap_or_else(|error| unreachable!("a histogram's constant bounds: {error}"))
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::fill(&mut bytes);
    bytes
}
