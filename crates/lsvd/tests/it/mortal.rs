//! A store whose client dies: from some request on nothing reaches it any more.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use lsvd_store::{MemoryStore, Verb};

/// When the client of a [`Mortal`] store dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Never,
    /// Before request number so many is carried out, counted from 0.
    Before(usize),
    /// After it is, but before it is answered.
    After(usize),
}

/// Writes down what it is asked, up to the death.
#[derive(Debug)]
pub(crate) struct Mortal {
    inner: Arc<MemoryStore>,
    death: Death,
    asked: Mutex<Vec<(Verb, String)>>,
}

impl Mortal {
    pub(crate) fn new(inner: Arc<MemoryStore>, death: Death) -> Self {
        Self {
            inner,
            death,
            asked: Mutex::new(Vec::new()),
        }
    }

    /// What it was asked, the request at which it died included.
    pub(crate) fn asked(&self) -> Vec<(Verb, String)> {
        self.asked.lock().unwrap().clone()
    }

    async fn meet<T>(
        &self,
        verb: Verb,
        name: &str,
        request: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            let is_over = match self.death {
                Death::Never => false,
                Death::Before(last) | Death::After(last) => asked.len() > last,
            };
            if is_over {
                return Err(dead(name));
            }
            asked.push((verb, name.to_owned()));
            asked.len() - 1
        };
        if self.death == Death::Before(number) {
            return Err(dead(name));
        }
        let answer = request.await;
        if self.death == Death::After(number) {
            return Err(dead(name));
        }
        answer
    }
}

fn dead(name: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "reach", name).because("this client is dead")
}

impl ObjectStore for Mortal {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.meet(Verb::Put, name, self.inner.put(name, body)))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.meet(Verb::Get, name, self.inner.get(name)))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.meet(Verb::Get, name, self.inner.get_range(name, range)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(self.meet(Verb::List, "", self.inner.list()))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.meet(Verb::Delete, name, self.inner.delete(name)))
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
