//! The sealer: a batch that is not full after a while is sealed all the same, so that what little
//! was written reaches the store too.

use std::time::Duration;

use futures_util::future::{Either, select};

use crate::doors::runtime::Runtime;
use crate::state::batch::{Batcher, BufferPool};
use crate::sync::Arc;

/// Seals every batch `timeout` after it was opened, until the batcher closes. While no batch is
/// open no timer runs. As it learns first that a batch was opened, it also sees to the memory for
/// the next.
pub(crate) async fn run(
    batcher: Arc<Batcher>,
    pool: Arc<BufferPool>,
    runtime: Arc<dyn Runtime>,
    timeout: Duration,
) {
    let mut open = batcher.opened(None).await;
    while let Some(id) = open {
        pool.prepare();
        let next = Box::pin(batcher.opened(Some(id)));
        open = match select(runtime.sleep(timeout), next).await {
            Either::Left(((), next)) => {
                batcher.seal_if_open(id);
                next.await
            }
            Either::Right((next, _)) => next,
        };
    }
}
