//! One life of a writer: from an opening, over the work of some clients, to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use lsvd::doors::disk::LocalDisk;
use lsvd::sync::Signal;
use lsvd::{Durability, FlushTarget, OpenOptions, Volume};
use parking_lot::Mutex;

use super::World;
use super::client::Client;
use super::settings::index;
use crate::cloud::{Line, Mood};
use crate::disk::{Fault, MemoryDisk, Reach};
use crate::executor::{Group, Stop};
use crate::history::{Durable, SECTOR};
use crate::points::{Last, Place};
use crate::random::Random;

/// Time after which whatever clients wait for must have come, or have failed.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A writer that was taken over and lives on.
pub(super) struct Ghost {
    machine: usize,
    process: Process,
}

/// A running writer.
struct Process {
    group: Group,
    /// What its disk is slow with.
    hardware: Group,
    line: Line,
}

/// Where a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// After so many steps of its tasks; or it is only stalled then.
    Steps(u64, Stop),
    /// At a point.
    Point(Last),
    /// Some time after the clients are done.
    Quiet,
}

/// What is left when a machine has crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Process,
    Power,
    Disk,
}

/// How a life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The process is to end now.
    Crash,
    /// Another machine is to take over while it lives on, stalled or not.
    LivesOn,
}

/// What came first.
enum Came<T> {
    Done(T),
    Stopped(Stop),
    Late,
}

impl World {
    /// From an opening to a crash, or to a take-over by another machine.
    pub(super) async fn live(&mut self) -> Result<(), String> {
        let machine = self.choose_machine();
        let process = self.start(machine);
        let over = match self.open(machine, &process).await? {
            Ok((volume, options)) => {
                self.died_opening = false;
                let over = self.work(machine, &process, volume, &options).await?;
                self.lay_ghost();
                over
            }
            Err(over) => {
                let mut counts = self.counts.lock();
                counts.in_openings += u64::from(over == Over::Crash);
                counts.in_openings_again += u64::from(over == Over::Crash && self.died_opening);
                counts.stalled_openings += u64::from(over == Over::LivesOn);
                self.died_opening = true;
                over
            }
        };
        match over {
            Over::Crash => self.crash(machine, process),
            Over::LivesOn => {
                self.counts.lock().take_overs += 1;
                self.ghost = Some(Ghost { machine, process });
                self.owner = None;
            }
        }
        Ok(())
    }

    /// Mostly the one that has the log; never one on which a ghost lives.
    fn choose_machine(&mut self) -> usize {
        let elsewhere = self.random.chance(12);
        let first = self.owner.unwrap_or(index(self.random.below(2)));
        let chosen = match elsewhere {
            true => 1 - first,
            false => first,
        };
        match &self.ghost {
            Some(ghost) if ghost.machine == chosen => 1 - chosen,
            _ => chosen,
        }
    }

    fn start(&mut self, machine: usize) -> Process {
        let group = self.executor.group();
        let hardware = self.executor.group();
        let mood = Mood::draw(&mut self.random);
        let seed = self.random.bits();
        let line = self.cloud.line(group, mood, seed, self.points.clone());
        match self.choose_end() {
            End::Steps(steps, stop) => self.executor.stop_after(group, steps, stop),
            End::Point(last) => self.points.end_at(last),
            End::Quiet => {}
        }
        self.prepare_disk(machine, group, hardware);
        Process {
            group,
            hardware,
            line,
        }
    }

    /// During the opening, more often where the last one was not survived either, or at work.
    fn choose_end(&mut self) -> End {
        let random = &mut self.random;
        let early = random.chance(if self.died_opening { 50 } else { 30 });
        match random.below(5) {
            0 if !early => End::Quiet,
            0 | 1 => {
                let steps = random.below(if early { 60 } else { 3000 });
                // There is one ghost at a time.
                let stop = match self.ghost.is_none() && random.chance(40) {
                    true => Stop::Stall,
                    false => Stop::End,
                };
                End::Steps(steps, stop)
            }
            _ => End::Point(Last {
                place: Place::ALL[index(random.below(Place::ALL.len() as u64))],
                // Many are passed once or never in a life.
                passes: match random.below(3) {
                    0 => 0,
                    _ => random.below(if early { 3 } else { 40 }),
                },
                is_done: random.chance(50),
            }),
        }
    }

