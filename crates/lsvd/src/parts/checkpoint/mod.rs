//! Checkpoints in the store: writing their objects, loading them, removing what is not needed.
//!
//! What makes a checkpoint count, the superblock that names it, is not made here.

mod load;
mod plan;
mod writer;

use std::time::Duration;

use ::bytes::Bytes;

use crate::bytes::checkpoint::Checkpoint;
use crate::doors::backoff::Backoff;
use crate::doors::creation::Creation;
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use crate::state::checkpoint_requests::CheckpointRequests;
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::{ObjectId, ObjectName, VolumeUuid};

pub(crate) use load::{Failure, Loaded};
pub(crate) use plan::{Plan, is_usable};
pub(crate) use writer::{Head, Writer};

/// The checkpoint objects of a volume.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointObjects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) volume: VolumeUuid,
    /// Who waits for a checkpoint, and learns why it fails.
    pub(crate) requests: Arc<CheckpointRequests>,
    /// How long an upload fails before they learn.
    pub(crate) retry_timeout: Duration,
}

impl CheckpointObjects {
    /// Creates an object, and tries for as long as it takes.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where another's is under its name.
    async fn put(&self, header: Bytes, payload: Bytes, id: ObjectId) -> Result<()> {
        let name = Checkpoint::name_of(id).to_string();
        let (store, runtime) = (&*self.store, &*self.runtime);
        let mut creation = Creation::new(store, runtime, &name, header, vec![payload]);
        let started = runtime.now();
        let mut backoff = Backoff::new(runtime);
        loop {
            let error = match creation.attempt().await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Damaged => return Err(error),
                Err(error) => error,
            };
            if backoff.is_first() {
                tracing::warn!(object = name, %error, "a checkpoint is tried again");
            }
            if runtime.now().saturating_sub(started) >= self.retry_timeout {
                self.requests.fail(error);
            }
            backoff.pause().await;
        }
    }

    /// The objects that are there, of all kinds.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn list(&self) -> Result<Vec<ObjectName>> {
        let list = self.store.list();
        let listed = within(&*self.runtime, STORE_PATIENCE, &*self.store, list).await;
        let listed = listed.map_err(|error| self.failed("list", "the objects", error))?;
        let names = listed
            .iter()
            .filter_map(|object| ObjectName::parse(&object.name));
        Ok(names.collect())
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn remove(&self, name: ObjectName) -> Result<()> {
        let name = name.to_string();
        let delete = self.store.delete(&name);
        match within(&*self.runtime, STORE_PATIENCE, &*self.store, delete).await {
            Err(error) if error.kind() != StoreErrorKind::NotFound => {
                Err(self.failed("remove", &name, error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, verb: &str, name: &str, error: StoreError) -> Error {
        let kind = error.kind().for_user_while_retried();
        let message = format!("cannot {verb} {name} in {}", self.store.url());
        Error::new(kind, message).because(error)
    }
}
