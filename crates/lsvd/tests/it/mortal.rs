//! A store whose client dies, or is stalled: from some request on nothing reaches it any more, or
//! not before the client is woken.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use lsvd_store::{MemoryStore, Verb};
use tokio::sync::watch;

/// When the client of a [`Mortal`] store dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Never,
    /// Before request number so many is carried out, counted from 0.
    Before(usize),
    /// After it is, but before it is answered.
    After(usize),
}

/// Writes down what it is asked.
#[derive(Debug)]
pub(crate) struct Mortal {
    inner: Arc<MemoryStore>,
    death: Death,
    asked: Mutex<Vec<(Verb, String)>>,
    sleep: Option<watch::Sender<Sleep>>,
}

/// How far a client is that is not dead but asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Before,
    Asleep,
    Woken,
}

impl Mortal {
    pub(crate) fn new(inner: Arc<MemoryStore>, death: Death) -> Self {
        Self {
            inner,
            death,
            asked: Mutex::new(Vec::new()),
            sleep: None,
        }
    }

    /// What would be the client's death is a sleep: all its requests from then on wait until it is
    /// woken, and are carried out, or answered, then.
    pub(crate) fn asleep(inner: Arc<MemoryStore>, death: Death) -> Self {
        Self {
            sleep: Some(watch::Sender::new(Sleep::Before)),
            ..Self::new(inner, death)
        }
    }

    pub(crate) fn is_asleep(&self) -> bool {
        let sleep = self.sleep.as_ref();
        sleep.is_some_and(|sleep| *sleep.borrow() == Sleep::Asleep)
    }

    pub(crate) fn wake(&self) {
        if let Some(sleep) = &self.sleep {
            sleep.send_replace(Sleep::Woken);
        }
    }

    /// Returns where the client goes on after all.
    async fn end(&self, name: &str) -> Result<(), StoreError> {
        let Some(sleep) = &self.sleep else {
            return Err(dead(name));
        };
        sleep.send_if_modified(|sleep| {
            let falls_asleep = *sleep == Sleep::Before;
            if falls_asleep {
                *sleep = Sleep::Asleep;
            }
            falls_asleep
        });
        let mut watched = sleep.subscribe();
        let woken = watched.wait_for(|sleep| *sleep == Sleep::Woken).await;
        woken.map(drop).map_err(|_| dead(name))
    }

    /// What it was asked.
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
            asked.push((verb, name.to_owned()));
            asked.len() - 1
        };
        let last = match self.death {
            Death::Never => usize::MAX,
            Death::Before(last) | Death::After(last) => last,
        };
        if number > last || self.death == Death::Before(number) {
            self.end(name).await?;
        }
        let answer = request.await;
        if self.death == Death::After(number) {
            self.end(name).await?;
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
