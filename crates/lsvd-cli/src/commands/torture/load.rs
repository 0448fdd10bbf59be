//! The load of one round: many requests at once on every connection, until the server dies or the
//! round's time is over, and the history of them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lsvd_nbd::Zeroing;
use lsvd_nbd::client::{Client, ClientError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::history::{Change, Clock, Kind, Moment, Outcome};
use super::stamp::{self, Number, SECTOR};
use super::workload::{Request, Workload};
use crate::failure::Failure;

/// How long a sender waits after an error: a server that answers nothing else is not to fill the
/// history with them.
const AFTER_ERROR: Duration = Duration::from_millis(1);

/// How far a round has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Requests are sent.
    Load,
    /// No further one is; those under way are waited for.
    Ending,
    /// Nothing is waited for.
    Over,
}

/// What the senders have in common.
#[derive(Debug)]
struct Shared {
    clock: Arc<Clock>,
    seed: u64,
    round: u32,
    stage: watch::Receiver<Stage>,
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    stage: watch::Sender<Stage>,
    senders: JoinSet<Record>,
}

/// What was sent and what came of it.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) changes: Vec<Change>,
    /// When each answered flush was sent.
    pub(super) flushes: Vec<Moment>,
    /// Requests that were answered with an error.
    pub(super) errors: u64,
    /// The first of these errors.
    pub(super) first_error: Option<String>,
}

/// The requests of one connection, taken one by one by its senders.
type Requests = Arc<Mutex<(Workload, u32)>>;

impl Load {
    /// Starts `depth` senders on every connection.
    pub(super) fn start(
        clients: &[Client],
        depth: u16,
        (seed, round): (u64, u32),
        clock: &Arc<Clock>,
        workload: impl Fn(u16) -> Workload,
    ) -> Self {
        let (stage, seen) = watch::channel(Stage::Load);
        let shared = Arc::new(Shared {
            clock: Arc::clone(clock),
            seed,
            round,
            stage: seen,
        });
        let mut senders = JoinSet::new();
        for (connection, client) in (0_u16..).zip(clients) {
            let requests = Arc::new(Mutex::new((workload(connection), 0)));
            for _ in 0..depth {
                let sender = Sender {
                    shared: Arc::clone(&shared),
                    client: client.clone(),
                    connection,
                    requests: Arc::clone(&requests),
                    record: Record::default(),
                };
                senders.spawn(sender.run());
            }
        }
        Self { stage, senders }
    }

    /// Ends the load: what is not answered after `patience` counts as not answered at all.
    pub(super) async fn end(mut self, patience: Duration) -> Result<Record, Failure> {
        self.stage.send_replace(Stage::Ending);
        let mut record = Record::default();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let joined = match tokio::time::timeout_at(deadline, self.senders.join_next()).await {
                Ok(joined) => joined,
                Err(_) => {
                    self.stage.send_replace(Stage::Over);
                    self.senders.join_next().await
                }
            };
            match joined {
                Some(Ok(part)) => record.take_in(part),
                Some(Err(error)) => {
                    return Err(Failure::failed(format!("a sender did not end: {error}")));
                }
                None => return Ok(record),
            }
        }
    }
}

impl Record {
    fn take_in(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.flushes.extend(other.flushes);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// Sends one request after the other.
struct Sender {
    shared: Arc<Shared>,
    client: Client,
    connection: u16,
    requests: Requests,
    record: Record,
}

/// What came of one request.
enum Answer {
    Done,
    Failed(String),
    /// The connection is gone, or nobody waits any longer.
    None,
}

impl Sender {
    async fn run(mut self) -> Record {
        while *self.shared.stage.borrow() == Stage::Load {
            let Some((request, number)) = self.take() else {
                break;
            };
            match self.send(request, number).await {
                Answer::Done => {}
                Answer::Failed(error) => {
                    self.record.errors += 1;
                    self.record.first_error.get_or_insert(error);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
                Answer::None => break,
            }
        }
        self.record
    }

    fn take(&self) -> Option<(Request, Number)> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let (workload, index) = &mut *requests;
        let number = Number::new(self.shared.round, self.connection, *index)?;
        *index += 1;
        Some((workload.next(), number))
    }

    async fn send(&mut self, request: Request, number: Number) -> Answer {
        let (kind, fua, first, count) = match request {
            Request::Flush => return self.flush().await,
            Request::Change {
                kind,
                fua,
                first,
                count,
            } => (kind, fua, first, count),
        };
        let data = match kind {
            Kind::Write => stamp::data(number, self.shared.seed, first as u64, count),
            Kind::Trim | Kind::WriteZeroes => Vec::new(),
        };
        let sent = self.shared.clock.tick();
        let (client, offset, len) = (
            &self.client,
            (first * SECTOR) as u64,
            (count * SECTOR) as u64,
        );
        let zeroing = Zeroing {
            // Half of them ask for the space to stay allocated.
            no_hole: number.is_odd(),
            fast: false,
        };
        let asked = async {
            match (kind, fua) {
                (Kind::Write, false) => client.write(offset, &data).await,
                (Kind::Write, true) => client.write_fua(offset, &data).await,
                (Kind::Trim, false) => client.trim(offset, len).await,
                (Kind::Trim, true) => client.trim_fua(offset, len).await,
                (Kind::WriteZeroes, false) => client.write_zeroes(offset, len, zeroing).await,
                (Kind::WriteZeroes, true) => client.write_zeroes_fua(offset, len, zeroing).await,
            }
        };
        let answer = self.wait(asked).await;
        let outcome = match answer {
            Answer::Done => Outcome::Done(self.shared.clock.tick()),
            Answer::Failed(_) => Outcome::Unsure(self.shared.clock.tick()),
            Answer::None => Outcome::Unanswered,
        };
        self.record.changes.push(Change {
            number,
            kind,
            fua,
            first,
            count,
            sent,
            outcome,
        });
        answer
    }

    async fn flush(&mut self) -> Answer {
        let sent = self.shared.clock.tick();
        let answer = self.wait(self.client.flush()).await;
        if matches!(answer, Answer::Done) {
            self.record.flushes.push(sent);
        }
        answer
    }

    /// Waits for an answer as long as anybody wants one.
    async fn wait(&self, asked: impl Future<Output = Result<(), ClientError>>) -> Answer {
        let mut stage = self.shared.stage.clone();
        tokio::select! {
            // An answer that is there counts.
            biased;
            answer = asked => match answer {
                Ok(()) => Answer::Done,
                Err(error @ ClientError::Server { .. }) => Answer::Failed(error.to_string()),
                Err(_) => Answer::None,
            },
            // Where the load itself is gone, nobody wants one either.
            _ = stage.wait_for(|stage| *stage == Stage::Over) => Answer::None,
        }
    }
}
