//! An object store at the far end of a network, and what its clients see of it: requests take a
//! while, overtake each other, fail before or after they are carried out, lose their answers, and
//! arrive when nobody waits for them any more.
//!
//! [`Cloud`] is the store, which outlives everybody; a [`Line`] is one client's way to it, which
//! goes down with its machine. What was sent by then may still be carried out.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::executor::{Executor, Group};
use crate::points::{Place, Points};
use crate::random::Random;

const URL: &str = "sim://volume";

/// The store itself. Clones are the same.
#[derive(Clone)]
pub struct Cloud {
    executor: Executor,
    /// What carries out requests whoever asked for them.
    group: Group,
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

/// How a client's requests fare: percentages, and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mood {
    /// Longest time that a request takes, mostly.
    pub slowest: Duration,
    /// How many of a hundred fail before they are carried out.
    pub refused: u64,
    /// How many are carried out and fail all the same.
    pub unanswered: u64,
    /// How many creations are given up as too slow, and carried out much later, or never.
    pub late: u64,
    /// How many reads end too early.
    pub truncated: u64,
    /// Nothing but reads gets through.
    pub is_full: bool,
}

impl Mood {
    /// A store that works.
    pub const GOOD: Self = Self {
        slowest: Duration::from_millis(5),
        refused: 0,
        unanswered: 0,
        late: 0,
        truncated: 0,
        is_full: false,
    };

    /// One of many, as the seed has it.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        if random.chance(30) {
            return Self::GOOD;
        }
        let some = |random: &mut Random| match random.below(3) {
            0 => random.below(12),
            _ => 0,
        };
        let slowest = match random.below(4) {
            0 => 1,
            1 => 10,
            2 => 60,
            _ => 400,
        };
        Self {
            slowest: Duration::from_millis(slowest),
            refused: some(random),
            unanswered: some(random),
            late: some(random) / 2,
            truncated: some(random) / 2,
            is_full: random.chance(6),
        }
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.objects.lock().keys()).finish()
    }
}

impl Cloud {
    /// An empty store.
    #[must_use]
    pub fn new(executor: &Executor) -> Self {
        Self {
            executor: executor.clone(),
            group: executor.group(),
            objects: Arc::default(),
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
            has_claimed: Arc::default(),
        }
    }

    fn carry_out(&self, request: &Request) -> Result<Answer, StoreErrorKind> {
        let mut objects = self.objects.lock();
        match request {
            Request::Put(name, body) => {
                if objects.contains_key(name) {
                    return Err(StoreErrorKind::AlreadyExists);
                }
                objects.insert(name.clone(), body.clone());
                Ok(Answer::Done)
            }
            Request::Get(name, range) => {
                let object = objects.get(name).ok_or(StoreErrorKind::NotFound)?;
                let Some(range) = range else {
                    return Ok(Answer::Bytes(object.clone()));
                };
                let end = usize::try_from(range.end).unwrap_or(usize::MAX);
                let start = usize::try_from(range.start).unwrap_or(usize::MAX);
                if end > object.len() || start > end {
                    return Err(StoreErrorKind::Truncated);
                }
                Ok(Answer::Bytes(object.slice(start..end)))
            }
            Request::List => {
                let listed = objects.iter().map(|(name, object)| ListedObject {
                    name: name.clone(),
                    bytes: object.len() as u64,
                });
                Ok(Answer::List(listed.collect()))
            }
            Request::Delete(name) => match objects.remove(name) {
                Some(_) => Ok(Answer::Done),
                None => Err(StoreErrorKind::NotFound),
            },
        }
    }
}

#[derive(Clone, Debug)]
enum Request {
    Put(String, Bytes),
    Get(String, Option<Range<u64>>),
    List,
    Delete(String),
}

#[derive(Debug)]
enum Answer {
    Done,
    Bytes(Bytes),
    List(Vec<ListedObject>),
}

