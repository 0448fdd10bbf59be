//! Watching whether the peer moves: so many bytes in so much time.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Shortest time after which a peer that was let off is looked at again.
const RECHECK_MIN: Duration = Duration::from_millis(1);

/// One demand on the peer, and how far it has met it.
#[derive(Default)]
pub(super) struct Watch {
    span: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    moved: usize,
}

impl Watch {
    /// Demands nothing any more.
    pub(super) fn stop(&mut self) {
        self.timer = None;
        self.moved = 0;
    }

    /// Ready when the peer has moved less than `least` bytes in the last `span`; `moved` is what
    /// it has moved since the last call.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        moved: usize,
        (least, span): (usize, Duration),
    ) -> Poll<()> {
        if self.span != span {
            self.stop();
            self.span = span;
        }
        self.moved = self.moved.saturating_add(moved);
        let timer = match &mut self.timer {
            Some(timer) => {
                if self.moved >= least {
                    self.moved = 0;
                    timer.as_mut().reset(Instant::now() + span);
                }
                timer
            }
            None => self.timer.insert(Box::pin(sleep(span))),
        };
        timer.as_mut().poll(cx)
    }

    /// Lets the peer off, and looks again soon: who comes then has waited long enough.
    pub(super) fn recheck(&mut self, cx: &mut Context<'_>) {
        if let Some(timer) = &mut self.timer {
            let pause = (self.span / 8).max(RECHECK_MIN);
            timer.as_mut().reset(Instant::now() + pause);
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
