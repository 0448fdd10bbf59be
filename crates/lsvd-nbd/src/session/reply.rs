//! Putting replies into the send buffer, in the form that the connection has agreed on.

use tokio::io::{AsyncRead, AsyncWrite};

use super::request::Refusal;
use super::{Session, Ticket, TicketKind};
use crate::Errno;
use crate::device::{DeviceError, DeviceResult, Extent};
use crate::handshake::CONTEXT_ID;
use crate::limits::EXTENTS_MAX;
use crate::operation::Outcome;
use crate::pool::Grant;
use crate::wire::constants::{
    REPLY_BLOCK_STATUS, REPLY_BLOCK_STATUS_EXT, REPLY_ERROR, REPLY_FLAG_DONE, REPLY_NONE,
    REPLY_OFFSET_DATA, STATE_HOLE, STATE_ZERO,
};
use crate::wire::{ReplyHeader, ReplyMode, RequestHeader, encode_error_payload};

/// Longest data of a read that had to wait that is copied into the send buffer, in bytes.
const COPIED_LEN_MAX: usize = 16 << 10;

/// Device errors of one connection that are warnings in the log; more are told to debuggers
/// only, so that a client that repeats a failing request does not fill the log.
const WARNINGS_MAX: u32 = 16;

/// Bytes of the offset in front of the data of a read in a chunk.
const OFFSET_LEN: usize = 8;

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Answers a request that had to wait.
    pub(super) fn complete(&mut self, ticket: Ticket, outcome: DeviceResult<Outcome>) {
        let Ticket {
            cookie,
            offset,
            kind,
            grant,
        } = ticket;
        match (kind, outcome) {
            (TicketKind::Piece(serial), outcome) => {
                self.complete_piece(serial, outcome.map(|_| ()));
            }
            (_, Err(error)) => self.reply_error(cookie, offset, &error),
            (TicketKind::Read, Ok(Outcome::Data(data))) => match grant {
                Some(grant) => self.reply_long_read(cookie, offset, data, grant),
                None => self.reply_error(cookie, offset, &Errno::Io.into()),
            },
            (TicketKind::BlockStatus { len, one }, Ok(Outcome::Extents(extents))) => {
                self.reply_extents(cookie, offset, (len, one), (extents, grant));
            }
            (_, Ok(_)) => self.reply_done(cookie, offset),
        }
    }

    /// Bytes in front of the data of a read.
    pub(super) fn read_head_len(&self) -> usize {
        match self.mode {
            ReplyMode::Simple => ReplyHeader::SIMPLE_LEN,
            ReplyMode::Structured => ReplyHeader::STRUCTURED_LEN + OFFSET_LEN,
            ReplyMode::Extended => ReplyHeader::EXTENDED_LEN + OFFSET_LEN,
        }
    }

    fn write_read_head(&mut self, cookie: u64, offset: u64, len: usize) -> usize {
        let mode = self.mode;
        let head_len = self.read_head_len();
        let place = self.output.reserve(head_len);
        if mode == ReplyMode::Simple {
            encode(mode, &ReplyHeader::Simple { error: 0, cookie }, place);
            return head_len;
        }
        let header = chunk(REPLY_OFFSET_DATA, cookie, offset, OFFSET_LEN + len);
        let header_len = encode(mode, &header, place);
        place[header_len..head_len].copy_from_slice(&offset.to_be_bytes());
        head_len
    }

    /// Commits the reply to a read whose data is already in its place behind the header's.
    pub(super) fn commit_read(&mut self, header: &RequestHeader, len: usize) {
        let head_len = self.write_read_head(header.cookie, header.offset, len);
        self.output.commit(head_len + len);
    }

    pub(super) fn reply_long_read(
        &mut self,
        cookie: u64,
        offset: u64,
        data: Vec<u8>,
        grant: Grant,
    ) {
        let head_len = self.write_read_head(cookie, offset, data.len());
        self.output.commit(head_len);
        // Many short replies in one run need fewer slices, and so fewer system calls.
        if data.len() <= COPIED_LEN_MAX && self.output.has_room(data.len()) {
            self.output.push(&data);
        } else {
            self.output.push_long(data, grant);
        }
    }

    pub(super) fn reply_result(&mut self, cookie: u64, offset: u64, result: DeviceResult<()>) {
        match result {
            Ok(()) => self.reply_done(cookie, offset),
            Err(error) => self.reply_error(cookie, offset, &error),
        }
    }

    /// Success without data. Without extended headers a simple reply is right for all but reads
    /// and block status, and clients read it with one system call less.
    pub(super) fn reply_done(&mut self, cookie: u64, offset: u64) {
        let header = match self.mode {
            ReplyMode::Simple | ReplyMode::Structured => ReplyHeader::Simple { error: 0, cookie },
            ReplyMode::Extended => chunk(REPLY_NONE, cookie, offset, 0),
        };
        self.push_header(&header);
    }

    /// Success of a read of nothing: a chunk of data may not be empty.
    pub(super) fn reply_empty_read(&mut self, cookie: u64, offset: u64) {
        let header = match self.mode {
            ReplyMode::Simple => ReplyHeader::Simple { error: 0, cookie },
            ReplyMode::Structured | ReplyMode::Extended => chunk(REPLY_NONE, cookie, offset, 0),
        };
        self.push_header(&header);
    }

    pub(super) fn refuse(&mut self, header: &RequestHeader, (errno, message): Refusal) {
        tracing::debug!(
            command = header.command,
            flags = header.flags,
            offset = header.offset,
            length = header.length,
            %errno,
            "refused a request: {message}"
        );
        self.push_error(header.cookie, header.offset, errno, message);
    }

    pub(super) fn reply_error(&mut self, cookie: u64, offset: u64, error: &DeviceError) {
        if self.warnings < WARNINGS_MAX {
            self.warnings += 1;
            tracing::warn!(export = %self.export.name, offset, "the device failed: {error}");
        } else {
            tracing::debug!(export = %self.export.name, offset, "the device failed: {error}");
        }
        self.push_error(cookie, offset, error.errno(), error.message());
    }

    fn push_error(&mut self, cookie: u64, offset: u64, errno: Errno, message: &str) {
        if self.mode == ReplyMode::Simple {
            let error = errno.code();
            self.push_header(&ReplyHeader::Simple { error, cookie });
            return;
        }
        let payload = encode_error_payload(errno.code(), message);
        self.push_header(&chunk(REPLY_ERROR, cookie, offset, payload.len()));
        self.output.push(&payload);
    }

    fn push_header(&mut self, header: &ReplyHeader) {
        let mode = self.mode;
        let len = header.len(mode);
        encode(mode, header, self.output.reserve(len));
        self.output.commit(len);
    }

    fn reply_extents(
        &mut self,
        cookie: u64,
        offset: u64,
        (len, one): (u64, bool),
        (extents, grant): (Vec<Extent>, Option<Grant>),
    ) {
        let runs = runs_of(&extents, len, if one { 1 } else { EXTENTS_MAX });
        if runs.is_empty() {
            let error = DeviceError::new(Errno::Io, "the device told no state");
            self.reply_error(cookie, offset, &error);
            return;
        }
        let mut payload = CONTEXT_ID.to_be_bytes().to_vec();
        let kind = if self.mode == ReplyMode::Extended {
            let count = u32::try_from(runs.len()).unwrap_or(u32::MAX);
            payload.extend_from_slice(&count.to_be_bytes());
            for (len, state) in runs {
                payload.extend_from_slice(&len.to_be_bytes());
                payload.extend_from_slice(&u64::from(state).to_be_bytes());
            }
            REPLY_BLOCK_STATUS_EXT
        } else {
            for (len, state) in runs {
                // The request's length was 32 bits long, and no run is longer.
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                payload.extend_from_slice(&len.to_be_bytes());
                payload.extend_from_slice(&state.to_be_bytes());
            }
            REPLY_BLOCK_STATUS
        };
        self.push_header(&chunk(kind, cookie, offset, payload.len()));
        match grant {
            Some(grant) => self.output.push_long(payload, grant),
            None => self.output.push(&payload),
        }
    }
}

