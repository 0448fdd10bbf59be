//! One connection after its handshake: takes up requests, and sends replies as they complete.
//!
//! A session is one task and one state machine. Each turn takes up all requests that have
//! arrived, answers at once what the device can answer at once (straight from the receive buffer
//! and into the send buffer), starts a future for each that has to wait, and sends all complete
//! replies together. Replies go out in the order of completion.

mod input;
mod output;
mod reply;
mod request;
mod stall;
mod write;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::device::DeviceResult;
use crate::export::Export;
use crate::handshake::Agreed;
use crate::limits::{Limits, PRIVATE_LEN, STALL_LEN, STOPPING_STALL};
use crate::operation::{BoxFuture, Outcome};
use crate::pool::{Grant, Pool, Purse};
use crate::shutdown::Shutdown;
use crate::wire::{ReplyMode, WireError};
use input::Input;
use output::Output;
use stall::Watch;
use write::{LongWrite, Receiving};

/// Why a connection ended out of order. The server goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The client does not speak the protocol.
    #[error("the client does not keep to the protocol")]
    Wire(#[from] WireError),
    /// The handshake cannot go on.
    #[error("handshake: {0}")]
    Handshake(&'static str),
    /// The handshake took too long.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// A refused request announced more payload than is read and thrown away.
    #[error("a payload of {0} bytes is too long to be skipped")]
    PayloadTooLong(u64),
    /// The client was too slow while it held memory that others wait for.
    #[error("the client was too slow while it held memory that others wait for")]
    Stalled,
    /// The client took none of its last replies for too long.
    #[error("the client took none of its last replies for too long")]
    Unread,
    /// All connections that the limits allow are taken.
    #[error("all connections are taken")]
    TooManyConnections,
    /// The server ended and did not wait any longer.
    #[error("cut off by the end of the server")]
    Cut,
}

/// What taking up requests stopped at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// More bytes have to arrive.
    Input,
    /// Something has to complete, be sent or be given back.
    Room,
}

/// A request in work.
struct Waiting {
    ticket: Option<Ticket>,
    future: BoxFuture<DeviceResult<Outcome>>,
}

/// What is needed to answer a request when it is done.
struct Ticket {
    cookie: u64,
    offset: u64,
    kind: TicketKind,
    /// The memory of its buffers.
    grant: Option<Grant>,
}

enum TicketKind {
    Read,
    BlockStatus {
        len: u64,
        one: bool,
    },
    Other,
    /// A piece of the long write with this serial number.
    Piece(u64),
}

impl Future for Waiting {
    type Output = (Option<Ticket>, DeviceResult<Outcome>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.future.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => Poll::Ready((self.ticket.take(), outcome)),
        }
    }
}

/// One connection after its handshake.
pub(crate) struct Session<S> {
    stream: S,
    export: Arc<Export>,
    mode: ReplyMode,
    block_status: bool,
    limits: Limits,
    input: Input,
    output: Output,
    waiting: FuturesUnordered<Waiting>,
    purse: Purse,
    receiving: Receiving,
    long_writes: Vec<LongWrite>,
    long_write_serial: u64,
    /// No more requests come: the client said so, hung up, or the server stops.
    ending: bool,
    stopping: bool,
    /// The client has hung up or sends no more; what has arrived may not be taken up yet.
    hung_up: bool,
    /// What is demanded of who holds memory, and of who is to take its last replies.
    rate: Watch,
    leaving: Watch,
    /// Device errors that were logged as warnings.
    warnings: u32,
}

