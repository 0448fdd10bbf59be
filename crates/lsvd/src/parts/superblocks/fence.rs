//! The fence check: what was answered counts as persisted only when nobody took over meanwhile.
//!
//! One check covers all uploads that were answered before it began. While anything is not persisted
//! there is a check at least every [`FENCE_CHECK_MAX`]; an idle volume asks the store for nothing.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::OwnSuperblocks;
use crate::doors::runtime::Runtime;
use crate::state::batch::Batcher;
use crate::state::progress::Progress;
use crate::sync::{Arc, Mutex};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{FENCE_CHECK_MAX, FENCE_CHECK_PATIENCE, FENCE_CHECK_PAUSE};
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
    /// Held by who checks: those who come meanwhile use the outcome.
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
    /// When the last check that the store did not answer began, if it was after that.
    unanswered: Option<Duration>,
    /// When the persisted point last moved, since the Unix epoch.
    persisted_at: Option<Duration>,
}

impl Fence {
    /// A writer whose newest superblock was created just now, which is a check that passed.
    pub(crate) fn new(
        own: Arc<OwnSuperblocks>,
        runtime: Arc<dyn Runtime>,
        progress: Arc<Progress>,
        batcher: Arc<Batcher>,
        retry_timeout: Duration,
    ) -> Self {
        let state = State {
            passed: runtime.now(),
            unanswered: None,
            persisted_at: None,
        };
        Self {
            own,
            runtime,
            progress,
            batcher,
            state: Mutex::new(state),
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

    /// Makes sure that a check passed that began less than [`FENCE_CHECK_MAX`] ago, unless the store
    /// cannot be asked or nothing is at risk.
    pub(crate) async fn passed_lately(&self) -> Result<()> {
        self.refuse_fenced()?;
        if !self.progress.is_at_risk() || self.is_known_lately() {
            return Ok(());
        }
        let _turn = self.checking.lock().await;
        if self.is_known_lately() {
            return self.refuse_fenced();
        }
        match self.check().await {
            Err(error) if error.kind() == ErrorKind::Fenced => Err(error),
            // The log keeps what was written until the store can be asked again.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn is_known_lately(&self) -> bool {
        let state = self.state.lock();
        let known = state.passed.max(state.unanswered.unwrap_or_default());
        self.runtime.now().saturating_sub(known) < FENCE_CHECK_MAX
    }

    /// Checks whenever there is something to persist, and often enough while anything is at risk,
    /// until everything ended or this writer is fenced.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut failing_since = None;
        loop {
            self.progress.at_risk().await;
            self.progress.see(self.runtime.now());
            let Some(answered) = self.next().await else {
                return;
            };
            let turn = self.checking.lock().await;
            let checked = self.check().await;
            drop(turn);
            match checked {
                Ok(()) => {
                    if failing_since.take().is_some() {
                        self.progress.unstuck(CHECK);
                    }
                    if let Some(answered) = answered {
                        self.progress.persist(answered);
                        self.state.lock().persisted_at = Some(self.runtime.wall_clock());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Fenced => return,
                Err(error) => {
                    let now = self.runtime.now();
                    let since = *failing_since.get_or_insert(now);
                    if since == now {
                        tracing::warn!(%error, "cannot see whether another writer took over");
                    }
                    if now.saturating_sub(since) >= self.retry_timeout {
                        self.progress.stuck(CHECK, error);
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// Waits until a check is due, and gives what it would persist; nothing when all is over.
    async fn next(&self) -> Option<Option<ObjectId>> {
        let passed = self.state.lock().passed;
        let due = passed + FENCE_CHECK_MAX / 2;
        let timer = self.runtime.sleep(due.saturating_sub(self.runtime.now()));
        let answered = Box::pin(self.progress.unpersisted());
        match select(answered, timer).await {
            Either::Left((answered, _)) => answered.map(Some),
            Either::Right(_) => Some(None),
        }
    }

    /// One check, by whoever holds the turn.
    async fn check(&self) -> Result<()> {
        self.refuse_fenced()?;
        let began = self.runtime.now();
        let checked = Box::pin(self.own.check());
        let patience = self.runtime.sleep(FENCE_CHECK_PATIENCE);
        let checked = match select(checked, patience).await {
            Either::Left((checked, _)) => checked,
            Either::Right(_) => {
                let message = "the store did not say in time whether another writer took over";
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        };
        match checked {
            Ok(()) => {
                let mut state = self.state.lock();
                state.passed = began;
                state.unanswered = None;
                Ok(())
            }
            Err(error) => {
                if error.kind() == ErrorKind::Fenced {
                    self.fence(&error);
                } else {
                    self.state.lock().unanswered = Some(began);
                }
                Err(error)
            }
        }
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
