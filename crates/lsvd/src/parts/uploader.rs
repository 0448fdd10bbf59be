//! The uploader: makes objects of sealed batches and stores them, several at once.

use std::time::Duration;

use ::bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::doors::BoxFuture;
use crate::doors::backoff::Backoff;
use crate::doors::creation::Creation;
use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::state::batch::{Batch, BufferPool};
use crate::state::in_flight::InFlight;
use crate::state::logged::LoggedBatch;
use crate::state::object_table::ObjectTable;
use crate::state::pace::Pace;
use crate::state::progress::{Answered, Progress};
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::planted::{self, Fault};

/// Brings a batch back that left memory.
pub(crate) trait Restore: std::fmt::Debug + Send + Sync + 'static {
    /// The batch as it was sealed, in memory again.
    fn restore(&self, batch: Arc<LoggedBatch>) -> BoxFuture<'_, Result<Arc<Batch>>>;
}

/// Stores the batches of one opening of a volume.
#[derive(Debug)]
pub(crate) struct Uploader {
    /// Where batches come from.
    pub(crate) queue: Arc<UploadQueue>,
    /// How batches in the log come back; nothing where there is no log.
    pub(crate) restore: Option<Arc<dyn Restore>>,
    /// Whose waiters learn of stuck uploads.
    pub(crate) pool: Arc<BufferPool>,
    /// Where a stored batch is no longer.
    pub(crate) in_flight: Arc<InFlight>,
    /// Where readers learn that an object is stored.
    pub(crate) objects: Arc<ObjectTable>,
    /// How far the stream is stored.
    pub(crate) progress: Arc<Progress>,
    /// How fast it is stored.
    pub(crate) pace: Arc<Pace>,
    /// Where objects go.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Time and randomness.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Span of the numbers under way: batch `k + window` waits for the answer to batch `k`.
    pub(crate) window: u32,
    /// How long an upload fails before what waits for it fails too.
    pub(crate) retry_timeout: Duration,
    /// Whether all is stored and nothing more will come; starts as `false`.
    pub(crate) finished: bool,
}

impl Drop for Uploader {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Whoever waits for an upload would wait for ever.
        let message = "the volume's background work ended before everything was stored: its \
                       runtime was shut down, or a task of it panicked";
        self.progress
            .ended(Error::new(ErrorKind::Unavailable, message));
        self.pool.returned().notify();
    }
}

impl Uploader {
    /// Works until the queue is closed and everything is stored, or nothing is to be stored any more:
    /// what a fenced writer would store is of no stream, and nobody would ever remove it. What is under
    /// way then is given up, the log and its lock with it.
    pub(crate) async fn run(mut self) {
        let over = Box::pin(self.progress.over());
        match select(over, Box::pin(self.store_all())).await {
            Either::Left(_) | Either::Right(_) => {}
        }
        self.progress.complete();
        self.finished = true;
    }

    async fn store_all(&self) {
        let this = self;
        let mut running = FuturesUnordered::new();
        loop {
            while let Some((place, batch)) = this.queue.take(this.window_end()) {
                running.push(this.upload(place, batch));
            }
            let next = Box::pin(this.queue.next(this.window_end()));
            if running.is_empty() {
                let Some((place, batch)) = next.await else {
                    return;
                };
                running.push(this.upload(place, batch));
                continue;
            }
            match select(next, running.next()).await {
                Either::Left((Some((place, batch)), _)) => running.push(this.upload(place, batch)),
                // Closed and nothing left to start: what is under way is waited for.
                Either::Left((None, answered)) => drop(answered.await),
                Either::Right(_) => {}
            }
        }
    }

    /// The first place in the stream that may not be under way yet.
    fn window_end(&self) -> u64 {
        let oldest = self.progress.oldest_unanswered();
        oldest.saturating_add(u64::from(self.window))
    }

    /// Stores one batch, however long it takes.
    async fn upload(&self, place: u64, batch: SealedBatch) {
        let batch = match batch {
            SealedBatch::Memory(batch) => batch,
            SealedBatch::Logged(logged) => self.restore(place, logged).await,
        };
        batch.filled().await;
        let wall_time_ns = u64::try_from(self.runtime.wall_clock().as_nanos()).unwrap_or(u64::MAX);
        let header = batch.header(wall_time_ns, self.progress.persisted());
        let name = header.name().to_string();
        let data_sectors = header.data_sectors();
        let header = match header.encode() {
            Ok(header) => Bytes::from(header),
            Err(error) => {
                // Only a batch with more entries or data than the format allows comes here, which
                // the batcher's bounds exclude; its data stays readable in memory.
                let message = format!("cannot make an object of batch {name}: this is a bug");
                let error = Error::new(ErrorKind::InvalidArgument, message).because(error);
                return self.progress.stuck(place, error);
            }
        };
        let header_len = u32::try_from(header.len()).expect("a header is far below 4 GiB");
        if planted::is(Fault::CheckpointEarly) {
            let slot = batch.slot();
            self.objects.set_stored(slot, header_len, data_sectors);
        }
        let body = batch.stored_blocks();
        let (store, runtime) = (&*self.store, &*self.runtime);
        let mut creation = Creation::new(store, runtime, &name, header, body);
        let started = self.runtime.now();
        self.pace.upload_begins(batch.data_bytes(), started);
        let mut backoff = Backoff::new(runtime);
        while let Err(error) = creation.attempt().await {
            if backoff.is_first() {
                tracing::warn!(object = name, %error, "an upload failed and is tried again");
            } else {
                tracing::debug!(object = name, %error, "an upload failed again");
            }
            // Another's object under our name does not go away by itself.
            let lasting = error.kind() == ErrorKind::Damaged;
            if lasting || self.runtime.now().saturating_sub(started) >= self.retry_timeout {
                self.progress.stuck(place, error);
                self.pool.returned().notify();
            }
            backoff.pause().await;
        }
        let now = self.runtime.now();
        self.pace.upload_ends(batch.data_bytes(), now);
        // First the table, then map M: a reader that no longer finds the batch in memory must find
        // where the object's data begins.
        self.objects
            .set_stored(batch.slot(), header_len, data_sectors);
        self.in_flight.remove(batch.slot());
        let answered = Answered {
            id: batch.id(),
            bytes: batch.data_bytes(),
            segment: batch
                .segment()
                .filter(|_| !planted::is(Fault::SegmentAnswered))
                .map(Arc::clone),
        };
        self.progress.answered(place, answered);
    }

    /// Reads a batch back, however long it takes.
    async fn restore(&self, place: u64, logged: Arc<LoggedBatch>) -> Arc<Batch> {
        let mut backoff = Backoff::new(&*self.runtime);
        loop {
            let restored = match &self.restore {
                Some(restore) => restore.restore(Arc::clone(&logged)).await,
                None => {
                    let message = "a batch is in a log that is not there: this is a bug";
                    Err(Error::new(ErrorKind::Damaged, message))
                }
            };
            match restored {
                Ok(batch) => return batch,
                Err(error) => {
                    tracing::error!(%error, "a batch cannot be read back from the write log");
                    self.progress.stuck(place, error);
                    self.pool.returned().notify();
                }
            }
            backoff.pause().await;
        }
    }
}