    fn prepare_disk(&mut self, machine: usize, group: Group, hardware: Group) {
        let disk = &self.disks[machine];
        let (points, executor) = (self.points.clone(), self.executor.clone());
        let mut reaches = Random::new(self.random.bits());
        disk.stop_when(move |request| {
            let place = Place::of_disk(request);
            let reach = if points.is_last(place, false) {
                match reaches.below(3) {
                    0 => Reach::Nothing,
                    1 => Reach::Part(reaches.bits()),
                    _ => Reach::Unsynced,
                }
            } else if points.is_last(place, true) {
                Reach::Whole
            } else {
                return None;
            };
            executor.end(group);
            Some(reach)
        });
        for fault in [Fault::Sync, Fault::Write, Fault::Read] {
            if self.random.chance(4) {
                disk.fail_after(self.random.below(30), fault);
            }
        }
        if self.random.chance(50) {
            self.slow_disk_down(machine, hardware);
        }
    }

    /// Some requests take a while, so that others overtake them and crashes find them under way.
    fn slow_disk_down(&mut self, machine: usize, hardware: Group) {
        let disk = self.disks[machine].clone();
        let mut random = Random::new(self.random.bits());
        let mut which = Random::new(self.random.bits());
        disk.hold_when(move |_| which.chance(50));
        let executor = self.executor.clone();
        let task = async move {
            loop {
                disk.until_held(1).await;
                let pause = Duration::from_micros(random.below(4000));
                executor.sleep(pause).await;
                let held = disk.held().len() as u64;
                disk.release(index(random.below(held)));
            }
        };
        self.executor.spawn(hardware, Box::pin(task));
    }

    /// What happens first: the work is done, its process ends, or nothing does.
    async fn until<T>(&self, group: Group, work: impl Future<Output = T>) -> Came<T> {
        let stopped = pin!(self.executor.until_stopped(group));
        let late = pin!(self.executor.sleep(PATIENCE));
        match select(pin!(work), select(stopped, late)).await {
            Either::Left((done, _)) => Came::Done(done),
            Either::Right((Either::Left((stop, _)), _)) => Came::Stopped(stop),
            Either::Right((Either::Right(_), _)) => Came::Late,
        }
    }

    /// Opens the volume, and judges what is there; or says how it was over before, where the opening
    /// failed as it may, too.
    async fn open(
        &mut self,
        machine: usize,
        process: &Process,
    ) -> Result<Result<(Volume, OpenOptions), Over>, String> {
        let is_owner = self.owner == Some(machine);
        let options = self.settings.open(&mut self.random, machine, !is_owner);
        let has_log = !self.disks[machine].names().is_empty();
        if !is_owner {
            // From now on nobody knows who has claimed it, until somebody has opened it.
            self.owner = None;
        }
        self.wake_ghost(process, 40);
        let opening = self.start_opening(machine, process, &options)?;
        let volume = match self.until(process.group, opening).await {
            Came::Done(Ok(volume)) => volume,
            Came::Done(Err(error)) => {
                self.excuse(machine, process, &error)?;
                return Ok(Err(Over::Crash));
            }
            // One that has not claimed yet would take over whoever opens the volume meanwhile.
            Came::Stopped(Stop::Stall) if process.line.has_claimed() => {
                return Ok(Err(Over::LivesOn));
            }
            Came::Stopped(_) => return Ok(Err(Over::Crash)),
            Came::Late => return Err("an opening never ends".to_owned()),
        };
        process.line.set_mood(Mood::GOOD);
        let mut found = vec![0xee; index(self.settings.sectors) * SECTOR];
        let reading = volume.read_async(0, &mut found);
        match self.until(process.group, reading).await {
            Came::Done(Ok(())) => {}
            Came::Done(Err(error)) => {
                self.excuse(machine, process, &error)?;
                return Ok(Err(Over::Crash));
            }
            Came::Stopped(Stop::Stall) => return Ok(Err(Over::LivesOn)),
            Came::Stopped(Stop::End) => return Ok(Err(Over::Crash)),
            Came::Late => return Err("a read never ends".to_owned()),
        }
        self.judge(machine, (is_owner, has_log), &found)?;
        process.line.set_mood(Mood::draw(&mut self.random));
        Ok(Ok((volume, options)))
    }

