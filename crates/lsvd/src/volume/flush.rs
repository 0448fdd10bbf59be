//! Flushing.

use super::{FlushTarget, Shared, Volume};
use crate::sync::atomic::Ordering;
use crate::sync::block_on;
use crate::words::error::{Error, ErrorKind, Result};

impl Volume {
    /// Makes everything that was answered before durable, as the volume's [`FlushTarget`] says:
    /// with [`FlushTarget::Store`] it is in the store when flush returns. An ephemeral volume with
    /// [`FlushTarget::Local`] promises nothing and answers at once.
    ///
    /// # Errors
    /// The store's error while uploads are stuck: every flush fails until the data is stored. No
    /// data is lost by that, it stays in memory and is tried again.
    pub fn flush(&self) -> Result<()> {
        block_on(self.flush_async())
    }

    /// [`flush`](Self::flush) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn flush_async(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Closed,
                "cannot flush: the volume is closed",
            ));
        }
        match self.shared.flush_target {
            FlushTarget::Local => self.shared.progress.error().map_or(Ok(()), Err),
            FlushTarget::Store => self.shared.store_all().await,
        }
    }
}

impl Shared {
    /// Waits until all that was answered before is in the store.
    async fn store_all(&self) -> Result<()> {
        match self.batcher.seal() {
            Some(last) => self.progress.reached(last).await,
            None => Ok(()),
        }
    }
}
