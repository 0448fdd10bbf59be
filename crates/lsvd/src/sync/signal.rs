//! Waiting for a condition, by threads and tasks alike.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::Mutex;

/// Wakes those who wait until a condition over some other state holds.
///
/// Whoever changes that state calls [`notify`](Self::notify) *after* the change; a waiter looks
/// again behind its registration, so no change between look and sleep is missed.
#[derive(Debug, Default)]
pub struct Signal {
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    next_key: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Signal {
    /// Wakes all who wait; each looks at its own condition again.
    pub fn notify(&self) {
        let wakers = std::mem::take(&mut self.waiters.lock().wakers);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Waits until `ready` gives something. It is called many times, and must not wait itself.
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let key = {
            let mut waiters = self.waiters.lock();
            waiters.next_key += 1;
            waiters.next_key
        };
        let registration = Registration { signal: self, key };
        let result = poll_fn(|context| {
            if let Some(value) = ready() {
                return Poll::Ready(value);
            }
            registration.register(context.waker());
            ready().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        drop(registration);
        result
    }
}

/// One waiter's place in the list; leaves it when the waiter goes, however it goes.
struct Registration<'a> {
    signal: &'a Signal,
    key: u64,
}

impl Registration<'_> {
    fn register(&self, waker: &Waker) {
        let wakers = &mut self.signal.waiters.lock().wakers;
        match wakers.iter_mut().find(|(key, _)| *key == self.key) {
            Some((_, registered)) => registered.clone_from(waker),
            None => wakers.push((self.key, waker.clone())),
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.signal
            .waiters
            .lock()
            .wakers
            .retain(|(key, _)| *key != self.key);
    }
}
