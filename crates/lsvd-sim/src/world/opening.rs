//! An opening of the volume, and the judgement of what is there.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use lsvd::doors::disk::LocalDisk;
use lsvd::sync::Signal;
use lsvd::{OpenOptions, Volume};
use parking_lot::Mutex;

use super::life::Process;
use super::settings::index;
use super::standing::Instant;
use super::{Ending, World};
use crate::cloud::{Breach, Mood};
use crate::executor::{Group, Stop};
use crate::history::{Expect, SECTOR};

/// Time after which whatever clients wait for must have come, or have failed.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What came first.
pub(super) enum Came<T> {
    Done(T),
    Stopped(Stop),
    Late,
}

/// How an opening ended.
pub(super) enum Opening {
    Served(Volume, OpenOptions),
    /// It failed, as it may.
    Failed(lsvd::Error),
    Crashed,
    /// It was stalled behind its claim.
    Stalled,
}

impl World {
    /// What happens first: the work is done, its process ends, or nothing does.
    pub(super) async fn until<T>(&self, group: Group, work: impl Future<Output = T>) -> Came<T> {
        let stopped = pin!(self.executor.until_stopped(group));
        let late = pin!(self.executor.sleep(PATIENCE));
        match select(pin!(work), select(stopped, late)).await {
            Either::Left((done, _)) => Came::Done(done),
            Either::Right((Either::Left((stop, _)), _)) => Came::Stopped(stop),
            Either::Right((Either::Right(_), _)) => Came::Late,
        }
    }

    /// Opens the volume, and judges what is there.
    pub(super) async fn open(
        &mut self,
        machine: usize,
        process: &Process,
    ) -> Result<Opening, String> {
        let was_owner = self.owner == Some(machine);
        let opening = self.try_to_open(machine, process).await?;
        let is_served = matches!(opening, Opening::Served(..));
        if !is_served && !was_owner && process.points.has_claimed() {
            // Nobody knows who has claimed it, until somebody has opened it.
            self.owner = None;
        }
        Ok(opening)
    }

    async fn try_to_open(&mut self, machine: usize, process: &Process) -> Result<Opening, String> {
        let is_owner = self.owner == Some(machine);
        self.segments = process.log.segments(&mut self.random, self.segments);
        let segments = self.segments;
        let options = self
            .settings
            .open(&mut self.random, machine, !is_owner, segments);
        let has_log = !self.disks[machine].names().is_empty();
        if self.random.chance(40) {
            let pause = Duration::from_millis(self.random.below(100));
            self.wake_ghost(process, pause);
        }
        let opening = self.start_opening(machine, process, &options)?;
        let volume = match self.until(process.group, opening).await {
            Came::Done(Ok(volume)) => volume,
            Came::Done(Err(error)) => return self.excuse(machine, process, error),
            Came::Stopped(stop) => return Ok(self.stopped(process, stop)),
            Came::Late => return Err("an opening never ends".to_owned()),
        };
        process.points.serve();
        process.line.set_mood(Mood::GOOD);
        let mut found = vec![0xee; index(self.settings.sectors) * SECTOR];
        let reading = volume.read_async(0, &mut found);
        match self.until(process.group, reading).await {
            Came::Done(Ok(())) => {}
            Came::Done(Err(error)) => return self.excuse(machine, process, error),
            Came::Stopped(stop) => return Ok(self.stopped(process, stop)),
            Came::Late => return Err("a read never ends".to_owned()),
        }
        self.judge(machine, (is_owner, has_log), &found)?;
        Ok(Opening::Served(volume, options))
    }

    /// One that was stalled before its claim would take over whoever opens the volume meanwhile, which
    /// is another life: it is over.
    fn stopped(&self, process: &Process, stop: Stop) -> Opening {
        let objects = self.cloud.objects();
        let mut superblocks = objects
            .iter()
            .filter(|(name, _)| name.starts_with("superblock."));
        match stop {
            Stop::Stall if superblocks.any(|(_, stored)| stored.by == process.group) => {
                Opening::Stalled
            }
            Stop::Stall | Stop::End => Opening::Crashed,
        }
    }

    pub(super) fn start_opening(
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
    fn excuse(
        &self,
        machine: usize,
        process: &Process,
        error: lsvd::Error,
    ) -> Result<Opening, String> {
        use lsvd::ErrorKind::{Damaged, Fenced, InUse, LocalDisk, NoSpace, Unavailable};
        let mood = process.line.mood();
        let is_excused = match error.kind() {
            _ if self.loses_objects() => {
                self.count_breach(Ending::Error);
                true
            }
            Unavailable => !mood.is_sound(),
            LocalDisk => process.flaws.fails,
            NoSpace => mood.is_full || process.flaws.is_full,
            Fenced => self.ghost.is_some(),
            // What somebody sent who is gone may still arrive, and be in the way: once.
            InUse => error.to_string().contains("at this moment"),
            Damaged => mood.truncated > 0,
            _ => false,
        };
        if is_excused {
            return Ok(Opening::Failed(error));
        }
        Err(format!("machine {machine} cannot open the volume: {error}"))
    }

    /// Whether the store may not have what it was given: nothing must be there then, but what is
    /// there must be a prefix.
    pub(super) const fn loses_objects(&self) -> bool {
        matches!(
            self.settings.contract.breach,
            Some(Breach::Forgets | Breach::Hides)
        )
    }

    pub(super) fn count_breach(&self, ending: Ending) {
        if let Some(breach) = self.settings.contract.breach {
            *self
                .counts
                .lock()
                .breaches
                .entry((breach, ending))
                .or_default() += 1;
        }
    }

    fn judge(
        &mut self,
        machine: usize,
        (is_owner, has_log): (bool, bool),
        found: &[u8],
    ) -> Result<(), String> {
        let expect = match is_owner {
            _ if self.loses_objects() => Expect::Prefix,
            true => Expect::Flushed,
            false => Expect::Stored,
        };
        let mut history = self.history.lock();
        let changes = history.len();
        let required = history.required(expect);
        let judged = match is_owner {
            true => history.settle(found, expect),
            false => history.take_over(found, expect, !has_log).map(drop),
        };
        drop(history);
        judged.map_err(|what| {
            format!(
                "machine {machine}, owner {is_owner}, {changes} changes, {required} required: {what}"
            )
        })?;
        self.owner = Some(machine);
        if let Some(ghost) = &self.ghost {
            let now = Instant::now(&self.executor, &self.history);
            ghost.process.standing.take_over(now);
        }
        self.count_breach(Ending::Prefix);
        Ok(())
    }
}
