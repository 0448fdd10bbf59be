//! How far the write log is durable, and who waits for it.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::sync::{Mutex, Signal};
use crate::words::error::{Error, Result};
use crate::words::name::ObjectId;

/// A point of the stream: so many entries of a batch, and all batches before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamPoint {
    /// The batch.
    pub batch: ObjectId,
    /// Entries of it; [`u32::MAX`] for all, its end included.
    pub entries: u32,
}

/// The point up to which the log is durable.
#[derive(Debug, Default)]
pub struct Durable {
    state: Mutex<State>,
    /// Notified when somebody waits for a point that is not durable.
    wanted: Signal,
}

#[derive(Debug, Default)]
struct State {
    durable: Option<StreamPoint>,
    wanted: Option<StreamPoint>,
    failed: Option<Error>,
    /// Who waits, in no order. Only those are woken whose point is reached: under many flushes at
    /// once most wait for the commit after the one that ends.
    waiters: Vec<Waiter>,
    next_key: u64,
}

#[derive(Debug)]
struct Waiter {
    key: u64,
    point: StreamPoint,
    waker: Waker,
}

impl State {
    fn outcome(&self, point: StreamPoint) -> Option<Result<()>> {
        if self.durable >= Some(point) {
            return Some(Ok(()));
        }
        self.failed.clone().map(Err)
    }

    fn take_waiters(&mut self, is_done: impl Fn(&Waiter) -> bool) -> Vec<Waker> {
        let done = self.waiters.extract_if(.., |waiter| is_done(waiter));
        done.map(|waiter| waiter.waker).collect()
    }
}

impl Durable {
    /// Waits until the log is durable up to `point`, and asks for it.
    ///
    /// # Errors
    /// Why the log failed, now and for ever: what was not durable then may never be.
    pub async fn reached(&self, point: StreamPoint) -> Result<()> {
        let key = {
            let mut state = self.state.lock();
            if state.durable >= Some(point) {
                return Ok(());
            }
            state.next_key += 1;
            state.next_key
        };
        let place = Place { durable: self, key };
        poll_fn(|context| place.poll(point, context)).await
    }

    /// Whether somebody waits for a point that is not durable yet.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        state.wanted > state.durable
    }

    /// Notified when somebody comes to wait.
    #[must_use]
    pub const fn wanted(&self) -> &Signal {
        &self.wanted
    }

    /// All up to `point` is durable.
    pub fn advance(&self, point: StreamPoint) {
        let done = {
            let mut state = self.state.lock();
            state.durable = state.durable.max(Some(point));
            let durable = state.durable;
            state.take_waiters(|waiter| Some(waiter.point) <= durable)
        };
        done.into_iter().for_each(Waker::wake);
    }

    /// The log failed: nothing becomes durable any more.
    pub fn fail(&self, error: Error) {
        let all = {
            let mut state = self.state.lock();
            state.failed.get_or_insert(error);
            state.take_waiters(|_| true)
        };
        all.into_iter().for_each(Waker::wake);
    }

    /// Why the log failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.state.lock().failed.clone()
    }

    /// The durable point.
    #[must_use]
    pub fn point(&self) -> Option<StreamPoint> {
        self.state.lock().durable
    }
}

/// One waiter's place in the list; leaves it when the waiter goes, however it goes.
struct Place<'a> {
    durable: &'a Durable,
    key: u64,
}

impl Place<'_> {
    fn poll(&self, point: StreamPoint, context: &Context<'_>) -> Poll<Result<()>> {
        let higher = {
            let mut state = self.durable.state.lock();
            if let Some(outcome) = state.outcome(point) {
                return Poll::Ready(outcome);
            }
            let key = self.key;
            match state.waiters.iter_mut().find(|waiter| waiter.key == key) {
                Some(waiter) => waiter.waker.clone_from(context.waker()),
                None => {
                    let waker = context.waker().clone();
                    state.waiters.push(Waiter { key, point, waker });
                }
            }
            let higher = state.wanted < Some(point);
            state.wanted = state.wanted.max(Some(point));
            higher
        };
        if higher {
            self.durable.wanted.notify();
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.durable.state.lock();
        let place = state
            .waiters
            .iter()
            .position(|waiter| waiter.key == self.key);
        if let Some(place) = place {
            state.waiters.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::task::noop_waker_ref;

    use super::*;
    use crate::words::error::ErrorKind;
    use crate::words::name::Epoch;

    fn point(entries: u32) -> StreamPoint {
        let batch = ObjectId::new(Epoch(0), 7).unwrap();
        StreamPoint { batch, entries }
    }

    #[test]
    fn those_whose_point_is_reached_go_on_and_no_others() {
        let durable = Durable::default();
        let mut context = Context::from_waker(noop_waker_ref());
        let mut near = pin!(durable.reached(point(1)));
        let mut far = pin!(durable.reached(point(3)));
        assert!(near.poll_unpin(&mut context).is_pending());
        assert!(far.poll_unpin(&mut context).is_pending());
        assert_eq!(durable.state.lock().waiters.len(), 2);
        durable.advance(point(2));
        assert_eq!(durable.state.lock().waiters.len(), 1);
        assert!(matches!(near.poll_unpin(&mut context), Poll::Ready(Ok(()))));
        assert!(far.poll_unpin(&mut context).is_pending());
        assert!(durable.is_wanted());
        durable.fail(Error::new(ErrorKind::LocalDisk, "worn out"));
        assert!(matches!(far.poll_unpin(&mut context), Poll::Ready(Err(_))));
        assert!(durable.reached(point(2)).now_or_never().unwrap().is_ok());
        assert!(durable.reached(point(3)).now_or_never().unwrap().is_err());
    }

    #[test]
    fn whoever_no_longer_waits_leaves_the_list() {
        let durable = Durable::default();
        assert!(durable.reached(point(1)).now_or_never().is_none());
        assert!(durable.state.lock().waiters.is_empty());
        assert!(durable.is_wanted());
    }
}
