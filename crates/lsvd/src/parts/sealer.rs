//! The sealer: a batch that is not full after a while is sealed all the same, so that what little
//! was written reaches the store too.

use std::time::Duration;

use crate::doors::runtime::Runtime;
use crate::state::batch::Batcher;
use crate::sync::Arc;

/// Seals every batch `timeout` after it was opened, until the batcher closes. While no batch is
/// open no timer runs.
pub(crate) async fn run(batcher: Arc<Batcher>, runtime: Arc<dyn Runtime>, timeout: Duration) {
    let mut seen = None;
    while let Some(id) = batcher.opened(seen).await {
        seen = Some(id);
        runtime.sleep(timeout).await;
        batcher.seal_if_open(id);
    }
}
