//! The superblocks of one writer: the newest that is its own, and the making of the next.
//!
//! There is one creation outstanding at most. It is tried, always with the same bytes, until it is
//! known what became of it; whoever wanted it may have gone away meanwhile.

use std::time::Duration;

use super::{Creation, Superblocks, fenced};
use crate::bytes::superblock::{Superblock, VolumeState};
use crate::doors::runtime::Runtime;
use crate::sync::{Arc, Mutex};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::words::name::ObjectId;

/// What this writer knows of its own superblocks.
#[derive(Debug)]
pub(crate) struct OwnSuperblocks {
    superblocks: Superblocks,
    runtime: Arc<dyn Runtime>,
    /// When the creation of the first of them began, which proved that nobody took over before.
    since: Duration,
    /// One creation at a time.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// The highest that is known to be ours.
    newest: Superblock,
    /// A creation of ours of which it is not known what became of it.
    outstanding: Option<Superblock>,
}

impl OwnSuperblocks {
    pub(crate) fn new(
        superblocks: Superblocks,
        runtime: Arc<dyn Runtime>,
        newest: Superblock,
        since: Duration,
    ) -> Self {
        let outstanding = None;
        Self {
            superblocks,
            runtime,
            since,
            turn: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                newest,
                outstanding,
            }),
        }
    }

    /// When the creation of the first of them began.
    pub(crate) const fn since(&self) -> Duration {
        self.since
    }

    /// The newest of them.
    pub(crate) fn newest(&self) -> Superblock {
        self.state.lock().newest.clone()
    }

    /// Makes the next superblock, and tries for as long as it takes: the newest with `change`, and
    /// with `persisted` as what is known to be persisted.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where another writer took the volume over.
    pub(crate) async fn advance(
        &self,
        persisted: Option<ObjectId>,
        change: impl FnOnce(&mut VolumeState) + Send,
    ) -> Result<Superblock> {
        self.advance_unless(|_| false, persisted, change).await
    }

    /// The same, unless the newest turns out to be as `is_enough` wants it, which may be what an earlier
    /// attempt becomes: that is given then.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn advance_unless(
        &self,
        is_enough: impl FnOnce(&VolumeState) -> bool + Send,
        persisted: Option<ObjectId>,
        change: impl FnOnce(&mut VolumeState) + Send,
    ) -> Result<Superblock> {
        let _turn = self.turn.lock().await;
        let newest = self.settle().await?;
        if is_enough(&newest.state) {
            return Ok(newest);
        }
        let mut next = newest.state.clone();
        change(&mut next);
        let persisted = persisted.max(newest.persisted);
        let draft = self
            .superblocks
            .draft(newest.volume, Some(&newest), persisted, next)?;
        draft.encode().map_err(|error| {
            let message = format!("cannot make {}: this is a bug", draft.name());
            Error::new(ErrorKind::InvalidArgument, message).because(error)
        })?;
        self.state.lock().outstanding = Some(draft);
        self.settle().await
    }

    /// Finds out what became of the outstanding creation, if there is one; gives the newest.
    async fn settle(&self) -> Result<Superblock> {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let state = self.state.lock().clone();
            let Some(draft) = state.outstanding else {
                return Ok(state.newest);
            };
            match self.superblocks.create(&draft).await {
                Ok(Creation::Ours(created)) => self.adopt(*created),
                Ok(Creation::Lost(winner)) => {
                    return Err(fenced(&self.superblocks.store.url(), &winner));
                }
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    return Err(self.superblocks.fenced_if_damaged(draft.number, error));
                }
                Err(error) => {
                    tracing::warn!(%error, "a superblock is not there yet, and is tried again");
                    self.runtime.sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    /// The fence check: what was answered before it began is persisted when it passes. Each request
    /// to the store is given `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`], naming who took over; the store's where it is not known.
    pub(crate) async fn check(&self, patience: Duration) -> Result<()> {
        loop {
            let State {
                newest,
                outstanding,
            } = self.state.lock().clone();
            let outstanding_now = outstanding.as_ref();
            let checked = self
                .superblocks
                .check_fence(&newest, outstanding_now, patience);
            match checked.await {
                Ok(newest) => {
                    self.adopt(newest);
                    return Ok(());
                }
                // What was found may be what another task of ours began meanwhile.
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    let before = State {
                        newest,
                        outstanding,
                    };
                    if *self.state.lock() == before {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn adopt(&self, found: Superblock) {
        let mut state = self.state.lock();
        let settled = |draft: &Superblock| draft.number <= found.number;
        if state.outstanding.as_ref().is_some_and(settled) {
            state.outstanding = None;
        }
        if found.number > state.newest.number {
            state.newest = found;
        }
    }
}