    /// Lets a stalled writer go on amid what this process does, so many times in a hundred.
    fn wake_ghost(&mut self, process: &Process, percent: u64) {
        let Some(ghost) = &self.ghost else { return };
        let pause = Duration::from_millis(self.random.below(100));
        if !self.random.chance(percent) {
            return;
        }
        let (executor, group) = (self.executor.clone(), ghost.process.group);
        let waking = async move {
            executor.sleep(pause).await;
            executor.resume(group);
        };
        self.executor.spawn(process.hardware, Box::pin(waking));
    }

    fn start_opening(
        &self,
        machine: usize,
        process: &Process,
        options: &OpenOptions,
    ) -> Result<impl Future<Output = lsvd::Result<Volume>> + use<>, String> {
        let disk = self.disks[machine].open();
        let disk = disk.map_err(|error| format!("a crashed process has its disk: {error}"))?;
        let runtime = self.executor.runtime(process.group);
        let opened = Arc::new((Signal::default(), Mutex::new(None)));
        let (store, options) = (Arc::new(process.line.clone()), options.clone());
        let task = {
            let (opened, runtime) = (Arc::clone(&opened), Arc::clone(&runtime));
            async move {
                let disk = disk as Arc<dyn LocalDisk>;
                let outcome = Volume::open_async(store, &disk, runtime, &options).await;
                *opened.1.lock() = Some(outcome);
                opened.0.notify();
            }
        };
        runtime.spawn(Box::pin(task));
        Ok(async move {
            let (signal, slot) = &*opened;
            signal.until(|| slot.lock().take()).await
        })
    }

    /// An opening or a read may fail where the store or the disk does, or another writer is there.
    fn excuse(&self, machine: usize, process: &Process, error: &lsvd::Error) -> Result<(), String> {
        use lsvd::ErrorKind::{Damaged, Fenced, InUse, LocalDisk, NoSpace, Unavailable};
        let is_excused = match error.kind() {
            Unavailable | NoSpace | LocalDisk => true,
            Fenced => self.ghost.is_some(),
            // What somebody sent who is gone may still arrive, and be in the way: once.
            InUse => error.to_string().contains("at this moment"),
            Damaged => process.line.mood().truncated > 0,
            _ => false,
        };
        if is_excused {
            return Ok(());
        }
        Err(format!("machine {machine} cannot open the volume: {error}"))
    }

    fn judge(
        &mut self,
        machine: usize,
        (is_owner, has_log): (bool, bool),
        found: &[u8],
    ) -> Result<(), String> {
        let mut history = self.history.lock();
        let (changes, expect) = (history.len(), crate::history::Expect::Flushed);
        let required = history.required(expect);
        let judged = match is_owner {
            true => history.settle(found, expect),
            false => history.take_over(found, !has_log).map(drop),
        };
        judged.map_err(|what| {
            format!(
                "machine {machine}, owner {is_owner}, {changes} changes, {required} flushed: {what}"
            )
        })?;
        self.owner = Some(machine);
        Ok(())
    }

