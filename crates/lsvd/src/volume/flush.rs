//! Flushing: what was answered before it is durable when it returns.

use super::{FlushTarget, Shared, Volume};
use crate::sync::block_on;
use crate::words::error::Result;
use crate::words::planted::{self, Fault};

impl Volume {
    /// Makes everything that was answered before durable, as the volume's [`FlushTarget`] says: in
    /// the synced write log, or with [`FlushTarget::Store`] in the store. An ephemeral volume with
    /// [`FlushTarget::Local`] has no log; it promises nothing and answers at once.
    ///
    /// A volume that lasts answers only where it was seen less than 10 s before that no other writer
    /// took over, or the store could not be asked.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced) where another writer took over. For the log: why it
    /// failed, now and for ever. For the store: its error while uploads are stuck; every flush fails
    /// until the data is stored, no data is lost by that.
    pub fn flush(&self) -> Result<()> {
        block_on(self.flush_async())
    }

    /// [`flush`](Self::flush) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn flush_async(&self) -> Result<()> {
        self.shared.refuse_ended("flush")?;
        match (self.shared.flush_target, &self.shared.log) {
            (FlushTarget::Local, None) => self.shared.progress.error().map_or(Ok(()), Err),
            (FlushTarget::Local, Some(_)) => self.shared.log_all().await,
            (FlushTarget::Store, _) => self.shared.store_all().await,
        }
    }
}

impl Shared {
    /// Waits until all that has a slot now is in the synced log.
    pub(super) async fn log_all(&self) -> Result<()> {
        if let Some(log) = &self.log
            && let Some(point) = self.batcher.point()
            && !planted::is(Fault::FlushEarly)
        {
            log.durable.reached(point).await?;
        }
        self.passed_lately().await
    }

    /// Waits until all that was answered before is in the store.
    pub(super) async fn store_all(&self) -> Result<()> {
        if let Some(last) = self.batcher.seal() {
            self.progress.reached(last).await?;
        }
        self.passed_lately().await
    }

    /// Refuses where another writer took over, or nobody looked lately.
    async fn passed_lately(&self) -> Result<()> {
        match &self.fence {
            Some(fence) if !planted::is(Fault::FlushUnchecked) => fence.passed_lately().await,
            Some(fence) => fence.refuse_fenced(),
            None => Ok(()),
        }
    }
}
