//! An object store at the far end of a network, and what its clients see of it: requests take a
//! while, overtake each other, fail before or after they are carried out, lose their answers, and
//! arrive when nobody waits for them any more; lists come late. A store may break its
//! [contract](Contract), too.
//!
//! [`Cloud`] is the store, which outlives everybody; a [`Line`] is one client's way to it, which
//! goes down with its machine. What was sent by then may still be carried out.

mod contents;
mod mood;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::executor::{Executor, Group, Stop};
use crate::points::{Place, Points};
use crate::random::Random;

use contents::{Asked, Contents};
use mood::Fate;
use request::{Delete, Get, List, Put, Request};

pub use contents::{Breach, Contract, Stored, Turn};
pub use mood::{LATEST, Mood};
pub use request::Verb;

const URL: &str = "sim://volume";

/// The store itself. Clones are the same.
#[derive(Clone)]
pub struct Cloud {
    executor: Executor,
    /// What carries out requests whoever asked for them.
    group: Group,
    contents: Arc<Mutex<Contents>>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.contents.lock();
        f.debug_list().entries(contents.objects().keys()).finish()
    }
}

impl Cloud {
    /// An empty store. What it does by chance the seed decides.
    #[must_use]
    pub fn new(executor: &Executor, contract: Contract, seed: u64) -> Self {
        Self {
            executor: executor.clone(),
            group: executor.group(),
            contents: Arc::new(Mutex::new(Contents::new(contract, seed))),
        }
    }

    /// A client's way to it. Its machine is `group`, which ends where `points` say.
    #[must_use]
    pub fn line(&self, group: Group, mood: Mood, seed: u64, points: Points) -> Line {
        Line {
            cloud: self.clone(),
            group,
            mood: Arc::new(Mutex::new(mood)),
            random: Arc::new(Mutex::new(Random::new(seed))),
            points,
        }
    }

    /// All that is there.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Stored> {
        self.contents.lock().objects().clone()
    }

    /// When the last list that this client asked for was carried out.
    #[must_use]
    pub fn last_list(&self, client: Group) -> Option<Turn> {
        self.contents.lock().last_list(client)
    }

    /// When the last request was carried out that changes or lists anything.
    #[must_use]
    pub fn turn(&self) -> Turn {
        self.contents.lock().turn()
    }

    fn carry_out<R: Request>(&self, request: &R, by: Group) -> Result<R::Answer, StoreErrorKind> {
        let now = self.executor.now();
        request.carry_out(&mut self.contents.lock(), Asked { by, now })
    }
}

/// One client's way to the store.
#[derive(Clone)]
pub struct Line {
    cloud: Cloud,
    group: Group,
    mood: Arc<Mutex<Mood>>,
    random: Arc<Mutex<Random>>,
    points: Points,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line of {:?}", self.group)
    }
}

impl Line {
    /// From now on requests fare like this.
    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// How requests fare now.
    #[must_use]
    pub fn mood(&self) -> Mood {
        *self.mood.lock()
    }

    /// Sends the request and waits for its answer. Once it is sent it is carried out whoever waits.
    async fn ask<R: Request>(&self, request: R) -> Result<R::Answer, StoreError> {
        let (verb, object) = (R::VERB, request.object().to_owned());
        let place = Place::of_store(verb, &object, request.body(), self.points.phase());
        self.pass(place, false).await;
        self.points.send(place);
        let outcome = match self.send(request).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreErrorKind::Unavailable),
        };
        self.pass(place, true).await;
        outcome.map_err(|kind| StoreError::new(kind, verb.name(), format!("{URL}/{object}")))
    }

    /// Goes on only where the machine does.
    async fn pass(&self, place: Place, is_done: bool) {
        let executor = &self.cloud.executor;
        match self.points.pass(place, is_done) {
            None => return,
            Some(Stop::End) => executor.end(self.group),
            Some(Stop::Stall) => executor.stall(self.group),
        }
        // Nothing of the machine runs behind this, until it is resumed.
        executor.sleep(Duration::from_nanos(1)).await;
    }

    fn send<R: Request>(&self, request: R) -> oneshot::Receiver<Result<R::Answer, StoreErrorKind>> {
        let mood = self.mood();
        let (before, fate, after) = mood.fate(R::VERB, &mut self.random.lock());
        let (answer, answered) = oneshot::channel();
        let (cloud, by) = (self.cloud.clone(), self.group);
        let task = async move {
            cloud.executor.sleep(before).await;
            let outcome = match fate {
                Fate::Refused(kind) => Err(kind),
                Fate::Late(then) => {
                    drop(answer.send(Err(StoreErrorKind::TooSlow)));
                    if let Some(then) = then {
                        cloud.executor.sleep(then).await;
                        // Nobody waits for what becomes of it.
                        drop(cloud.carry_out(&request, by));
                    }
                    return;
                }
                Fate::Unanswered => {
                    drop(cloud.carry_out(&request, by));
                    Err(StoreErrorKind::Unavailable)
                }
                Fate::Truncated => Err(StoreErrorKind::Truncated),
                Fate::Answered => cloud.carry_out(&request, by),
            };
            cloud.executor.sleep(after).await;
            drop(answer.send(outcome));
        };
        self.cloud.executor.spawn(self.cloud.group, Box::pin(task));
        answered
    }
}

impl ObjectStore for Line {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut bytes = BytesMut::new();
        body.iter().for_each(|part| bytes.extend_from_slice(part));
        Box::pin(self.ask(Put {
            name: name.to_owned(),
            body: bytes.freeze(),
        }))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.ask(Get {
            name: name.to_owned(),
            range: None,
        }))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.ask(Get {
            name: name.to_owned(),
            range: Some(range),
        }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(self.ask(List))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.ask(Delete {
            name: name.to_owned(),
        }))
    }

    fn url(&self) -> String {
        URL.to_owned()
    }
}
