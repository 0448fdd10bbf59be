//! Time and chance that are the same in every run, and cost no time.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd_sim::random::Random;

/// A runtime on a clock that stands still while anything can run, so that no test waits and every
/// run of a seed is the same; its randomness is the seed's as well.
pub(crate) struct Simulated {
    handle: tokio::runtime::Handle,
    random: Mutex<Random>,
    /// When the machine was started: time goes on over crashes.
    started: Duration,
    begun: tokio::time::Instant,
}

/// The one thread of a [`Simulated`] runtime, which is whoever waits for something to be done.
pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

impl Simulated {
    pub(crate) fn new(threads: &tokio::runtime::Runtime, seed: u64, started: Duration) -> Self {
        let _context = threads.enter();
        Self {
            handle: threads.handle().clone(),
            random: Mutex::new(Random::new(seed)),
            started,
            begun: tokio::time::Instant::now(),
        }
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulated({:?})", self.now())
    }
}

impl Runtime for Simulated {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn now(&self) -> Duration {
        let _context = self.handle.enter();
        self.started + self.begun.elapsed()
    }

    fn wall_clock(&self) -> Duration {
        self.now()
    }

    fn random(&self) -> u128 {
        let mut random = self.random.lock().unwrap();
        u128::from(random.bits()) << 64 | u128::from(random.bits())
    }
}
