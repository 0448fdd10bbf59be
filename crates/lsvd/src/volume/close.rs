//! Closing a volume.

use super::Volume;
use crate::sync::atomic::Ordering;
use crate::sync::block_on;
use crate::words::error::Result;

impl Volume {
    /// Refuses every request from now on and waits until all that was written is in the store.
    ///
    /// # Errors
    /// The store's error when uploads are stuck. They go on being tried for as long as the runtime
    /// lives, and `close` may be called again to wait for them.
    pub fn close(&self) -> Result<()> {
        block_on(self.close_async())
    }

    /// [`close`](Self::close) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn close_async(&self) -> Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        match self.shared.batcher.close() {
            Some(last) => self.shared.progress.reached(last).await,
            None => Ok(()),
        }
    }
}
