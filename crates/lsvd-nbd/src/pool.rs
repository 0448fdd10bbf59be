//! The memory that all connections share for long and waiting requests: only a count, granted
//! before a buffer is made and given back when it is gone. It is granted in the order of asking,
//! so that those who want little cannot keep it from those who want much.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// The shared memory.
pub(crate) struct Pool {
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// The sessions that wait, in the order of asking. The first one is woken to try again.
    waiters: VecDeque<(u64, Waker)>,
}

impl Pool {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let state = State {
            free: bytes,
            waiters: VecDeque::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bytes, or has the session wait behind those who wait already. It is woken when
    /// it is the first and something is given back.
    fn take(&self, session: u64, bytes: usize, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let place = state.waiters.iter().position(|(id, _)| *id == session);
        let is_first = place.map_or(state.waiters.is_empty(), |at| at == 0);
        if is_first && state.free >= bytes {
            state.free -= bytes;
            if place.is_some() {
                state.waiters.pop_front();
                wake_first(state);
            }
            return true;
        }
        match place.and_then(|at| state.waiters.get_mut(at)) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.waiters.push_back((session, cx.waker().clone())),
        }
        false
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.lock();
        state.free += bytes;
        wake_first(state);
    }

    /// Takes the session out of the queue.
    fn forget(&self, session: u64) {
        let mut state = self.lock();
        state.waiters.retain(|(id, _)| *id != session);
        wake_first(state);
    }

    /// Whether a session other than this one waits for memory.
    fn is_wanted_beside(&self, session: u64) -> bool {
        self.lock().waiters.iter().any(|(id, _)| *id != session)
    }
}

fn wake_first(state: MutexGuard<'_, State>) {
    let waker = state.waiters.front().map(|(_, waker)| waker.clone());
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One session's share: its private bytes first, then the pool.
pub(crate) struct Purse {
    session: u64,
    pool: Arc<Pool>,
    private: Arc<AtomicUsize>,
    pooled: Arc<AtomicUsize>,
    /// The session is in the pool's queue.
    waiting: bool,
    /// It has asked for memory in this turn and got none.
    asked: bool,
}

/// Granted bytes, given back when dropped.
pub(crate) struct Grant {
    bytes: usize,
    private: Arc<AtomicUsize>,
    /// The pool and the session's count of what it holds of it, if the bytes are the pool's.
    pool: Option<(Arc<Pool>, Arc<AtomicUsize>)>,
}

impl Grant {
    /// Parts with so many of the bytes, or with all there are.
    pub(crate) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            bytes,
            private: Arc::clone(&self.private),
            pool: self.pool.clone(),
        }
    }
}

impl Purse {
    pub(crate) fn new(session: u64, pool: Arc<Pool>, private: usize) -> Self {
        Self {
            session,
            pool,
            private: Arc::new(AtomicUsize::new(private)),
            pooled: Arc::default(),
            waiting: false,
            asked: false,
        }
    }

    /// Takes the bytes, or has the session wait for its turn. A session has to try again
    /// whenever it is woken, for whatever reason.
    pub(crate) fn take(&mut self, bytes: usize, cx: &Context<'_>) -> Option<Grant> {
        let private = self
            .private
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            });
        if private.is_ok() {
            // If it waits for the pool it leaves the queue at the end of the turn.
            return Some(self.grant(bytes, false));
        }
        if !self.pool.take(self.session, bytes, cx) {
            self.waiting = true;
            self.asked = true;
            return None;
        }
        self.waiting = false;
        self.pooled.fetch_add(bytes, Ordering::Relaxed);
        Some(self.grant(bytes, true))
    }

    fn grant(&self, bytes: usize, pooled: bool) -> Grant {
        Grant {
            bytes,
            private: Arc::clone(&self.private),
            pool: pooled.then(|| (Arc::clone(&self.pool), Arc::clone(&self.pooled))),
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.asked = false;
    }

    /// Leaves the queue if the session could not use memory now: others would wait behind it.
    pub(crate) fn end_turn(&mut self) {
        if self.waiting && !self.asked {
            self.waiting = false;
            self.pool.forget(self.session);
        }
    }

    /// Whether this session holds memory of the pool that another waits for.
    pub(crate) fn holds_what_others_want(&self) -> bool {
        self.holds_pooled() && self.pool.is_wanted_beside(self.session)
    }

    /// Whether this session holds memory of the pool.
    pub(crate) fn holds_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        if self.waiting {
            self.pool.forget(self.session);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        match &self.pool {
            None => {
                self.private.fetch_add(self.bytes, Ordering::Relaxed);
            }
            Some((pool, held)) => {
                held.fetch_sub(self.bytes, Ordering::Relaxed);
                pool.give_back(self.bytes);
            }
        }
    }
}
