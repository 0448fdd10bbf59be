//! A store that fails when it is told to, for tests.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use parking_lot::Mutex;

/// The requests of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Creation.
    Put,
    /// Reads, of whole objects and of ranges.
    Get,
    /// Listing.
    List,
    /// Deletion.
    Delete,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "create",
            Self::Get => "read",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything was done.
    Refuse(StoreErrorKind),
    /// It is carried out, and then fails as `Unavailable`: the answer was lost.
    LoseReply,
    /// It hangs until [`Faulty::release`], and is carried out then.
    Hang,
    /// A creation is given up as too slow, and is carried out with [`Faulty::arrive`], whoever waits
    /// or no longer does; other requests are not changed.
    Late,
    /// A read finds the object cut after that many bytes; other requests are not changed.
    Truncate(u64),
    /// A read answers with this bit turned over (counted from the first byte of the answer,
    /// modulo its length); other requests are not changed.
    FlipBit(u64),
}

#[derive(Debug)]
struct Rule {
    verb: Verb,
    prefix: Option<String>,
    fault: Fault,
    times_left: u64,
}

/// Requests that hang, and how often they were released.
#[derive(Debug, Default)]
struct Gate {
    releases: u64,
    hanging: u64,
    wakers: Vec<Waker>,
}

/// Lets chosen requests of any store fail.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    rules: Mutex<Vec<Rule>>,
    gate: Mutex<Gate>,
    /// Creations that are under way still.
    late: Mutex<Vec<(String, Vec<Bytes>)>>,
}

