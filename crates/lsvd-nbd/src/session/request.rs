//! Taking up requests: which are refused, which are answered at once, which have to wait.

use std::sync::Arc;
use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::write::Receiving;
use super::{Gate, Session, SessionError, Ticket, TicketKind, Waiting};
use crate::Errno;
use crate::device::Zeroing;
use crate::limits::{EXTENTS_MAX, INLINE_LEN, PAYLOAD_DRAIN_LEN_MAX};
use crate::operation::Operation;
use crate::wire::constants::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA,
    CMD_FLAG_NO_HOLE, CMD_FLAG_PAYLOAD_LEN, CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM,
    CMD_WRITE, CMD_WRITE_ZEROES,
};
use crate::wire::{ReplyMode, RequestHeader};

/// Why a request is refused.
pub(super) type Refusal = (Errno, &'static str);

/// What became of the request at the front of the receive buffer.
pub(super) enum Taken {
    /// It was taken up; its header, and its payload if it had one, are consumed.
    Yes,
    /// Its payload has to arrive first.
    NeedsInput,
    /// Memory or room has to be found first; it stays where it is.
    NeedsRoom,
}

/// A length as a `usize`. Lengths that count are bounded by the maximum block size before.
pub(super) fn usize_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Takes up all that has arrived.
    pub(super) fn take_up(&mut self, cx: &Context<'_>) -> Result<Gate, SessionError> {
        loop {
            match &mut self.receiving {
                Receiving::Piece(_) => {
                    if !self.take_up_piece(cx) {
                        return Ok(self.gate_of_piece());
                    }
                }
                Receiving::Skip(skip) => {
                    let available = self.input.bytes().len();
                    let part = usize_of(skip.left).min(available);
                    skip.left -= part as u64;
                    self.input.consume(part);
                    if skip.left > 0 {
                        return Ok(Gate::Input);
                    }
                    let (header, refusal) = (skip.header, skip.refusal);
                    self.receiving = Receiving::Header;
                    self.refuse(&header, refusal);
                }
                Receiving::Header => {
                    if self.ending {
                        return Ok(Gate::Input);
                    }
                    if self.waiting.len() >= self.limits.requests_in_flight
                        || !self.output.has_room(0)
                    {
                        return Ok(Gate::Room);
                    }
                    let header_len = RequestHeader::len(self.mode);
                    let Some(header) = RequestHeader::decode(self.mode, self.input.bytes())? else {
                        self.input.make_room(header_len);
                        return Ok(Gate::Input);
                    };
                    match self.take_up_request(cx, &header)? {
                        Taken::Yes => {}
                        Taken::NeedsInput => return Ok(Gate::Input),
                        Taken::NeedsRoom => return Ok(Gate::Room),
                    }
                }
            }
        }
    }

    fn take_up_request(
        &mut self,
        cx: &Context<'_>,
        header: &RequestHeader,
    ) -> Result<Taken, SessionError> {
        if header.command == CMD_DISC {
            self.ending = true;
            return Ok(Taken::Yes);
        }
        let payload = header.payload_len(self.mode);
        if let Err(refusal) = self.check(header) {
            self.input.consume(RequestHeader::len(self.mode));
            if payload == 0 {
                self.refuse(header, refusal);
            } else if payload <= PAYLOAD_DRAIN_LEN_MAX {
                // Answered when all of it has come: a client may not read before it has sent.
                self.receiving = Receiving::skip(*header, payload, refusal);
            } else {
                return Err(SessionError::PayloadTooLong(payload));
            }
            return Ok(Taken::Yes);
        }
        Ok(match header.command {
            CMD_WRITE => self.take_up_write(cx, header),
            CMD_READ => self.take_up_read(cx, header),
            _ => self.take_up_other(cx, header),
        })
    }

    /// The protocol's rules for a request, in the order in which it names their errors.
    fn check(&self, header: &RequestHeader) -> Result<(), Refusal> {
        if self.stopping {
            return Err((Errno::Shutdown, "the server is shutting down"));
        }
        let changes = matches!(header.command, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
        if header.command > CMD_BLOCK_STATUS {
            return Err((Errno::Inval, "unknown command"));
        }
        if changes && self.export.read_only {
            return Err((Errno::Perm, "the export is read-only"));
        }
        if header.flags & !self.flags_allowed(header.command) != 0 {
            return Err((Errno::Inval, "a flag that this command does not have here"));
        }
        if header.command == CMD_FLUSH {
            return if header.offset == 0 && header.length == 0 {
                Ok(())
            } else {
                Err((Errno::Inval, "a flush has no range"))
            };
        }
        if header.command == CMD_BLOCK_STATUS {
            if !self.block_status {
                return Err((Errno::Inval, "no metadata context was agreed on"));
            }
            if header.length == 0 {
                return Err((Errno::Inval, "a block status of nothing"));
            }
        }
        let moves_data = matches!(header.command, CMD_READ | CMD_WRITE);
        if moves_data && header.length > u64::from(self.export.block_sizes.maximum) {
            return Err((Errno::Inval, "longer than the maximum block size"));
        }
        let end = header.offset.checked_add(header.length);
        if end.is_none_or(|end| end > self.export.size) {
            let errno = match header.command {
                CMD_WRITE | CMD_WRITE_ZEROES => Errno::NoSpc,
                _ => Errno::Inval,
            };
            return Err((errno, "past the end of the export"));
        }
        let minimum = u64::from(self.export.block_sizes.minimum);
        if !header.offset.is_multiple_of(minimum) || !header.length.is_multiple_of(minimum) {
            return Err((Errno::Inval, "not a multiple of the minimum block size"));
        }
        Ok(())
    }

    fn flags_allowed(&self, command: u16) -> u16 {
        // FUA is allowed, and without meaning, on commands that change nothing.
        CMD_FLAG_FUA
            | match command {
                CMD_READ if self.mode > ReplyMode::Simple => CMD_FLAG_DF,
                CMD_WRITE if self.mode == ReplyMode::Extended => CMD_FLAG_PAYLOAD_LEN,
                CMD_WRITE_ZEROES if self.export.fast_zero => CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
                CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE,
                CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
                _ => 0,
            }
    }

    fn take_up_read(&mut self, cx: &Context<'_>, header: &RequestHeader) -> Taken {
        // Bounded by the maximum block size.
        let len = usize_of(header.length);
        if len == 0 {
            self.input.consume(RequestHeader::len(self.mode));
            self.reply_empty_read(header.cookie, header.offset);
            return Taken::Yes;
        }
        if len <= INLINE_LEN {
            let head_len = self.read_head_len();
            if !self.output.has_room(head_len + len) {
                return Taken::NeedsRoom;
            }
            let place = self.output.reserve(head_len + len);
            let device = &self.export.device;
            match device.try_read(header.offset, &mut place[head_len..]) {
                None => {}
                Some(result) => {
                    self.input.consume(RequestHeader::len(self.mode));
                    match result {
                        Ok(()) => self.commit_read(header, len),
                        Err(error) => self.reply_error(header.cookie, header.offset, &error),
                    }
                    return Taken::Yes;
                }
            }
        }
        let Some(grant) = self.purse.take(len, cx) else {
            return Taken::NeedsRoom;
        };
        self.input.consume(RequestHeader::len(self.mode));
        let mut buf = vec![0; len];
        if len > INLINE_LEN {
            match self.export.device.try_read(header.offset, &mut buf) {
                None => {}
                Some(Ok(())) => {
                    self.reply_long_read(header.cookie, header.offset, buf, grant);
                    return Taken::Yes;
                }
                Some(Err(error)) => {
                    self.reply_error(header.cookie, header.offset, &error);
                    return Taken::Yes;
                }
            }
        }
        let offset = header.offset;
        let ticket = Ticket {
            cookie: header.cookie,
            offset,
            kind: TicketKind::Read,
            grant: Some(grant),
        };
        self.start(ticket, Operation::Read { offset, buf });
        Taken::Yes
    }

    fn take_up_other(&mut self, cx: &Context<'_>, header: &RequestHeader) -> Taken {
        let (offset, len) = (header.offset, header.length);
        let fua = header.flags & CMD_FLAG_FUA != 0;
        let mut ticket = Ticket {
            cookie: header.cookie,
            offset,
            kind: TicketKind::Other,
            grant: None,
        };
        let operation = match header.command {
            CMD_FLUSH => Operation::Flush,
            CMD_TRIM => Operation::Trim { offset, len, fua },
            CMD_WRITE_ZEROES => Operation::WriteZeroes {
                offset,
                len,
                zeroing: Zeroing {
                    no_hole: header.flags & CMD_FLAG_NO_HOLE != 0,
                    fast: header.flags & CMD_FLAG_FAST_ZERO != 0,
                },
                fua,
            },
            CMD_CACHE => Operation::Cache { offset, len },
            _ => {
                // The device's list and the reply made of it.
                let Some(grant) = self.purse.take(EXTENTS_MAX * 40, cx) else {
                    return Taken::NeedsRoom;
                };
                ticket.grant = Some(grant);
                let one = header.flags & CMD_FLAG_REQ_ONE != 0;
                ticket.kind = TicketKind::BlockStatus { len, one };
                Operation::BlockStatus {
                    offset,
                    len,
                    max_extents: if one { 1 } else { EXTENTS_MAX },
                }
            }
        };
        self.input.consume(RequestHeader::len(self.mode));
        if len == 0 && !matches!(operation, Operation::Flush) {
            self.reply_done(header.cookie, offset);
            return Taken::Yes;
        }
        if matches!(operation, Operation::Flush) {
            self.flush(ticket);
        } else {
            self.start(ticket, operation);
        }
        Taken::Yes
    }

    /// Flushes, at once if the device can.
    pub(super) fn flush(&mut self, ticket: Ticket) {
        match self.export.device.try_flush() {
            None => self.start(ticket, Operation::Flush),
            Some(Ok(())) => self.reply_done(ticket.cookie, ticket.offset),
            Some(Err(error)) => self.reply_error(ticket.cookie, ticket.offset, &error),
        }
    }

    pub(super) fn start(&mut self, ticket: Ticket, operation: Operation) {
        let device = Arc::clone(&self.export.device);
        self.waiting.push(Waiting {
            ticket: Some(ticket),
            future: device.start(operation),
        });
    }
}
