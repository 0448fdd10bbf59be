//! The sealer: a batch that is not full after a while is sealed all the same, so that what little
//! was written reaches the store too.

use std::time::Duration;

use futures_util::future::{Either, select};

use crate::doors::runtime::Runtime;
use crate::state::batch::{Batcher, BufferPool};
use crate::state::progress::Progress;
use crate::state::uploads::UploadQueue;
use crate::sync::Arc;

/// Seals every batch `timeout` after it was opened, until the batcher closes; but not while others
/// are on their way to the store: each takes a segment of the log, and a store that does not answer
/// would fill it with batches of next to nothing. While no batch is open no timer runs. As the one who
/// learns first that a batch was opened, it also notes when, and sees to the memory for the next.
#[derive(Debug)]
pub(crate) struct Sealer {
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) pool: Arc<BufferPool>,
    pub(crate) uploads: Arc<UploadQueue>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) timeout: Duration,
}

impl Sealer {
    pub(crate) async fn run(self) {
        let mut open = self.batcher.opened(None).await;
        while let Some(id) = open {
            self.progress.see(self.runtime.now());
            self.pool.prepare();
            let next = Box::pin(self.batcher.opened(Some(id)));
            let due = Box::pin(async {
                self.runtime.sleep(self.timeout).await;
                self.progress.caught_up(|| self.uploads.entered()).await;
            });
            open = match select(due, next).await {
                Either::Left(((), next)) => {
                    self.batcher.seal_if_open(id);
                    next.await
                }
                Either::Right((next, _)) => next,
            };
        }
    }
}
