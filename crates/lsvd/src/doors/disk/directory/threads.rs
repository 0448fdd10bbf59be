//! The threads on which requests to the disk block.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Handle, RuntimeFlavor, worker_index};
use tokio::task::block_in_place;

use super::{DiskError, DiskErrorKind};

/// Where work that blocks is done.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    runtime: Handle,
}

impl Threads {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime }
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

    /// The same, but on the thread of the task that asks where that is one that may block. To wake
    /// another thread and be woken by it takes as long as a fast disk takes for a small write. The
    /// worker's other tasks go to its neighbours, as long as one of them is left to take them and is
    /// told; after that they are given to a new thread.
    pub(super) fn run_in_place<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> impl Future<Output = Result<T, DiskError>> + Send + 'static {
        let elsewhere = self.clone();
        async move {
            let Some(workers) = workers_here() else {
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

/// How many workers the runtime has of which this thread is one; nothing where it is none of a runtime
/// that can give a worker's tasks to another thread. To ask that of one that cannot is a panic.
fn workers_here() -> Option<usize> {
    worker_index()?;
    let runtime = Handle::try_current().ok()?;
    let is_shared = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    is_shared.then(|| runtime.metrics().num_workers())
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
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::runtime::Builder;

    use super::*;

    /// So many requests block at once until a task of the same runtime has its turn.
    fn a_task_gets_its_turn(workers: usize, requests: usize) {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build();
        let runtime = runtime.unwrap();
        let threads = Threads::new(runtime.handle().clone());
        let (begun, all_begun) = mpsc::channel();
        let releases: Vec<_> = (0..requests).map(|_| mpsc::channel::<()>()).collect();
        let (releases, waits): (Vec<_>, Vec<_>) = releases.into_iter().unzip();
        let asked: Vec<_> = waits
            .into_iter()
            .map(|wait| {
                let begun = begun.clone();
                runtime.spawn(threads.run_in_place(move || {
                    begun.send(()).unwrap();
                    Ok(wait.recv_timeout(Duration::from_secs(20)).is_ok())
                }))
            })
            .collect();
        for _ in 0..requests {
            all_begun.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        runtime.spawn(async move {
            for release in releases {
                release.send(()).unwrap();
            }
        });
        for request in asked {
            let is_released = runtime.block_on(request).unwrap().unwrap();
            assert!(is_released, "{workers} workers, {requests} requests");
        }
    }

    /// The worker that was woken for a socket blocks at once: another one has to wait for timers.
    #[test]
    fn sockets_and_timers_are_waited_for_while_a_request_blocks() {
        for workers in [1, 2, 8] {
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(workers).enable_all().build();
            let runtime = runtime.unwrap();
            let threads = Threads::new(runtime.handle().clone());
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            let (release, wait) = mpsc::channel::<()>();
            let (begun, has_begun) = mpsc::channel();
            let request = runtime.spawn(async move {
                let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
                theirs.read_u8().await.unwrap();
                let blocks = threads.run_in_place(move || {
                    begun.send(()).unwrap();
                    Ok(wait.recv_timeout(Duration::from_secs(20)).is_ok())
                });
                blocks.await.unwrap()
            });
            let timer = runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                release.send(()).unwrap();
            });
            std::thread::sleep(Duration::from_millis(50));
            (&ours).write_all(&[1]).unwrap();
            has_begun.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(runtime.block_on(request).unwrap(), "{workers} workers");
            runtime.block_on(timer).unwrap();
        }
    }

    /// A task that yields waits beside the queues of its worker, where no neighbour finds it.
    #[test]
    fn a_task_that_yielded_gets_its_turn_while_a_request_blocks() {
        for workers in [1, 2, 8] {
            let runtime = Builder::new_multi_thread().worker_threads(workers).build();
            let runtime = runtime.unwrap();
            let threads = Threads::new(runtime.handle().clone());
            let (release, wait) = mpsc::channel::<()>();
            let both = runtime.spawn(async move {
                let request =
                    tokio::spawn(threads.run_in_place(move || {
                        Ok(wait.recv_timeout(Duration::from_secs(5)).is_ok())
                    }));
                tokio::task::yield_now().await;
                release.send(()).unwrap();
                request.await.unwrap()
            });
            assert!(
                runtime.block_on(both).unwrap().unwrap(),
                "{workers} workers"
            );
        }
    }

    /// The runtime that was entered is not the one whose thread this is.
    #[test]
    fn a_thread_that_entered_another_runtime_is_no_worker_of_it() {
        let other = Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let here = Builder::new_current_thread().build().unwrap();
        let threads = Threads::new(other.handle().clone());
        here.block_on(async {
            let _entered = other.enter();
            threads.run_in_place(|| Ok(())).await.unwrap();
        });
    }

    #[test]
    fn requests_that_block_leave_a_worker_to_the_others() {
        for (workers, requests) in [(1, 1), (2, 1), (2, 2), (2, 5), (4, 4)] {
            a_task_gets_its_turn(workers, requests);
        }
    }
}
