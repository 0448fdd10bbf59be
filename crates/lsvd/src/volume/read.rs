//! Reading: `map -> { batch in memory | segment of the log | object in the store | zeroes }`.

use futures_util::future::Either;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{Shared, Volume};
use crate::bytes::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES};
use crate::bytes::data_object::BlockSpan;
use crate::doors::runtime::within;
use crate::doors::store::StoreError;
use crate::state::batch::Batch;
use crate::state::logged::LoggedBatch;
use crate::state::object_table::ObjectRow;
use crate::state::uploads::SealedBatch;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{READ_REQUESTS_MAX, STORE_PATIENCE};
use crate::words::name::ObjectName;
use crate::words::units::{DataOffset, LbaRange, Location};

/// Stored bytes that are read without an allocation: two blocks, which is what an unaligned 4 KiB
/// read touches.
const SMALL_READ_BYTES: usize = 2 * STORED_BLOCK_BYTES;

impl Volume {
    /// Fills `buffer` from `offset` on, both in bytes and multiples of 512; what was never written
    /// reads as zeroes.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when it is unaligned or goes past the
    /// end, [`Damaged`](crate::ErrorKind::Damaged) where a checksum does not match,
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when the store fails. The content of `buffer`
    /// is then undefined.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match self.try_read(offset, buffer) {
            Some(done) => done,
            None => block_on(self.read_async(offset, buffer)),
        }
    }

    /// [`read`](Self::read), if it can be done without waiting; otherwise nothing, and the content
    /// of `buffer` is undefined.
    pub fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Option<Result<()>> {
        let range = match self.shared.sectors_of("read", offset, buffer.len() as u64) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        let mut parts = Parts::new(buffer);
        self.shared.look_up(range, &mut parts);
        while let Some((source, out)) = parts.next() {
            match source {
                Source::Zeroes => out.fill(0),
                Source::Memory(batch, offset) => batch.read(offset, out),
                Source::Logged(..) => return None,
                Source::Object(location) => {
                    if let Err(error) = self.shared.try_read_object(location, out)? {
                        return Some(Err(error));
                    }
                }
            }
        }
        Some(Ok(()))
    }

    /// [`read`](Self::read) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn read_async(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let range = self
            .shared
            .sectors_of("read", offset, buffer.len() as u64)?;
        let mut parts = Parts::new(buffer);
        self.shared.look_up(range, &mut parts);
        let mut requests = Vec::new();
        while let Some((source, out)) = parts.next() {
            match source {
                Source::Zeroes => out.fill(0),
                Source::Memory(batch, offset) => batch.read(offset, out),
                Source::Logged(batch, offset) => {
                    requests.push(Either::Left(self.shared.read_log(batch, offset, out)))
                }
                Source::Object(location) => {
                    requests.push(Either::Right(self.shared.read_object(location, out)));
                }
            }
        }
        let requests = stream::iter(requests).buffer_unordered(READ_REQUESTS_MAX);
        requests.try_for_each(|()| std::future::ready(Ok(()))).await
    }
}

impl Shared {
    /// Splits a range at its extents, joins neighbours, and says where each part comes from. What
    /// is in memory is held before the map lets go of it.
    fn look_up(&self, range: LbaRange, parts: &mut Parts<'_>) {
        self.map.lookup(range, |range, location| {
            let bytes = usize::try_from(range.bytes()).expect("part of a buffer");
            parts.push(bytes, location, |location| {
                self.in_flight.get(location.object)
            });
        });
    }

    fn row(&self, location: Location) -> Result<ObjectRow> {
        let row = self
            .objects
            .row(location.object)
            .filter(|row| row.header_len > 0);
        // Map M lets go of a batch only when its row is complete.
        row.ok_or_else(|| {
            let message = format!("{location:?} names no stored object: this is a bug");
            Error::new(ErrorKind::Damaged, message)
        })
    }

