//! Creating an object in the store, in as many tries as it takes.

use std::time::Duration;

use bytes::Bytes;

use super::runtime::{Runtime, within};
use super::store::{ObjectStore, StoreError, StoreErrorKind};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{STORE_PATIENCE, STORE_PATIENCE_MAX};

/// An object on its way into the store, under a name that is used once.
#[derive(Debug)]
pub(crate) struct Creation<'a> {
    store: &'a dyn ObjectStore,
    runtime: &'a dyn Runtime,
    name: &'a str,
    header: Bytes,
    body: Vec<Bytes>,
    /// How long the next try may take.
    patience: Duration,
}

impl<'a> Creation<'a> {
    /// An object that consists of a header and the pieces behind it. The header must be of this
    /// object alone, by random bits in it: it tells the object from another's of the same name.
    pub(crate) fn new(
        store: &'a dyn ObjectStore,
        runtime: &'a dyn Runtime,
        name: &'a str,
        header: Bytes,
        mut body: Vec<Bytes>,
    ) -> Self {
        body.insert(0, header.clone());
        Self {
            store,
            runtime,
            name,
            header,
            body,
            patience: STORE_PATIENCE,
        }
    }

    /// One PUT, which leaves more time for the next where this one took longer. A name that exists
    /// with these very bytes is a success: the reply to an earlier try was lost.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where another's object is under the name, which does not go away by
    /// itself; whatever else keeps it from being created now.
    pub(crate) async fn attempt(&mut self) -> Result<()> {
        let put = self.store.put(self.name, self.body.clone());
        let Err(error) = within(self.runtime, self.patience, self.store, put).await else {
            return Ok(());
        };
        match error.kind() {
            StoreErrorKind::AlreadyExists => return self.compare().await,
            StoreErrorKind::TooSlow => {
                self.patience = (self.patience * 2).min(STORE_PATIENCE_MAX);
            }
            _ => {}
        }
        Err(self.failed("store", error))
    }

    async fn compare(&self) -> Result<()> {
        let header = 0..self.header.len() as u64;
        let get = self.store.get_range(self.name, header);
        let foreign = match within(self.runtime, STORE_PATIENCE, self.store, get).await {
            Ok(found) => found != self.header,
            Err(error) if error.kind() == StoreErrorKind::Truncated => true,
            Err(error) => return Err(self.failed("read back", error)),
        };
        if foreign {
            let message = format!(
                "object {} in {} exists with other content; another writer uses this place: end it, \
                 and give each volume a place of its own",
                self.name,
                self.store.url()
            );
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        Ok(())
    }

    fn failed(&self, verb: &str, error: StoreError) -> Error {
        let kind = error.kind().for_user_while_retried();
        let (name, place) = (self.name, self.store.url());
        let message = format!("cannot {verb} object {name} in {place}; it is kept and tried again");
        Error::new(kind, message).because(error)
    }
}
