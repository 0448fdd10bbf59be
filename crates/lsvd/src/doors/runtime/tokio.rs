//! The runtime of real programs.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::RuntimeFlavor;

use super::{BoxFuture, Runtime};

/// A [`Runtime`] on tokio's threads.
#[derive(Debug)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
    /// Kept so that the threads live as long as the runtime that was made for them.
    owned: Option<tokio::runtime::Runtime>,
    started: Instant,
}

impl TokioRuntime {
    /// Starts `worker_threads` threads of its own, at least one.
    ///
    /// # Errors
    /// What the operating system says when threads or an event queue cannot be had.
    pub fn start(worker_threads: usize) -> std::io::Result<Self> {
        let owned = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(worker_threads.max(1))
            .thread_name("lsvd")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: owned.handle().clone(),
            owned: Some(owned),
            started: Instant::now(),
        })
    }

    /// Uses the threads of a runtime that someone else keeps alive.
    #[must_use]
    pub fn on(handle: tokio::runtime::Handle) -> Self {
        Self {
            handle,
            owned: None,
            started: Instant::now(),
        }
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let are_workers = self.handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        let workers = are_workers.then(|| self.handle.metrics().num_workers());
        drop(self.handle.spawn(OnWorker { task, workers }));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // The timer is bound to its runtime when it is made, not when it is polled, so it may be
        // awaited by a thread that knows nothing of tokio.
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall_clock(&self) -> Duration {
        // A clock before 1970 is a clock that was never set; zero says just that.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}

thread_local! {
    static WORKERS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Of how many workers this thread is one, as long as it runs a task that was spawned through a
/// [`TokioRuntime`] whose workers can take each other's tasks. Elsewhere nothing: the runtime that a
/// thread entered need not be the one that runs its tasks, and tokio does not tell them apart.
pub(in crate::doors) fn workers_here() -> Option<usize> {
    WORKERS.get()
}

/// A task that knows that it runs on one of so many workers, if it does.
struct OnWorker {
    task: BoxFuture<'static, ()>,
    workers: Option<usize>,
}

impl Future for OnWorker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        /// Sets back what was known before, in a panic too.
        struct Before(Option<usize>);
        impl Drop for Before {
            fn drop(&mut self) {
                WORKERS.set(self.0);
            }
        }
        let _before = Before(WORKERS.replace(self.workers));
        self.task.as_mut().poll(context)
    }
}

impl Drop for TokioRuntime {
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take() {
            // A plain drop would block, which panics where the last owner is a task.
            owned.shutdown_background();
        }
    }
}
