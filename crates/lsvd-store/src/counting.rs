//! A store that counts what is asked of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};

/// Counts requests and bytes per verb.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn ObjectStore>,
    put: Counters,
    get: Counters,
    get_range: Counters,
    try_get_range: Counters,
    list: Counters,
    delete: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a request that carried `bytes` of an object if it went well.
    fn end<T>(&self, result: &Result<T, StoreError>, bytes: impl FnOnce(&T) -> usize) {
        match result {
            Ok(answer) => self
                .bytes
                .fetch_add(bytes(answer) as u64, Ordering::Relaxed),
            Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn read(&self) -> VerbCounts {
        VerbCounts {
            requests: self.requests.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// What was counted for one verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerbCounts {
    /// Requests that were begun.
    pub requests: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Bytes of objects in the requests that went well.
    pub bytes: u64,
}

/// What was counted for all verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Creations.
    pub put: VerbCounts,
    /// Reads of whole objects.
    pub get: VerbCounts,
    /// Reads of ranges.
    pub get_range: VerbCounts,
    /// Reads of ranges that were answered at once; those that were not count nowhere.
    pub try_get_range: VerbCounts,
    /// Listings.
    pub list: VerbCounts,
    /// Deletions.
    pub delete: VerbCounts,
}

impl Counting {
    /// The store `inner`, everything at zero.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            put: Counters::default(),
            get: Counters::default(),
            get_range: Counters::default(),
            try_get_range: Counters::default(),
            list: Counters::default(),
            delete: Counters::default(),
        }
    }

    /// What was counted so far; each number on its own, not all at one moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            put: self.put.read(),
            get: self.get.read(),
            get_range: self.get_range.read(),
            try_get_range: self.try_get_range.read(),
            list: self.list.read(),
            delete: self.delete.read(),
        }
    }
}

impl ObjectStore for Counting {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.put.begin();
            let bytes = body.iter().map(Bytes::len).sum();
            let result = self.inner.put(name, body).await;
            self.put.end(&result, |()| bytes);
            result
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            self.get.begin();
            let result = self.inner.get(name).await;
            self.get.end(&result, Bytes::len);
            result
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            self.get_range.begin();
            let result = self.inner.get_range(name, range).await;
            self.get_range.end(&result, Bytes::len);
            result
        })
    }

    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        let result = self.inner.try_get_range(name, offset, buffer)?;
        self.try_get_range.begin();
        self.try_get_range.end(&result, |()| buffer.len());
        Some(result)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(async move {
            self.list.begin();
            let result = self.inner.list().await;
            self.list.end(&result, |_| 0);
            result
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.delete.begin();
            let result = self.inner.delete(name).await;
            self.delete.end(&result, |()| 0);
            result
        })
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