/// The device's extents as runs of one state each, cut to the range and to `max` runs.
fn runs_of(extents: &[Extent], len: u64, max: usize) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    let mut left = len;
    for extent in extents {
        let part = extent.len.min(left);
        if part == 0 {
            continue;
        }
        let hole = if extent.hole { STATE_HOLE } else { 0 };
        let zero = if extent.zero { STATE_ZERO } else { 0 };
        let state = hole | zero;
        let count = runs.len();
        match runs.last_mut() {
            Some((run, of)) if *of == state => *run += part,
            _ if count == max => break,
            _ => runs.push((part, state)),
        }
        left -= part;
    }
    runs
}

fn chunk(kind: u16, cookie: u64, offset: u64, length: usize) -> ReplyHeader {
    ReplyHeader::Chunk {
        flags: REPLY_FLAG_DONE,
        kind,
        cookie,
        offset,
        length: length as u64,
    }
}

/// Encodes into a place that was reserved for it.
fn encode(mode: ReplyMode, header: &ReplyHeader, place: &mut [u8]) -> usize {
    match header.encode(mode, place) {
        Ok(len) => len,
        // Places are reserved by `len`, and payloads are far below 4 GiB.
        Err(error) => unreachable!("a reply header that does not fit: {error}"),
    }
}