    fn try_read_object(&self, location: Location, out: &mut [u8]) -> Option<Result<()>> {
        let row = match self.row(location) {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        let span = BlockSpan::new(location.offset, out.len());
        let stored_len = span.stored_len();
        let mut small = [0; SMALL_READ_BYTES];
        let mut large = Vec::new();
        let stored = match small.get_mut(..stored_len) {
            Some(small) => small,
            None => {
                large.resize(stored_len, 0);
                &mut large[..]
            }
        };
        let name = ObjectName::data(row.id);
        let start = span.stored_range(row.header_len).start;
        let read = self.store.try_get_range(&name.to_string(), start, stored)?;
        Some(match read {
            Ok(()) => self.extract(name, &span, stored, out),
            Err(error) => Err(self.read_failure(name, error)),
        })
    }

    async fn read_object(&self, location: Location, out: &mut [u8]) -> Result<()> {
        let row = self.row(location)?;
        let span = BlockSpan::new(location.offset, out.len());
        let name = ObjectName::data(row.id);
        let range = span.stored_range(row.header_len);
        let name_in_store = name.to_string();
        let get = self.store.get_range(&name_in_store, range);
        let read = within(&*self.runtime, STORE_PATIENCE, &*self.store, get).await;
        let stored = read.map_err(|error| self.read_failure(name, error))?;
        self.extract(name, &span, &stored, out)
    }

    async fn read_log(
        &self,
        batch: Arc<LoggedBatch>,
        offset: DataOffset,
        out: &mut [u8],
    ) -> Result<()> {
        match &self.log {
            Some(log) => log.file.read(&batch, offset, out).await,
            None => {
                let message = "a batch is in a log that is not there: this is a bug";
                Err(Error::new(ErrorKind::Damaged, message))
            }
        }
    }

    fn extract(
        &self,
        name: ObjectName,
        span: &BlockSpan,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        span.extract(Place::of(self.uuid, name), stored, out).map_err(|block| {
            let message = format!(
                "object {name} in {} is damaged: block {block} (data offset {}) does not match its \
                 checksum",
                self.store.url(),
                u64::from(block) * BLOCK_BYTES as u64
            );
            Error::new(ErrorKind::Damaged, message)
        })
    }

    fn read_failure(&self, name: ObjectName, error: StoreError) -> Error {
        let place = self.store.url();
        let kind = error.kind().for_user();
        Error::new(kind, format!("cannot read object {name} in {place}")).because(error)
    }
}

/// Where a part of a read comes from.
enum Source {
    Zeroes,
    Memory(Arc<Batch>, DataOffset),
    Logged(Arc<LoggedBatch>, DataOffset),
    Object(Location),
}

/// The parts of a read, in order, each with its piece of the caller's buffer.
struct Parts<'a> {
    rest: &'a mut [u8],
    parts: std::collections::VecDeque<(usize, Source)>,
}

impl<'a> Parts<'a> {
    fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            rest: buffer,
            parts: std::collections::VecDeque::new(),
        }
    }

    /// Adds `bytes` bytes; `in_flight` looks a location up in map M.
    fn push(
        &mut self,
        bytes: usize,
        location: Option<Location>,
        in_flight: impl FnOnce(Location) -> Option<SealedBatch>,
    ) {
        let source = match location {
            None => Source::Zeroes,
            Some(location) => match in_flight(location) {
                Some(SealedBatch::Memory(batch)) => Source::Memory(batch, location.offset),
                Some(SealedBatch::Logged(batch)) => Source::Logged(batch, location.offset),
                None => Source::Object(location),
            },
        };
        match self.parts.back_mut() {
            Some((before, last)) if last.continues(*before, &source) => *before += bytes,
            _ => self.parts.push_back((bytes, source)),
        }
    }

    fn next(&mut self) -> Option<(Source, &'a mut [u8])> {
        let (bytes, source) = self.parts.pop_front()?;
        let (out, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes);
        self.rest = rest;
        Some((source, out))
    }
}

impl Source {
    /// Whether `next` goes on where this, `bytes` bytes long, ends.
    fn continues(&self, bytes: usize, next: &Self) -> bool {
        let ends_at = |offset: DataOffset| offset.bytes() + bytes as u64;
        match (self, next) {
            (Self::Zeroes, Self::Zeroes) => true,
            (Self::Memory(a, from), Self::Memory(b, to)) => {
                Arc::ptr_eq(a, b) && ends_at(*from) == to.bytes()
            }
            (Self::Logged(a, from), Self::Logged(b, to)) => {
                Arc::ptr_eq(a, b) && ends_at(*from) == to.bytes()
            }
            (Self::Object(a), Self::Object(b)) => {
                a.object == b.object && ends_at(a.offset) == b.offset.bytes()
            }
            _ => false,
        }
    }
}