/// Numbers the sessions, for the pool's list of who waits.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(crate) fn new(stream: S, agreed: Agreed, limits: Limits, pool: Arc<Pool>) -> Self {
        let id = SESSIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            stream,
            export: agreed.export,
            mode: agreed.mode,
            block_status: agreed.block_status,
            limits,
            input: Input::new(),
            output: Output::default(),
            waiting: FuturesUnordered::new(),
            purse: Purse::new(id, pool, PRIVATE_LEN),
            receiving: Receiving::Header,
            long_writes: Vec::new(),
            long_write_serial: 0,
            ending: false,
            stopping: false,
            hung_up: false,
            rate: Watch::default(),
            leaving: Watch::default(),
            warnings: 0,
        }
    }

    /// Serves until the client or the server ends it.
    pub(crate) async fn run(mut self, shutdown: &Shutdown) -> Result<(), SessionError> {
        let mut stop = std::pin::pin!(shutdown.requested());
        poll_fn(|cx| {
            if !self.stopping && stop.as_mut().poll(cx).is_ready() {
                self.stopping = true;
            }
            self.poll_serve(cx)
        })
        .await?;
        // Nothing is left to send; a peer that is gone already is no news.
        let _ = self.stream.shutdown().await;
        Ok(())
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        let (mut moved, mut sent_all) = (0, 0);
        loop {
            let completed = self.poll_waiting(cx);
            self.purse.begin_turn();
            let gate = self.take_up(cx)?;
            self.purse.end_turn();
            // A future must be polled once before anything can wake it.
            let completed = self.poll_waiting(cx) || completed;

            let mut sent = 0;
            let sending = self.output.poll_send(cx, &mut self.stream, &mut sent);
            if let Poll::Ready(Err(error)) = sending {
                return Poll::Ready(Err(error.into()));
            }
            moved += sent;
            sent_all += sent;
            if sending.is_pending() && self.purse.holds_what_others_want() {
                self.output.split_long();
            }
            if gate == Gate::Room {
                if completed || sent > 0 {
                    continue;
                }
                self.poll_ahead(cx)?;
                break;
            }
            self.ending |= self.hung_up;
            if self.ending || self.stopping {
                if self.waiting.is_empty() && self.output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if completed {
                    continue;
                }
                break;
            }
            match self.poll_receive(cx) {
                Poll::Ready(Ok(0)) => self.hung_up = true,
                Poll::Ready(Ok(count)) => moved += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        self.poll_stall(cx, moved, sent_all)
    }

    /// Answers what has completed; whether something had.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let mut completed = false;
        while let Poll::Ready(Some((ticket, outcome))) = self.waiting.poll_next_unpin(cx) {
            completed = true;
            if let Some(ticket) = ticket {
                self.complete(ticket, outcome);
            }
        }
        completed
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.receiving {
            Receiving::Piece(piece) => piece.poll_fill(cx, &mut self.stream),
            Receiving::Header | Receiving::Skip(_) => self.input.poll_fill(cx, &mut self.stream),
        }
    }

    /// Receives while nothing can be taken up, as far as the buffer goes: a client that has hung
    /// up would not be noticed otherwise.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.hung_up && !self.input.is_full() {
            match self.input.poll_fill(cx, &mut self.stream) {
                Poll::Ready(Ok(0)) => self.hung_up = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Ends a client that is too slow while it holds memory that others wait for, and one that
    /// has only replies left to take and takes none.
    fn poll_stall(
        &mut self,
        cx: &mut Context<'_>,
        moved: usize,
        sent: usize,
    ) -> Poll<Result<(), SessionError>> {
        // While the device works it is not the client that stands still.
        let is_up_to_client = self.waiting.is_empty();
        let timeout = self.limits.stall_timeout;
        let leaving = self.ending || self.hung_up;
        if is_up_to_client && (self.stopping || leaving && !self.output.is_empty()) {
            let span = if self.stopping {
                STOPPING_STALL.min(timeout)
            } else {
                timeout
            };
            if self.leaving.poll(cx, sent, (1, span)).is_ready() {
                return Poll::Ready(Err(SessionError::Unread));
            }
        } else {
            self.leaving.stop();
        }
        if !is_up_to_client || !self.purse.holds_pooled() {
            self.rate.stop();
        } else if self.rate.poll(cx, moved, (STALL_LEN, timeout)).is_ready() {
            if self.purse.holds_what_others_want() {
                return Poll::Ready(Err(SessionError::Stalled));
            }
            self.rate.recheck(cx);
        }
        Poll::Pending
    }
}
