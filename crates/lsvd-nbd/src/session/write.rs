//! Receiving the data of writes.
//!
//! Short writes go to the device straight from the receive buffer. Long ones are received and
//! written in pieces of 1 MiB, so that a client that announces much and sends nothing costs
//! little; their reply is sent when all pieces are done.

use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::request::{Refusal, Taken, usize_of};
use super::{Gate, Session, Ticket, TicketKind};
use crate::device::{DeviceError, DeviceResult};
use crate::limits::{INLINE_LEN, PIECE_LEN};
use crate::operation::Operation;
use crate::pool::Grant;
use crate::wire::RequestHeader;
use crate::wire::constants::CMD_FLAG_FUA;

/// What the next bytes of the stream are.
pub(super) enum Receiving {
    /// A request.
    Header,
    /// The payload of a refused request.
    Skip(Skip),
    /// The data of a long write.
    Piece(Piece),
}

impl Receiving {
    pub(super) fn skip(header: RequestHeader, left: u64, refusal: Refusal) -> Self {
        Self::Skip(Skip {
            header,
            left,
            refusal,
        })
    }
}

/// A payload that is thrown away, and the answer that is given then.
pub(super) struct Skip {
    pub(super) header: RequestHeader,
    pub(super) left: u64,
    pub(super) refusal: Refusal,
}

/// A piece of a long write, as far as it has arrived.
pub(super) struct Piece {
    serial: u64,
    offset: u64,
    len: usize,
    /// Bytes of the write behind this piece.
    left: usize,
    data: Vec<u8>,
    /// `None` until memory is granted; nothing is received into the piece before.
    grant: Option<Grant>,
}

/// A long write that is not answered yet.
pub(super) struct LongWrite {
    serial: u64,
    cookie: u64,
    offset: u64,
    fua: bool,
    /// Pieces at the device, and one while data is still to come.
    pending: usize,
    error: Option<DeviceError>,
}

impl Piece {
    fn is_whole(&self) -> bool {
        self.grant.is_some() && self.data.len() == self.len
    }

    /// Receives straight into the piece; ready with 0 at the end of the stream.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let missing = self.len - self.data.len();
        let mut target = (&mut self.data).limit(missing);
        // The future holds nothing between polls, so it may be made anew each time.
        pin!(stream.read_buf(&mut target)).poll(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn take_up_write(&mut self, cx: &Context<'_>, header: &RequestHeader) -> Taken {
        // Bounded by the maximum block size.
        let len = usize_of(header.length);
        let header_len = RequestHeader::len(self.mode);
        if len > INLINE_LEN {
            self.input.consume(header_len);
            self.begin_long_write(header, len);
            return Taken::Yes;
        }
        if self.input.bytes().len() < header_len + len {
            self.input.make_room(header_len + len);
            return Taken::NeedsInput;
        }
        if len == 0 {
            self.input.consume(header_len);
            self.reply_done(header.cookie, header.offset);
            return Taken::Yes;
        }
        let fua = header.flags & CMD_FLAG_FUA != 0;
        let data = &self.input.bytes()[header_len..header_len + len];
        let at_once = if fua {
            None
        } else {
            self.export.device.try_write(header.offset, data)
        };
        match at_once {
            Some(result) => {
                self.input.consume(header_len + len);
                self.reply_result(header.cookie, header.offset, result);
            }
            None => {
                let Some(grant) = self.purse.take(len, cx) else {
                    return Taken::NeedsRoom;
                };
                let data = data.to_vec();
                self.input.consume(header_len + len);
                let offset = header.offset;
                let ticket = Ticket {
                    cookie: header.cookie,
                    offset,
                    kind: TicketKind::Other,
                    grant: Some(grant),
                };
                self.start(ticket, Operation::Write { offset, data, fua });
            }
        }
        Taken::Yes
    }

    fn begin_long_write(&mut self, header: &RequestHeader, len: usize) {
        self.long_write_serial += 1;
        self.long_writes.push(LongWrite {
            serial: self.long_write_serial,
            cookie: header.cookie,
            offset: header.offset,
            fua: header.flags & CMD_FLAG_FUA != 0,
            pending: 1,
            error: None,
        });
        self.receiving = Receiving::Piece(Piece {
            serial: self.long_write_serial,
            offset: header.offset,
            len: len.min(PIECE_LEN),
            left: len - len.min(PIECE_LEN),
            data: Vec::new(),
            grant: None,
        });
    }

    /// Goes on with the piece that is being received; whether something was done.
    pub(super) fn take_up_piece(&mut self, cx: &Context<'_>) -> bool {
        let Receiving::Piece(piece) = &mut self.receiving else {
            return false;
        };
        if piece.grant.is_none() {
            let Some(grant) = self.purse.take(piece.len, cx) else {
                return false;
            };
            piece.grant = Some(grant);
            piece.data.reserve_exact(piece.len);
        }
        let bytes = self.input.bytes();
        let part = bytes.len().min(piece.len - piece.data.len());
        piece.data.extend_from_slice(&bytes[..part]);
        self.input.consume(part);
        if !piece.is_whole() || self.waiting.len() >= self.limits.requests_in_flight {
            return false;
        }
        self.write_piece();
        true
    }

    pub(super) fn gate_of_piece(&self) -> Gate {
        match &self.receiving {
            Receiving::Piece(piece) if piece.grant.is_none() || piece.is_whole() => Gate::Room,
            _ => Gate::Input,
        }
    }

    /// Hands the whole piece to the device and begins the next.
    fn write_piece(&mut self) {
        let Receiving::Piece(piece) = std::mem::replace(&mut self.receiving, Receiving::Header)
        else {
            return;
        };
        let Piece {
            serial,
            offset,
            left,
            data,
            grant,
            ..
        } = piece;
        let next_offset = offset + data.len() as u64;
        if left > 0 {
            if let Some(write) = self.long_writes.iter_mut().find(|w| w.serial == serial) {
                write.pending += 1;
            }
            self.receiving = Receiving::Piece(Piece {
                serial,
                offset: next_offset,
                len: left.min(PIECE_LEN),
                left: left - left.min(PIECE_LEN),
                data: Vec::new(),
                grant: None,
            });
        }
        match self.export.device.try_write(offset, &data) {
            Some(result) => self.complete_piece(serial, result),
            None => {
                let ticket = Ticket {
                    cookie: 0,
                    offset,
                    kind: TicketKind::Piece(serial),
                    grant,
                };
                let fua = false;
                self.start(ticket, Operation::Write { offset, data, fua });
            }
        }
    }

    /// Takes note of a piece; the last one answers the write, after a flush if it is FUA.
    pub(super) fn complete_piece(&mut self, serial: u64, result: DeviceResult<()>) {
        let Some(at) = self.long_writes.iter().position(|w| w.serial == serial) else {
            return;
        };
        let write = &mut self.long_writes[at];
        write.pending -= 1;
        if let Err(error) = result {
            write.error.get_or_insert(error);
        }
        if write.pending > 0 {
            return;
        }
        let write = self.long_writes.swap_remove(at);
        match write.error {
            Some(error) => self.reply_error(write.cookie, write.offset, &error),
            None if write.fua => self.flush(Ticket {
                cookie: write.cookie,
                offset: write.offset,
                kind: TicketKind::Other,
                grant: None,
            }),
            None => self.reply_done(write.cookie, write.offset),
        }
    }
}