    /// Works with an open volume.
    async fn work(
        &mut self,
        machine: usize,
        process: &Process,
        volume: Volume,
        options: &OpenOptions,
    ) -> Result<Over, String> {
        let client = Client {
            executor: self.executor.clone(),
            volume,
            history: Arc::clone(&self.history),
            wrong: Arc::clone(&self.wrong),
            counts: Arc::clone(&self.counts),
            line: self.history.lock().line(),
            durable: match options.flush {
                FlushTarget::Local => Durable::InLog,
                FlushTarget::Store => Durable::InStore,
            },
            writes_through: options.durability == Durability::WriteThrough,
            sectors: self.settings.sectors,
            largest: (self.settings.object_bytes / SECTOR as u64).min(64),
            is_cut_short: process.line.mood().truncated > 0,
        };
        let random = &mut self.random;
        let clients = random.below(5);
        let flushing = [0, 2, 8, 30][index(random.below(4))];
        let closes = random.chance(12);
        let leaves = random.chance(15).then(|| random.below(300));
        let stalls = random.chance(70);
        self.wake_ghost(process, 100);
        let done = Arc::new((Signal::default(), Mutex::new(clients)));
        for _ in 0..clients {
            let (client, done) = (client.clone(), Arc::clone(&done));
            let seed = Random::new(self.random.bits());
            let requests = self.random.below(60);
            let task = async move {
                client.work(seed, requests, flushing).await;
                *done.1.lock() -= 1;
                done.0.notify();
            };
            self.executor.spawn(process.group, Box::pin(task));
        }
        let all_done = done.0.until(|| (*done.1.lock() == 0).then_some(()));
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
            Came::Done(Either::Left(_)) => {}
            Came::Done(Either::Right(_)) => {
                if stalls {
                    self.executor.stall(process.group);
                }
                return Ok(Over::LivesOn);
            }
            Came::Stopped(Stop::Stall) => return Ok(Over::LivesOn),
            Came::Stopped(Stop::End) => return Ok(Over::Crash),
            Came::Late => return Err(format!("machine {machine}: clients wait for ever")),
        }
        if closes {
            let closing = client.volume.close_async();
            if let Came::Late = self.until(process.group, closing).await {
                return Err(format!("machine {machine}: a close never ends"));
            }
        }
        let pause = Duration::from_millis(self.random.below(80));
        let resting = self.executor.sleep(pause);
        Ok(match self.until(process.group, resting).await {
            Came::Stopped(Stop::Stall) => Over::LivesOn,
            _ => Over::Crash,
        })
    }

    /// Ends a process, and whatever its machine loses with it.
    fn crash(&mut self, machine: usize, process: Process) {
        self.counts.lock().crashes += 1;
        self.end(machine, process);
        let loss = match self.random.below(16) {
            0..8 => Loss::Process,
            8..15 => Loss::Power,
            _ => Loss::Disk,
        };
        let seed = self.random.bits();
        let disk = &mut self.disks[machine];
        *disk = match loss {
            Loss::Process => disk.kill(seed),
            Loss::Power => disk.crash(seed),
            Loss::Disk => MemoryDisk::at(format!("/machine{machine}"), 512),
        };
        let mut counts = self.counts.lock();
        counts.power_losses += u64::from(loss == Loss::Power);
        counts.disk_losses += u64::from(loss == Loss::Disk);
        if loss == Loss::Disk && self.owner == Some(machine) {
            self.owner = None;
        }
    }

    fn end(&mut self, machine: usize, process: Process) {
        self.disks[machine].stop();
        self.points.end_nowhere();
        self.executor.remove(process.group);
        self.executor.remove(process.hardware);
    }

    /// Ends a writer that was taken over, as a kill does.
    pub(super) fn lay_ghost(&mut self) {
        let Some(Ghost { machine, process }) = self.ghost.take() else {
            return;
        };
        self.end(machine, process);
        let seed = self.random.bits();
        self.disks[machine] = self.disks[machine].kill(seed);
    }
}
