//! The fence check: what was answered counts as persisted only when nobody took over meanwhile.
//!
//! One check covers all uploads that were answered before it began. While anything is not persisted
//! there is a check at least every [`FENCE_CHECK_MAX`]. Whoever uses a volume of which all is persisted
//! has it checked as often: a flush waits for that, a read does not. An idle volume asks the store for
//! nothing.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::OwnSuperblocks;
use crate::doors::runtime::Runtime;
use crate::state::batch::Batcher;
use crate::state::progress::Progress;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Signal};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{
    FENCE_CHECK_MAX, FENCE_CHECK_PATIENCE, FENCE_CHECK_PATIENCE_MAX, FENCE_CHECK_PAUSE,
    STORE_PATIENCE,
};
use crate::words::name::ObjectId;

/// The checks of one writer.
#[derive(Debug)]
pub(crate) struct Fence {
    own: Arc<OwnSuperblocks>,
    runtime: Arc<dyn Runtime>,
    progress: Arc<Progress>,
    /// Accepts nothing more once this writer is fenced.
    batcher: Arc<Batcher>,
    state: Mutex<State>,
    /// When the last check began that passed, or that the store did not answer: nanoseconds of the
    /// runtime's clock. Apart from the rest, since every read looks at it.
    known: AtomicU64,
    /// Whether somebody uses the volume who wants to know.
    is_asked: AtomicBool,
    /// Notified when that becomes so.
    asked: Signal,
    /// Held by the flush that checks: those that come meanwhile use the outcome.
    checking: tokio::sync::Mutex<()>,
    fenced: OnceLock<Error>,
    /// How long checks fail before what waits for them fails.
    retry_timeout: Duration,
}

/// Place of a failing check among stuck uploads: behind all of them.
const CHECK: u64 = u64::MAX - 1;

#[derive(Debug)]
struct State {
    /// When the last check that passed began.
    passed: Duration,
    /// When the persisted point last moved, since the Unix epoch.
    persisted_at: Option<Duration>,
}

/// Dropped when the checks end other than by themselves: whoever waits for something to be persisted,
/// or for room that only this makes, would wait for ever.
struct Ending<'a> {
    fence: &'a Fence,
    by_itself: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.by_itself {
            return;
        }
        let message = "the volume's background work ended before everything was persisted: its \
                       runtime was shut down, or a task of it panicked";
        let error = Error::new(ErrorKind::Unavailable, message);
        self.fence.progress.ended(error);
        self.fence.batcher.wake_waiting();
    }
}

impl Fence {
    /// A writer whose first superblock counts as a check that passed.
    pub(crate) fn new(
        own: Arc<OwnSuperblocks>,
        runtime: Arc<dyn Runtime>,
        progress: Arc<Progress>,
        batcher: Arc<Batcher>,
        retry_timeout: Duration,
    ) -> Self {
        let since = own.since();
        let state = State {
            passed: since,
            persisted_at: None,
        };
        Self {
            own,
            runtime,
            progress,
            batcher,
            state: Mutex::new(state),
            known: AtomicU64::new(nanoseconds(since)),
            is_asked: AtomicBool::new(false),
            asked: Signal::default(),
            checking: tokio::sync::Mutex::default(),
            fenced: OnceLock::new(),
            retry_timeout,
        }
    }

    /// The superblocks of this writer.
    pub(crate) const fn own(&self) -> &Arc<OwnSuperblocks> {
        &self.own
    }

    /// When something was last known to be persisted, since the Unix epoch.
    pub(crate) fn persisted_at(&self) -> Option<Duration> {
        self.state.lock().persisted_at
    }

    /// Fails once another writer took over.
    pub(crate) fn refuse_fenced(&self) -> Result<()> {
        self.fenced.get().cloned().map_or(Ok(()), Err)
    }

    /// Fails once another writer took over, and has somebody look whether one did where nobody has
    /// lately: who only reads learns of it, too.
    pub(crate) fn refuse_fenced_and_look(&self) -> Result<()> {
        self.refuse_fenced()?;
        if !self.is_known_lately() && !self.is_asked.swap(true, Ordering::AcqRel) {
            self.asked.notify();
        }
        Ok(())
    }

    /// Makes sure that a check passed that began less than [`FENCE_CHECK_MAX`] ago, unless the store
    /// cannot be asked. A store that does not answer within [`FENCE_CHECK_PATIENCE`] cannot be asked.
    pub(crate) async fn passed_lately(&self) -> Result<()> {
        self.refuse_fenced()?;
        if self.is_known_lately() {
            return Ok(());
        }
        let began = self.runtime.now();
        let looked = Box::pin(self.look());
        let patience = self.runtime.sleep(FENCE_CHECK_PATIENCE);
        match select(looked, patience).await {
            Either::Left((Err(error), _)) if error.kind() == ErrorKind::Fenced => Err(error),
            // The log keeps what was written until the store can be asked again.
            Either::Left(_) => self.refuse_fenced(),
            Either::Right(_) => {
                self.is_known_since(began);
                self.refuse_fenced()
            }
        }
    }