impl Request {
    const fn verb(&self) -> &'static str {
        match self {
            Self::Put(..) => "create",
            Self::Get(..) => "read",
            Self::List => "list",
            Self::Delete(_) => "delete",
        }
    }

    fn object(&self) -> &str {
        match self {
            Self::Put(name, _) | Self::Get(name, _) | Self::Delete(name) => name,
            Self::List => "",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused(StoreErrorKind),
    Unanswered,
    /// Given up now; carried out after this, if ever.
    Late(Option<Duration>),
    Truncated,
}

/// One client's way to the store.
#[derive(Clone)]
pub struct Line {
    cloud: Cloud,
    group: Group,
    mood: Arc<Mutex<Mood>>,
    random: Arc<Mutex<Random>>,
    points: Points,
    /// Whether the store has a superblock from here.
    has_claimed: Arc<AtomicBool>,
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

    /// Whether the store has taken a superblock from here.
    #[must_use]
    pub fn has_claimed(&self) -> bool {
        self.has_claimed.load(Ordering::Relaxed)
    }

    fn fate(&self, request: &Request) -> (Duration, Fate, Duration) {
        let mut random = self.random.lock();
        let mood = *self.mood.lock();
        let span = u64::try_from(mood.slowest.as_micros()).unwrap_or(u64::MAX);
        let mut times = || Duration::from_micros(random.below(span + 1));
        let (before, after) = (times(), times());
        let changes = matches!(request, Request::Put(..) | Request::Delete(_));
        let fate = if changes && mood.is_full {
            Fate::Refused(StoreErrorKind::NoSpace)
        } else if random.chance(mood.refused) {
            Fate::Refused(StoreErrorKind::Unavailable)
        } else if random.chance(mood.unanswered) {
            Fate::Unanswered
        } else if matches!(request, Request::Put(..)) && random.chance(mood.late) {
            let then = Duration::from_millis(random.below(60_000));
            Fate::Late(random.chance(70).then_some(then))
        } else if matches!(request, Request::Get(..)) && random.chance(mood.truncated) {
            Fate::Truncated
        } else {
            Fate::Answered
        };
        (before, fate, after)
    }

    /// Sends the request and waits for its answer. Once it is sent it is carried out whoever waits.
    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let place = Place::of_store(request.verb(), request.object());
        if self.points.is_last(place, false) {
            self.cloud.executor.end(self.group);
            return pending().await;
        }
        let failed =
            |kind| StoreError::new(kind, request.verb(), format!("{URL}/{}", request.object()));
        let (before, fate, after) = self.fate(&request);
        let (answer, answered) = oneshot::channel();
        let task = {
            let (cloud, request) = (self.cloud.clone(), request.clone());
            let has_claimed = Arc::clone(&self.has_claimed);
            async move {
                let carry_out = || {
                    let outcome = cloud.carry_out(&request)?;
                    has_claimed.fetch_or(place == Place::CreateSuperblock, Ordering::Relaxed);
                    Ok(outcome)
                };
                cloud.executor.sleep(before).await;
                let outcome = match fate {
                    Fate::Refused(kind) => Err(kind),
                    Fate::Late(then) => {
                        drop(answer.send(Err(StoreErrorKind::TooSlow)));
                        if let Some(then) = then {
                            cloud.executor.sleep(then).await;
                            // Nobody waits for what becomes of it.
                            drop(carry_out());
                        }
                        return;
                    }
                    Fate::Unanswered => {
                        drop(carry_out());
                        Err(StoreErrorKind::Unavailable)
                    }
                    Fate::Truncated => Err(StoreErrorKind::Truncated),
                    Fate::Answered => carry_out(),
                };
                cloud.executor.sleep(after).await;
                drop(answer.send(outcome));
            }
        };
        self.cloud.executor.spawn(self.cloud.group, Box::pin(task));
        let outcome = match answered.await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreErrorKind::Unavailable),
        };
        if self.points.is_last(place, true) {
            self.cloud.executor.end(self.group);
            return pending().await;
        }
        outcome.map_err(failed)
    }
}

impl ObjectStore for Line {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut bytes = BytesMut::new();
        body.iter().for_each(|part| bytes.extend_from_slice(part));
        let request = Request::Put(name.to_owned(), bytes.freeze());
        Box::pin(async move { self.ask(request).await.map(drop) })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.bytes(name, None))
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.bytes(name, Some(range)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(async {
            match self.ask(Request::List).await? {
                Answer::List(listed) => Ok(listed),
                Answer::Done | Answer::Bytes(_) => Ok(Vec::new()),
            }
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let request = Request::Delete(name.to_owned());
        Box::pin(async move { self.ask(request).await.map(drop) })
    }

    fn url(&self) -> String {
        URL.to_owned()
    }
}

impl Line {
    async fn bytes(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        match self.ask(Request::Get(name.to_owned(), range)).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Done | Answer::List(_) => Ok(Bytes::new()),
        }
    }
}
