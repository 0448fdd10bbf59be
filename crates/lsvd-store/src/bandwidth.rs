//! A store behind a link that carries only so many bytes a second.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use parking_lot::Mutex;

/// Limits the bytes of bodies per second, up and down on their own, as a full-duplex link does.
///
/// All requests share the link in the order in which they come to it: a body is on its way for its
/// length divided by the bandwidth, and the next one follows it.
#[derive(Debug)]
pub struct Bandwidth {
    inner: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
    bytes_per_second: NonZeroU64,
    up: Mutex<Duration>,
    down: Mutex<Duration>,
}

impl Bandwidth {
    /// The store `inner` behind a link with `bytes_per_second` in each direction.
    #[must_use]
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        bytes_per_second: NonZeroU64,
    ) -> Self {
        Self {
            inner,
            runtime,
            bytes_per_second,
            up: Mutex::new(Duration::ZERO),
            down: Mutex::new(Duration::ZERO),
        }
    }

    /// Waits until `bytes` have gone through the direction whose end of work is `busy_until`.
    async fn carry(&self, busy_until: &Mutex<Duration>, bytes: usize) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let work = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.runtime.now();
        let done = {
            let mut busy_until = busy_until.lock();
            *busy_until = now.max(*busy_until).saturating_add(work);
            *busy_until
        };
        self.runtime.sleep(done - now).await;
    }
}

impl ObjectStore for Bandwidth {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let bytes = body.iter().map(Bytes::len).sum();
            self.carry(&self.up, bytes).await;
            self.inner.put(name, body).await
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let object = self.inner.get(name).await?;
            self.carry(&self.down, object.len()).await;
            Ok(object)
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let part = self.inner.get_range(name, range).await?;
            self.carry(&self.down, part.len()).await;
            Ok(part)
        })
    }

    fn try_get_range(
        &self,
        _name: &str,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        // What comes over the link is never there at once.
        None
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        self.inner.list()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
