//! The tasks that work behind a volume, counted, so that a close can wait for their ends.

use crate::doors::BoxFuture;
use crate::doors::runtime::Runtime;
use crate::sync::{Arc, Mutex, Signal};

/// The tasks of one opening.
#[derive(Debug, Default)]
pub(super) struct Background {
    running: Mutex<u32>,
    ended: Signal,
}

impl Background {
    /// Runs a task to its end.
    pub(super) fn spawn(self: &Arc<Self>, runtime: &dyn Runtime, task: BoxFuture<'static, ()>) {
        *self.running.lock() += 1;
        let running = Running(Arc::clone(self));
        runtime.spawn(Box::pin(async move {
            task.await;
            drop(running);
        }));
    }

    /// Waits until all tasks ended. Then nothing of the volume uses the store or the local disk but
    /// who still holds the volume itself.
    pub(super) async fn over(&self) {
        let over = || (*self.running.lock() == 0).then_some(());
        self.ended.until(over).await;
    }
}

/// A task that has not ended, however it ends.
struct Running(Arc<Background>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify();
    }
}
