//! Objects in memory, for tests and for `memory://`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use parking_lot::Mutex;

/// A store that keeps everything in memory and answers at once.
///
/// "Durable" means here: as long as the store is not dropped.
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    bytes_max: u64,
}

impl MemoryStore {
    /// An empty store without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::limited(u64::MAX)
    }

    /// An empty store that is full when its objects have `bytes_max` bytes together.
    #[must_use]
    pub fn limited(bytes_max: u64) -> Self {
        Self {
            objects: Mutex::new(BTreeMap::new()),
            bytes_max,
        }
    }

    /// The bytes of all objects together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        total(&self.objects.lock())
    }

    fn find(&self, name: &str) -> Result<Bytes, StoreError> {
        let found = self.objects.lock().get(name).cloned();
        found.ok_or_else(|| failed(StoreErrorKind::NotFound, "read", name))
    }

    fn find_range(&self, name: &str, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let object = self.find(name)?;
        let bounds = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        match bounds {
            Some((start, end)) if end <= object.len() => Ok(object.slice(start..end)),
            _ => Err(
                failed(StoreErrorKind::Truncated, "read", name).because(format!(
                    "bytes {}..{} of {} were asked for",
                    range.start,
                    range.end,
                    object.len()
                )),
            ),
        }
    }

    fn insert(&self, name: &str, body: Bytes) -> Result<(), StoreError> {
        let mut objects = self.objects.lock();
        if objects.contains_key(name) {
            return Err(failed(StoreErrorKind::AlreadyExists, "create", name));
        }
        if total(&objects).saturating_add(body.len() as u64) > self.bytes_max {
            return Err(failed(StoreErrorKind::NoSpace, "create", name));
        }
        objects.insert(name.to_owned(), body);
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects = self.objects.lock();
        write!(
            f,
            "MemoryStore({} objects, {} bytes)",
            objects.len(),
            total(&objects)
        )
    }
}

fn total(objects: &BTreeMap<String, Bytes>) -> u64 {
    objects.values().map(|body| body.len() as u64).sum()
}

fn failed(kind: StoreErrorKind, request: &'static str, name: &str) -> StoreError {
    StoreError::new(kind, request, format!("memory://{name}"))
}

fn concatenate(body: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::with_capacity(body.iter().map(Bytes::len).sum());
    for part in body {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

impl ObjectStore for MemoryStore {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.insert(name, concatenate(body)) })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move { self.find(name) })
    }

    /// # Panics
    /// When the range is empty or ends before it starts.
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        assert!(
            range.start < range.end,
            "an empty range of {name} was asked for"
        );
        Box::pin(async move { self.find_range(name, &range) })
    }

    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        // A range that runs over the end of all numbers is certainly past the end of the object.
        let range = offset..offset.saturating_add(buffer.len() as u64);
        Some(
            self.find_range(name, &range)
                .map(|found| buffer.copy_from_slice(&found)),
        )
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        let objects = self.objects.lock();
        let row = |(name, body): (&String, &Bytes)| ListedObject {
            name: name.clone(),
            bytes: body.len() as u64,
        };
        Box::pin(ready(Ok(objects.iter().map(row).collect())))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let removed = self.objects.lock().remove(name);
            removed
                .map(drop)
                .ok_or_else(|| failed(StoreErrorKind::NotFound, "delete", name))
        })
    }

    fn url(&self) -> String {
        "memory://".to_owned()
    }
}
