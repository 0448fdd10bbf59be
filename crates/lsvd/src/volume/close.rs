//! Closing a volume.

use futures_util::future::{Either, select};

use super::Volume;
use crate::bytes::superblock::{Change, CloseState, VolumeState};
use crate::sync::atomic::Ordering;
use crate::sync::block_on;
use crate::words::error::{Error, ErrorKind, Result};

impl Volume {
    /// Refuses every request from now on and waits until all that was written is in the store, of a
    /// volume that lasts together with a checkpoint of it; the superblock then says that nobody needs
    /// its log.
    ///
    /// # Errors
    /// The store's error when uploads are stuck. They go on being tried for as long as the runtime
    /// lives, and `close` may be called again to wait for them. What was flushed stays in the log.
    pub fn close(&self) -> Result<()> {
        block_on(self.close_async())
    }

    /// [`close`](Self::close) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn close_async(&self) -> Result<()> {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        if let Some(last) = shared.batcher.close() {
            shared.progress.reached(last).await?;
        }
        if let (Some(requests), Some(fence)) = (&shared.checkpoints, &shared.fence)
            && !requests.is_closed()
        {
            requests.ask().await?;
            // The one that an earlier call gave up may have got through since.
            let is_marked = VolumeState::is_closed;
            let persisted = shared.progress.persisted();
            let marked = fence.own().advance_unless(is_marked, persisted, mark_clean);
            match select(Box::pin(marked), shared.runtime.sleep(shared.retry_timeout)).await {
                Either::Left((marked, _)) => drop(marked?),
                Either::Right(_) => {
                    let message = "everything is stored, but the store did not take the superblock \
                                   that says so";
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            requests.close();
        }
        shared.background.over().await;
        Ok(())
    }

    /// For who gives up on a [`close`](Self::close) that cannot store everything: makes what was
    /// written durable in the write log, and lets a superblock say how many bytes are there alone, so
    /// that whoever opens the volume without that log knows. The volume still counts as not closed,
    /// unless the close that was given up got through all the same.
    ///
    /// # Errors
    /// The write log's or the store's error. What was flushed is in the log all the same.
    pub async fn leave_async(&self) -> Result<()> {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        shared.batcher.close();
        shared.log_all().await?;
        let Some(fence) = &shared.fence else {
            return Ok(());
        };
        let log_bytes = self.status().at_risk_bytes;
        let persisted = shared.progress.persisted();
        let mark_unclean = |state: &mut VolumeState| {
            state.change = Change::Close;
            if let Some(writer) = &mut state.writer {
                writer.close = Some(CloseState::Unclean { log_bytes });
            }
        };
        let own = fence.own();
        let told = own.advance_unless(VolumeState::is_closed, persisted, mark_unclean);
        told.await.map(drop)
    }
}

/// All of the stream is persisted, and a checkpoint with it.
fn mark_clean(state: &mut VolumeState) {
    state.change = Change::Close;
    if let Some(writer) = &mut state.writer {
        writer.close = Some(CloseState::Clean);
    }
}