impl Faulty {
    /// The store `inner`, nothing wrong with it yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            rules: Mutex::new(Vec::new()),
            gate: Mutex::new(Gate::default()),
            late: Mutex::default(),
        }
    }

    /// The next `times` requests with `verb` meet `fault`. Faults that were asked for earlier come
    /// first; `u64::MAX` times is for ever.
    pub fn fail_next(&self, verb: Verb, times: u64, fault: Fault) {
        self.add(verb, None, times, fault);
    }

    /// The same for requests to objects whose names begin so: to one object, or to one kind.
    pub fn fail_next_of(&self, prefix: &str, verb: Verb, times: u64, fault: Fault) {
        self.add(verb, Some(prefix.to_owned()), times, fault);
    }

    fn add(&self, verb: Verb, prefix: Option<String>, times: u64, fault: Fault) {
        if times > 0 {
            self.rules.lock().push(Rule {
                verb,
                prefix,
                fault,
                times_left: times,
            });
        }
    }

    /// Nothing more goes wrong. What hangs goes on hanging.
    pub fn mend(&self) {
        self.rules.lock().clear();
    }

    /// All requests that hang now go on.
    pub fn release(&self) {
        let wakers = {
            let mut gate = self.gate.lock();
            gate.releases += 1;
            std::mem::take(&mut gate.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// How many requests hang now.
    #[must_use]
    pub fn hanging(&self) -> u64 {
        self.gate.lock().hanging
    }

    /// How many creations are late now.
    #[must_use]
    pub fn late(&self) -> usize {
        self.late.lock().len()
    }

    /// Carries out the creations that are late, in the order of their coming, and gives what would be
    /// answered, if anybody were there.
    pub async fn arrive(&self) -> Vec<Result<(), StoreError>> {
        let late = std::mem::take(&mut *self.late.lock());
        let mut answers = Vec::with_capacity(late.len());
        for (name, body) in late {
            answers.push(self.inner.put(&name, body).await);
        }
        answers
    }

    /// The fault that the next request with `verb` to `object` meets, which is used up.
    fn next_fault(&self, verb: Verb, object: &str) -> Option<Fault> {
        let mut rules = self.rules.lock();
        let at = rules.iter().position(|rule| rule.matches(verb, object))?;
        let rule = &mut rules[at];
        let fault = rule.fault;
        rule.times_left -= u64::from(rule.times_left != u64::MAX);
        if rule.times_left == 0 {
            rules.remove(at);
        }
        Some(fault)
    }

    async fn hang(&self) {
        let hanging = Hanging::new(&self.gate);
        poll_fn(|context| {
            let mut gate = self.gate.lock();
            if gate.releases > hanging.since {
                return Poll::Ready(());
            }
            gate.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What every request does with the fault that it meets; `request` is the request itself.
    async fn meet<T>(
        &self,
        verb: Verb,
        object: &str,
        fault: Option<Fault>,
        request: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let failed = |kind| {
            let object = format!("{object} in {}", self.url());
            StoreError::new(kind, verb.as_str(), object).because("a fault was injected")
        };
        match fault {
            Some(Fault::Refuse(kind)) => Err(failed(kind)),
            Some(Fault::LoseReply) => {
                request.await?;
                Err(failed(StoreErrorKind::Unavailable))
            }
            Some(Fault::Hang) => {
                self.hang().await;
                request.await
            }
            Some(Fault::Late) if verb == Verb::Put => Err(failed(StoreErrorKind::TooSlow)),
            Some(Fault::Late | Fault::Truncate(_) | Fault::FlipBit(_)) | None => request.await,
        }
    }

    async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.next_fault(Verb::Get, name);
        if let Some(Fault::Truncate(bytes)) = fault
            && bytes < range.end
        {
            let object = format!("{name} in {}", self.url());
            return Err(StoreError::new(StoreErrorKind::Truncated, "read", object)
                .because("a fault was injected"));
        }
        let request = self.inner.get_range(name, range);
        let content = self.meet(Verb::Get, name, fault, request).await?;
        Ok(damage(content, fault))
    }
}

impl Rule {
    fn matches(&self, verb: Verb, object: &str) -> bool {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        self.verb == verb && object.starts_with(prefix)
    }
}

/// Counts a hanging request for as long as it hangs, dropped futures included.
struct Hanging<'a> {
    gate: &'a Mutex<Gate>,
    since: u64,
}

impl<'a> Hanging<'a> {
    fn new(gate: &'a Mutex<Gate>) -> Self {
        let mut locked = gate.lock();
        locked.hanging += 1;
        let since = locked.releases;
        drop(locked);
        Self { gate, since }
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.gate.lock().hanging -= 1;
    }
}

/// What a reader sees of `content` after this fault.
fn damage(content: Bytes, fault: Option<Fault>) -> Bytes {
    match fault {
        Some(Fault::Truncate(bytes)) => {
            let len = usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .min(content.len());
            content.slice(..len)
        }
        Some(Fault::FlipBit(bit)) if !content.is_empty() => {
            let bit = bit % (content.len() as u64 * 8);
            let mut content = BytesMut::from(content.as_ref());
            for (at, byte) in (0_u64..).zip(content.iter_mut()) {
                if at == bit / 8 {
                    *byte ^= 1 << (bit % 8);
                }
            }
            content.freeze()
        }
        _ => content,
    }
}

impl ObjectStore for Faulty {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let fault = self.next_fault(Verb::Put, name);
            if fault == Some(Fault::Late) {
                self.late.lock().push((name.to_owned(), body.clone()));
            }
            self.meet(Verb::Put, name, fault, self.inner.put(name, body))
                .await
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            let fault = self.next_fault(Verb::Get, name);
            let content = self
                .meet(Verb::Get, name, fault, self.inner.get(name))
                .await?;
            Ok(damage(content, fault))
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(self.read_range(name, range))
    }

    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        // A read that is to fail must not slip through here.
        let faults = self
            .rules
            .lock()
            .iter()
            .any(|rule| rule.matches(Verb::Get, name));
        if faults {
            return None;
        }
        self.inner.try_get_range(name, offset, buffer)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(async move {
            let fault = self.next_fault(Verb::List, "all objects");
            self.meet(Verb::List, "all objects", fault, self.inner.list())
                .await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let fault = self.next_fault(Verb::Delete, name);
            self.meet(Verb::Delete, name, fault, self.inner.delete(name))
                .await
        })
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
