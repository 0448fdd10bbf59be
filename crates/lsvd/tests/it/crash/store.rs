//! The store as a machine sees it that dies: from the moment on at which its disk has stopped, the
//! store hears no more of it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::MemoryStore;

/// At which change of the store the machine dies.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreDeath {
    /// How many changes are made before.
    pub(super) changes: u64,
    /// Whether that one is made too.
    pub(super) made: bool,
}

/// The store as a machine has it whose disk may stop.
#[derive(Debug)]
pub(super) struct StoreOfMachine {
    inner: Arc<MemoryStore>,
    disk: MemoryDisk,
    death: Mutex<Option<StoreDeath>>,
}

impl StoreOfMachine {
    pub(super) fn new(
        inner: Arc<MemoryStore>,
        disk: MemoryDisk,
        death: Option<StoreDeath>,
    ) -> Self {
        Self {
            inner,
            disk,
            death: Mutex::new(death),
        }
    }

    /// Carries out a request that changes nothing.
    async fn look<T>(
        &self,
        request: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.disk.is_stopped() {
            return std::future::pending().await;
        }
        request.await
    }

    /// Carries out a request that changes something.
    async fn change<T>(
        &self,
        request: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let last = {
            let mut death = self.death.lock().unwrap();
            match &mut *death {
                Some(death) if death.changes > 0 => {
                    death.changes -= 1;
                    None
                }
                death => death.take(),
            }
        };
        let Some(last) = last else {
            return self.look(request).await;
        };
        if last.made {
            // Whether it succeeded nobody hears.
            let _ = self.look(request).await;
        }
        self.disk.stop();
        std::future::pending().await
    }
}

impl ObjectStore for StoreOfMachine {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change(self.inner.put(name, body)))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.look(self.inner.get(name)))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.look(self.inner.get_range(name, range)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(self.look(self.inner.list()))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change(self.inner.delete(name)))
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
