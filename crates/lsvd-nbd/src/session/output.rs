//! The send buffer: replies that are complete and not sent yet, in order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::limits::{BUFFER_LEN_FIRST, PART_LEN, SEND_LEN};
use crate::pool::Grant;

/// Most pieces handed to one system call.
const SLICES: usize = 16;

/// Replies that are not sent yet: a run of small ones, with long data between them by reference.
#[derive(Default)]
pub(crate) struct Output {
    /// Always initialised to its length, so that a device can fill its end in place.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Long data, each behind the byte of `buf` at which it comes.
    long: VecDeque<Long>,
    long_len: usize,
}

struct Long {
    at: usize,
    data: Vec<u8>,
    sent: usize,
    grant: Grant,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end && self.long.is_empty()
    }

    /// Whether there is room for another `len` bytes below the mark where taking up requests
    /// stops. An empty buffer has room for anything.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.is_empty() || self.end - self.start + self.long_len + len <= SEND_LEN
    }

    /// The next `len` bytes of the buffer, to be filled and then committed. What is not
    /// committed was never there.
    pub(crate) fn reserve(&mut self, len: usize) -> &mut [u8] {
        if self.buf.len() - self.end < len && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            for long in &mut self.long {
                long.at -= self.start;
            }
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + len;
        if self.buf.len() < needed {
            let grown = needed.next_power_of_two().max(BUFFER_LEN_FIRST);
            // Past the mark only single replies are added: no doubling for them.
            let grown = if needed > SEND_LEN { needed } else { grown };
            self.buf.resize(grown, 0);
        }
        &mut self.buf[self.end..self.end + len]
    }

    pub(crate) fn commit(&mut self, len: usize) {
        self.end += len;
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// Appends long data without copying it.
    pub(crate) fn push_long(&mut self, data: Vec<u8>, grant: Grant) {
        self.long_len += data.len();
        self.long.push_back(Long {
            at: self.end,
            data,
            sent: 0,
            grant,
        });
    }

    /// Cuts the first long data into parts, so that its memory is given back as it is sent. That
    /// costs a copy of it, which is too much to do it where nobody wants the memory.
    pub(crate) fn split_long(&mut self) {
        let Some(mut long) = self.long.pop_front() else {
            return;
        };
        while long.data.len() - long.sent > PART_LEN {
            let data = long.data.split_off(long.data.len() - PART_LEN);
            long.data.shrink_to_fit();
            let grant = long.grant.split_off(data.len());
            let (at, sent) = (long.at, 0);
            self.long.push_front(Long {
                at,
                data,
                sent,
                grant,
            });
        }
        self.long.push_front(long);
    }

    /// Sends as much as the peer takes now. Ready when all is sent; the count says how many
    /// bytes went.
    pub(crate) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = if self.long.is_empty() {
                let bytes = &self.buf[self.start..self.end];
                ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = self.slices(&mut slices);
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..used]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count;
            self.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut used = 0;
        let mut at = self.start;
        for long in &self.long {
            if used + 2 > SLICES {
                return used;
            }
            if long.at > at {
                slices[used] = IoSlice::new(&self.buf[at..long.at]);
                used += 1;
                at = long.at;
            }
            slices[used] = IoSlice::new(&long.data[long.sent..]);
            used += 1;
        }
        if at < self.end && used < SLICES {
            slices[used] = IoSlice::new(&self.buf[at..self.end]);
            used += 1;
        }
        used
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let small_end = self.long.front().map_or(self.end, |long| long.at);
            let small = count.min(small_end - self.start);
            self.start += small;
            count -= small;
            if let Some(long) = self.long.front_mut().filter(|long| long.at == self.start) {
                let part = count.min(long.data.len() - long.sent);
                long.sent += part;
                self.long_len -= part;
                count -= part;
                if long.sent == long.data.len() {
                    self.long.pop_front();
                }
            }
        }
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }
}
