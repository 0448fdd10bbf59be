//! The threads on which requests to the disk block.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{DiskError, DiskErrorKind};
use crate::doors::runtime::workers_here;

/// Longest time for which a worker is blocked again: beside a disk that takes longer than this the
/// time to wake another thread is nothing.
const BRIEF: Duration = Duration::from_millis(2);

/// Where work that blocks is done.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    runtime: Handle,
    /// Whether the last work that may be done in place took longer than [`BRIEF`].
    is_slow: Arc<AtomicBool>,
}

impl Threads {
    pub(super) fn new(runtime: Handle) -> Self {
        let is_slow = Arc::default();
        Self { runtime, is_slow }
    }

    /// Runs `work` to its end on a thread of its own, whether or not somebody waits for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> impl Future<Output = Result<T, DiskError>> + Send + 'static {
        let runtime = self.runtime.clone();
        async move {
            match runtime.spawn_blocking(work).await {
                Ok(answer) => answer,
                Err(error) => {
                    let message = "a request to the local disk was not carried out: the program is \
                                   ending";
                    Err(DiskError::new(DiskErrorKind::Failed, message).because(error))
                }
            }
        }
    }

    /// The same, but on the thread of the task that asks where that is one that may block, and the
    /// last such work was brief. To wake another thread and be woken by it takes as long as a fast disk
    /// takes for a small write. The worker's other tasks go to its neighbours, as long as one of them is
    /// left to take them and is told; after that they are given to a new thread. Those that have just
    /// yielded wait, as no neighbour can take them: as long as one work takes, be it the first that is
    /// slow.
    pub(super) fn run_in_place<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> impl Future<Output = Result<T, DiskError>> + Send + 'static {
        let elsewhere = self.clone();
        let is_slow = Arc::clone(&self.is_slow);
        let work = move || {
            let began = Instant::now();
            let answer = work();
            is_slow.store(began.elapsed() > BRIEF, Ordering::Relaxed);
            answer
        };
        async move {
            let is_slow = elsewhere.is_slow.load(Ordering::Relaxed);
            let Some(workers) = workers_here().filter(|_| !is_slow) else {
                return elsewhere.run(work).await;
            };
            match Blocked::one_of(workers) {
                Some(_blocked) => {
                    wake_a_neighbour();
                    work()
                }
                None => block_in_place(work),
            }
        }
    }
}

/// Sees to it that another worker takes the tasks of this one, and waits for sockets and timers in its
/// place: one that sleeps would go on to, as nothing tells it that this one blocks. A task that is
/// started wakes a worker that sleeps where none is looking for work; the second one pushes the first
/// out of the place that is kept for this worker's own next task.
fn wake_a_neighbour() {
    for _ in 0..2 {
        drop(tokio::spawn(async {}));
    }
}

/// Workers that block, of all runtimes of the process.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

/// A worker that blocks.
struct Blocked;

impl Blocked {
    /// Nothing where it would be the last of so many that does not.
    fn one_of(workers: usize) -> Option<Self> {
        let blocks = |blocked| (blocked + 1 < workers).then_some(blocked + 1);
        let began = BLOCKED.fetch_update(Ordering::AcqRel, Ordering::Acquire, blocks);
        began.ok().map(|_| Self)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        BLOCKED.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
