//! What is done with an open volume, until its life ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use lsvd::sync::Signal;
use lsvd::{Durability, FlushTarget, OpenOptions, Volume};
use parking_lot::Mutex;

use super::World;
use super::client::Client;
use super::life::Process;
use super::opening::Came;
use super::settings::index;
use super::standing::Instant;
use crate::cloud::Mood;
use crate::executor::Stop;
use crate::history::{Durable, SECTOR};

/// Time behind the work of clients in which a writer that was taken over must learn of it.
const OUTLASTED: Duration = Duration::from_secs(40);

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// The process is cut off while it opens the volume.
    CrashedInOpening,
    /// Amid work.
    Crashed,
    /// With an open volume, when the clients are done.
    CrashedAtRest,
    /// The volume did not open.
    Failed,
    /// The volume was closed.
    Closed,
    /// It lives on, and another machine takes over.
    TakenOver,
}

impl Parting {
    const fn of(stop: Stop) -> Self {
        match stop {
            Stop::Stall => Self::TakenOver,
            Stop::End => Self::Crashed,
        }
    }
}

impl World {
    /// Works with an open volume.
    pub(super) async fn work(
        &mut self,
        machine: usize,
        process: &Process,
        volume: Volume,
        options: &OpenOptions,
    ) -> Result<Parting, String> {
        let client = self.client(process, volume, options);
        let served = self.cloud.turn();
        let leaves = self.random.chance(15) && self.settings.contract.breach.is_none();
        let leaves = leaves.then(|| self.random.below(300));
        let stalls = self.random.chance(70);
        let outlasts = self.ghost.is_some() && self.random.chance(60);
        let sleeps = if outlasts {
            8_000 + self.random.below(6_000)
        } else {
            self.random.below(100)
        };
        self.wake_ghost(process, Duration::from_millis(sleeps));
        if self.random.chance(20) && self.settings.contract.breach.is_none() {
            self.start_reader(process);
        }
        let all_done = self.start_clients(process, &client);
        let came = self.until_left(process, all_done, leaves).await;
        self.check(machine, &client.volume)?;
        match came {
            Came::Done(false) => {}
            Came::Done(true) => {
                if stalls {
                    self.executor.stall(process.group);
                }
                return Ok(Parting::TakenOver);
            }
            Came::Stopped(stop) => return Ok(Parting::of(stop)),
            Came::Late => return Err(format!("machine {machine}: clients wait for ever")),
        }
        let parting = self.wind_up(machine, process, &client, served).await?;
        if outlasts && parting != Parting::Crashed {
            self.executor.sleep(OUTLASTED).await;
        }
        self.check(machine, &client.volume)?;
        Ok(parting)
    }

    /// Waits until all clients are done, or for so many milliseconds, if it is to be left then; whether
    /// it is.
    async fn until_left(
        &self,
        process: &Process,
        all_done: impl Future<Output = ()>,
        leaves: Option<u64>,
    ) -> Came<bool> {
        let leaving = async {
            match leaves {
                Some(milliseconds) => {
                    let pause = Duration::from_millis(milliseconds);
                    self.executor.sleep(pause).await;
                }
                None => std::future::pending().await,
            }
        };
        let (all_done, leaving) = (pin!(all_done), pin!(leaving));
        match self.until(process.group, select(all_done, leaving)).await {
            Came::Done(Either::Left(_)) => Came::Done(false),
            Came::Done(Either::Right(_)) => Came::Done(true),
            Came::Stopped(stop) => Came::Stopped(stop),
            Came::Late => Came::Late,
        }
    }

    /// What a client of this volume has to do with.
    pub(super) fn client(
        &self,
        process: &Process,
        volume: Volume,
        options: &OpenOptions,
    ) -> Client {
        Client {
            executor: self.executor.clone(),
            volume,
            history: Arc::clone(&self.history),
            wrong: Arc::clone(&self.wrong),
            counts: Arc::clone(&self.counts),
            line: self.history.lock().line(),
            standing: process.standing.clone(),
            store: process.line.clone(),
            durable: match options.flush {
                FlushTarget::Local => Durable::InLog,
                FlushTarget::Store => Durable::InStore,
            },
            writes_through: options.durability == Durability::WriteThrough,
            sectors: self.settings.sectors,
            largest: (self.settings.object_bytes / SECTOR as u64).min(64),
            is_cut_short: process.line.mood().truncated > 0 || self.loses_objects(),
        }
    }

    /// A writer that was stalled goes on amid what this one does.
    pub(super) fn wake_ghost(&mut self, process: &Process, pause: Duration) {
        let Some(ghost) = &self.ghost else { return };
        let (executor, history) = (self.executor.clone(), Arc::clone(&self.history));
        let (group, standing) = (ghost.process.group, ghost.process.standing.clone());
        let waking = async move {
            executor.sleep(pause).await;
            executor.resume(group);
            standing.resume(Instant::now(&executor, &history));
        };
        self.executor.spawn(process.hardware, Box::pin(waking));
    }

    /// Starts some clients; what comes back waits for all of them.
    fn start_clients(
        &mut self,
        process: &Process,
        client: &Client,
    ) -> impl Future<Output = ()> + use<> {
        let clients = self.random.below(5);
        let flushing = [0, 2, 8, 30][index(self.random.below(4))];
        let done = Arc::new((Signal::default(), Mutex::new(clients)));
        for _ in 0..clients {
            let (client, done) = (client.clone(), Arc::clone(&done));
            let (random, requests) = (self.fork(), self.random.below(60));
            let task = async move {
                client.work(random, requests, flushing).await;
                *done.1.lock() -= 1;
                done.0.notify();
            };
            self.executor.spawn(process.group, Box::pin(task));
        }
        async move {
            let (signal, left) = &*done;
            signal.until(|| (*left.lock() == 0).then_some(())).await;
        }
    }

    /// When the clients are done: perhaps a checkpoint, a close, a pause.
    async fn wind_up(
        &mut self,
        machine: usize,
        process: &Process,
        client: &Client,
        served: u64,
    ) -> Result<Parting, String> {
        let asked = self.history.lock().tick();
        if self.random.chance(30) {
            let checkpoint = client.volume.checkpoint_async();
            match self.until(process.group, checkpoint).await {
                Came::Done(Ok(())) => {
                    client.note_stored(asked);
                    if process.line.mood() == Mood::GOOD {
                        self.count_what_is_there(process, served)?;
                    }
                }
                Came::Done(Err(_)) => {}
                Came::Stopped(stop) => return Ok(Parting::of(stop)),
                Came::Late => return Err(format!("machine {machine}: a checkpoint never ends")),
            }
        }
        let mut parting = Parting::CrashedAtRest;
        if process.closes || self.random.chance(20) {
            let closing = client.volume.close_async();
            match self.until(process.group, closing).await {
                Came::Done(Ok(())) => {
                    client.note_stored(asked);
                    parting = Parting::Closed;
                }
                Came::Done(Err(_)) => {}
                Came::Stopped(stop) => return Ok(Parting::of(stop)),
                Came::Late => return Err(format!("machine {machine}: a close never ends")),
            }
        }
        let pause = Duration::from_millis(self.random.below(80));
        let resting = self.executor.sleep(pause);
        Ok(match self.until(process.group, resting).await {
            Came::Stopped(Stop::Stall) => Parting::TakenOver,
            Came::Stopped(Stop::End) | Came::Done(()) | Came::Late => parting,
        })
    }
}
