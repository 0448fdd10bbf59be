//! The receive buffer: what has arrived and is not taken up yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::limits::{BUFFER_LEN_FIRST, RECEIVE_LEN};

/// What has arrived and is not taken up yet.
pub(crate) struct Input {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self {
            buf: vec![0; BUFFER_LEN_FIRST],
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes sure that a message of `len` bytes, counted from the first that is here, will fit.
    pub(crate) fn make_room(&mut self, len: usize) {
        if self.buf.len() - self.start < len && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buf.len() < len {
            let grown = len.next_power_of_two().min(RECEIVE_LEN).max(len);
            self.buf.resize(grown, 0);
        }
    }

    /// Whether nothing more can be received before something is consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.buf.len()
    }

    /// Receives what there is; ready with 0 at the end of the stream.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.buf.len() {
            self.make_room(self.end - self.start + 1);
        }
        let mut target = ReadBuf::new(&mut self.buf[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut target))?;
        let count = target.filled().len();
        let filled_up = target.remaining() == 0;
        self.end += count;
        if filled_up && self.buf.len() < RECEIVE_LEN {
            // The peer sends more at once than fits: fewer, larger reads from now on.
            let grown = self.buf.len() * 2;
            self.buf.resize(grown, 0);
        }
        Poll::Ready(Ok(count))
    }
}
