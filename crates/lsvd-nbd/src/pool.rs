//! The memory that all connections share for long and waiting requests: only a count, granted
//! before a buffer is made and given back when it is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

/// The shared memory.
pub(crate) struct Pool {
    free: AtomicUsize,
    /// Who waits, by session. A session that is woken tries again, and waits anew.
    waiters: Mutex<Vec<(u64, Waker)>>,
    waiter_count: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
            waiters: Mutex::default(),
            waiter_count: AtomicUsize::new(0),
        })
    }

    fn try_take(&self, bytes: usize) -> bool {
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::SeqCst);
        if self.waiter_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiters = {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiter_count.store(0, Ordering::SeqCst);
            std::mem::take(&mut *waiters)
        };
        for (_, waker) in waiters {
            waker.wake();
        }
    }

    /// Wakes the session when something is given back.
    fn wait(&self, session: u64, cx: &Context<'_>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        match waiters.iter_mut().find(|(id, _)| *id == session) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiters.push((session, cx.waker().clone())),
        }
        self.waiter_count.store(waiters.len(), Ordering::SeqCst);
    }

    fn forget(&self, session: u64) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|(id, _)| *id != session);
        self.waiter_count.store(waiters.len(), Ordering::SeqCst);
    }

    /// Whether someone waits for memory.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiter_count.load(Ordering::SeqCst) > 0
    }
}

/// One session's share: its private bytes first, then the pool.
pub(crate) struct Purse {
    session: u64,
    pool: Arc<Pool>,
    private: Arc<AtomicUsize>,
    pooled: Arc<AtomicUsize>,
    waiting: bool,
}

/// Granted bytes, given back when dropped.
pub(crate) struct Grant {
    bytes: usize,
    private: Arc<AtomicUsize>,
    /// The pool and the session's count of what it holds of it, if the bytes are the pool's.
    pool: Option<(Arc<Pool>, Arc<AtomicUsize>)>,
}

impl Purse {
    pub(crate) fn new(session: u64, pool: Arc<Pool>, private: usize) -> Self {
        Self {
            session,
            pool,
            private: Arc::new(AtomicUsize::new(private)),
            pooled: Arc::default(),
            waiting: false,
        }
    }

    /// Takes the bytes, or arranges to be woken when it is worth trying again. A session has to
    /// try again after that even if it was woken for another reason.
    pub(crate) fn take(&mut self, bytes: usize, cx: &Context<'_>) -> Option<Grant> {
        let private = self
            .private
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            });
        if private.is_ok() {
            return Some(self.grant(bytes, false));
        }
        if self.pool.try_take(bytes) {
            return Some(self.grant(bytes, true));
        }
        self.pool.wait(self.session, cx);
        self.waiting = true;
        // What was given back between the try and the registration woke nobody.
        self.pool.try_take(bytes).then(|| self.grant(bytes, true))
    }

    fn grant(&mut self, bytes: usize, pooled: bool) -> Grant {
        if std::mem::take(&mut self.waiting) {
            self.pool.forget(self.session);
        }
        if pooled {
            self.pooled.fetch_add(bytes, Ordering::Relaxed);
        }
        Grant {
            bytes,
            private: Arc::clone(&self.private),
            pool: pooled.then(|| (Arc::clone(&self.pool), Arc::clone(&self.pooled))),
        }
    }

    /// Whether this session holds memory of the pool that another waits for.
    pub(crate) fn holds_what_others_want(&self) -> bool {
        self.holds_pooled() && self.pool.is_wanted()
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
