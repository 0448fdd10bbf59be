//! The threads on which requests to the disk block.

use std::future::Future;

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
    /// another thread and be woken by it takes as long as a fast disk takes for a small write.
    pub(super) fn run_in_place<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> impl Future<Output = Result<T, DiskError>> + Send + 'static {
        let elsewhere = self.clone();
        async move {
            if may_block() {
                block_in_place(work)
            } else {
                elsewhere.run(work).await
            }
        }
    }
}

/// Whether this is a worker of a runtime that gives the worker's other tasks to another thread
/// meanwhile. To ask that of a runtime that cannot do it is a panic.
fn may_block() -> bool {
    worker_index().is_some()
        && Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}
