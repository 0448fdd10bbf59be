//! A machine that dies: its clock and its tasks, and a store that hears no more of it from the
//! moment on at which its disk has stopped.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use lsvd_sim::disk::MemoryDisk;
use lsvd_sim::random::Random;
use lsvd_store::MemoryStore;

/// A runtime on a clock that stands still while anything can run, so that no test waits and every
/// run of a seed is the same; its randomness is the seed's as well.
pub(super) struct Simulated {
    handle: tokio::runtime::Handle,
    random: Mutex<Random>,
    /// When the machine was started: time goes on over crashes.
    started: Duration,
    begun: tokio::time::Instant,
}

/// Threads for one life of a simulated machine: the one that asks for something to be done.
pub(super) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

impl Simulated {
    pub(super) fn new(threads: &tokio::runtime::Runtime, seed: u64, started: Duration) -> Self {
        let _context = threads.enter();
        Self {
            handle: threads.handle().clone(),
            random: Mutex::new(Random::new(seed)),
            started,
            begun: tokio::time::Instant::now(),
        }
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulated({:?})", self.now())
    }
}

impl Runtime for Simulated {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _context = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn now(&self) -> Duration {
        let _context = self.handle.enter();
        self.started + self.begun.elapsed()
    }

    fn wall_clock(&self) -> Duration {
        self.now()
    }

    fn random(&self) -> u128 {
        let mut random = self.random.lock().unwrap();
        u128::from(random.bits()) << 64 | u128::from(random.bits())
    }
}

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