    /// One check for all flushes that want one.
    async fn look(&self) -> Result<()> {
        let _turn = self.checking.lock().await;
        if self.is_known_lately() {
            return Ok(());
        }
        self.check(STORE_PATIENCE).await
    }

    fn is_known_lately(&self) -> bool {
        let known = Duration::from_nanos(self.known.load(Ordering::Acquire));
        self.runtime.now().saturating_sub(known) < FENCE_CHECK_MAX
    }

    fn is_known_since(&self, began: Duration) {
        self.known.fetch_max(nanoseconds(began), Ordering::AcqRel);
    }

    /// Waits until a check has to be made: gives whether for what is not persisted, or else for those
    /// who ask.
    async fn wanted(&self) -> bool {
        let asked = || {
            let is_asked = self.is_asked.swap(false, Ordering::AcqRel);
            (is_asked && !self.is_known_lately()).then_some(())
        };
        let asked = Box::pin(self.asked.until(asked));
        match select(Box::pin(self.progress.at_risk()), asked).await {
            Either::Left(_) => true,
            Either::Right(_) => false,
        }
    }

    /// Checks whenever there is something to persist, and often enough while anything is at risk,
    /// until everything ended or this writer is fenced.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ending = Ending {
            fence: &self,
            by_itself: false,
        };
        let mut patience = STORE_PATIENCE;
        let mut failing_since = None;
        loop {
            if !self.wanted().await {
                // Not in the turn of the flushes, which are not to wait for one that hangs; nor does what
                // is to be persisted from now on, or a close.
                let checked = Box::pin(self.check(STORE_PATIENCE));
                match select(checked, Box::pin(self.progress.at_risk())).await {
                    Either::Left((Err(error), _)) if error.kind() == ErrorKind::Fenced => break,
                    // What the store did not answer is asked again by the next who wants to know.
                    Either::Left(_) | Either::Right(_) => continue,
                }
            }
            self.progress.see(self.runtime.now());
            let Some(answered) = self.next().await else {
                break;
            };
            let began = self.runtime.now();
            let checked = self.check(patience).await;
            let now = self.runtime.now();
            let took = now.saturating_sub(began);
            match checked {
                Ok(()) => {
                    if failing_since.take().is_some() {
                        self.progress.unstuck(CHECK);
                    }
                    if let Some(answered) = answered {
                        self.progress.persist(answered);
                        self.state.lock().persisted_at = Some(self.runtime.wall_clock());
                    }
                    if took < STORE_PATIENCE {
                        patience = STORE_PATIENCE;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Fenced => break,
                Err(error) => {
                    if failing_since.is_none() {
                        tracing::warn!(%error, "cannot see whether another writer took over");
                    }
                    // From the beginning of the check on: one that is not answered fails late.
                    let since = *failing_since.get_or_insert(began);
                    if now.saturating_sub(since) >= self.retry_timeout {
                        self.progress.stuck(CHECK, error);
                        self.batcher.wake_waiting();
                    }
                    if took >= patience {
                        patience = (patience * 2).min(FENCE_CHECK_PATIENCE_MAX);
                    }
                    self.pause().await;
                }
            }
        }
        ending.by_itself = true;
    }

    /// Waits until a check is due, and gives what it would persist; nothing when all is over. Where the
    /// log failed, what it lacks is at risk for good, and reads go on: they must learn of a take-over
    /// until nobody can read any more.
    async fn next(&self) -> Option<Option<ObjectId>> {
        let passed = self.state.lock().passed;
        let due = passed + FENCE_CHECK_MAX / 2;
        let timer = self.runtime.sleep(due.saturating_sub(self.runtime.now()));
        let answered = Box::pin(self.progress.unpersisted());
        let abandoned = Box::pin(async {
            self.progress.completed().await;
            self.batcher.until_closed().await;
        });
        match select(answered, select(abandoned, timer)).await {
            Either::Left((answered, _)) => answered.map(Some),
            Either::Right((Either::Left(_), _)) => None,
            Either::Right((Either::Right(_), _)) => Some(None),
        }
    }

    /// One check, in which each request to the store is given `patience`.
    async fn check(&self, patience: Duration) -> Result<()> {
        self.refuse_fenced()?;
        let began = self.runtime.now();
        let checked = self.own.check(patience).await;
        match &checked {
            Ok(()) => {
                let mut state = self.state.lock();
                state.passed = state.passed.max(began);
                self.is_known_since(began);
            }
            Err(error) if error.kind() == ErrorKind::Fenced => self.fence(error),
            Err(_) => self.is_known_since(began),
        }
        checked
    }

    /// From now on nothing is read, written, flushed or stored.
    pub(crate) fn fence(&self, error: &Error) {
        if self.fenced.set(error.clone()).is_ok() {
            tracing::error!(%error, "fenced");
            self.progress.ended(error.clone());
            self.batcher.fail(error.clone());
        }
    }

    /// Waits, but not when all is over.
    async fn pause(&self) {
        let pause = self.runtime.sleep(FENCE_CHECK_PAUSE);
        let over = Box::pin(self.progress.over());
        match select(pause, over).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

/// Of the runtime's clock, which does not get as far as [`u64::MAX`].
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
