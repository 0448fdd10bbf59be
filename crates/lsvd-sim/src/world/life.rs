//! One life of a writer: from an opening, over the work of some clients, to its end.

use std::time::Duration;

use super::World;
use super::hardware::{Condition, Flaws};
use super::opening::Opening;
use super::settings::{LogSize, index};
use super::standing::Standing;
use super::work::Parting;
use crate::cloud::{Line, Mood};
use crate::disk::MemoryDisk;
use crate::executor::{Group, Stop};
use crate::points::{Last, Place, Points};
use crate::random::Random;

/// Time in which all that a process sent has arrived, given up or not, where requests are never late:
/// the machine is started again no sooner.
const RESTART: Duration = Duration::from_secs(1);

/// A writer that was taken over and lives on.
pub(super) struct Ghost {
    pub(super) machine: usize,
    pub(super) process: Process,
}

/// A running writer.
pub(super) struct Process {
    pub(super) group: Group,
    /// What its disk is slow with.
    pub(super) hardware: Group,
    pub(super) line: Line,
    pub(super) points: Points,
    pub(super) standing: Standing,
    pub(super) log: LogSize,
    /// What is wrong with its disk.
    pub(super) flaws: Flaws,
    /// Whether it closes its volume where that is the only way to its end.
    pub(super) closes: bool,
}

/// Where a life ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// After so many steps of its tasks; or it is only stalled then.
    Steps(u64, Stop),
    /// At a point.
    Point(Last),
    /// Some time after the clients are done.
    Quiet,
}

/// How a life is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) end: End,
    /// How requests to the store fare while the volume is opened.
    pub(super) mood: Mood,
    pub(super) disk: Condition,
    pub(super) log: LogSize,
}

/// What is left when a machine has crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Process,
    Power,
    Disk,
}

impl World {
    /// From an opening to a crash, or to a take-over by another machine.
    pub(super) async fn live(&mut self) -> Result<(), String> {
        let strays = self.look_for_strays()?;
        let machine = self.choose_machine();
        let plan = self.choose_plan(strays);
        let process = self.start(machine, plan);
        let parting = match self.open(machine, &process).await? {
            Opening::Served(volume, options) => {
                self.died_opening = false;
                self.is_closed = false;
                self.check(machine, &volume)?;
                let mood = self.draw_mood();
                process.line.set_mood(mood);
                let parting = self.work(machine, &process, volume, &options).await?;
                self.lay_ghost();
                parting
            }
            Opening::Failed(_) => self.note_unopened(&process, Parting::Failed),
            Opening::Crashed => self.note_unopened(&process, Parting::CrashedInOpening),
            Opening::Stalled => self.note_unopened(&process, Parting::TakenOver),
        };
        self.counts.lock().note(parting);
        self.is_closed |= parting == Parting::Closed;
        let is_renaming = process.log == LogSize::Other && parting == Parting::CrashedInOpening;
        if parting == Parting::TakenOver {
            self.ghost = Some(Ghost { machine, process });
            self.owner = None;
        } else {
            self.end_machine(machine, process);
        }
        self.was_renaming = is_renaming;
        self.restart().await;
        Ok(())
    }

    fn note_unopened(&mut self, process: &Process, parting: Parting) -> Parting {
        let mut counts = self.counts.lock();
        let is_crash = parting == Parting::CrashedInOpening;
        counts.in_openings_again += u64::from(is_crash && self.died_opening);
        counts.stalled_openings += u64::from(parting == Parting::TakenOver);
        self.died_opening = true;
        self.failed.insert(process.group);
        parting
    }

    /// A store that breaks its contract does not tell two writers apart: so there is one, and what it
    /// sent arrives before the next begins.
    async fn restart(&self) {
        if self.settings.contract.breach.is_some() {
            self.executor.sleep(RESTART).await;
        }
    }

    fn draw_mood(&mut self) -> Mood {
        let mood = Mood::draw(&mut self.random);
        match self.settings.contract.breach {
            Some(_) => Mood { late: 0, ..mood },
            None => mood,
        }
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

    pub(super) fn start(&mut self, machine: usize, plan: Plan) -> Process {
        let group = self.executor.group();
        let hardware = self.executor.group();
        let seed = self.random.bits();
        let points = self.points.of_process();
        let line = self.cloud.line(group, plan.mood, seed, points.clone());
        match plan.end {
            End::Steps(steps, stop) => self.executor.stop_after(group, steps, stop),
            End::Point(last) => points.stop_at(last),
            End::Quiet => {}
        }
        let flaws = self.prepare_disk(machine, (group, hardware), &points, plan.disk);
        Process {
            group,
            hardware,
            line,
            points,
            standing: Standing::default(),
            log: plan.log,
            flaws,
            closes: matches!(plan.end, End::Point(last) if last.place == Place::MarkClosed),
        }
    }

    fn choose_plan(&mut self, strays: usize) -> Plan {
        let plan = Plan {
            end: self.choose_end(),
            mood: self.draw_mood(),
            disk: Condition::Drawn,
            log: match self.random.chance(50) {
                true => LogSize::Same,
                false => LogSize::Drawn,
            },
        };
        if self.was_renaming {
            // What it finds may not be there for good.
            return Plan {
                end: End::Steps(self.random.below(3000), Stop::End),
                mood: Mood::GOOD,
                disk: Condition::Sound,
                log: LogSize::Same,
            };
        }
        // Few lives have anything of no stream to remove, or a log to make anew.
        let (place, passes, log) = if strays > 0 && self.random.chance(70) {
            (
                Place::DeleteData,
                self.random.below(strays as u64),
                plan.log,
            )
        } else if self.is_closed && self.random.chance(30) {
            (Place::RenameLog, 0, LogSize::Other)
        } else {
            return plan;
        };
        let last = Last {
            place,
            passes,
            is_done: self.random.chance(50),
            stop: Stop::End,
        };
        Plan {
            end: End::Point(last),
            mood: Mood::GOOD,
            log,
            ..plan
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
                End::Steps(steps, self.choose_stop())
            }
            _ => {
                let place = Place::ALL[index(random.below(Place::ALL.len() as u64))];
                let passes = match random.below(3) {
                    0 => 0,
                    _ if place.is_rare() => random.below(2),
                    _ => random.below(if early { 3 } else { 40 }),
                };
                let is_done = random.chance(50);
                let stop = match place.is_of_store() {
                    true => self.choose_stop(),
                    false => Stop::End,
                };
                End::Point(Last {
                    place,
                    passes,
                    is_done,
                    stop,
                })
            }
        }
    }

    /// One writer at a time lives on beside another, in a store that tells them apart.
    fn choose_stop(&mut self) -> Stop {
        let may_stall = self.ghost.is_none() && self.settings.contract.breach.is_none();
        match may_stall && self.random.chance(40) {
            true => Stop::Stall,
            false => Stop::End,
        }
    }

    /// Ends a process, and whatever its machine loses with it.
    pub(super) fn end_machine(&mut self, machine: usize, process: Process) {
        let drawn = self.random.below(16);
        let drawn = match process.log {
            LogSize::Other => 0,
            LogSize::Same if self.was_renaming => 8 + drawn / 2,
            LogSize::Same | LogSize::Drawn => drawn,
        };
        self.end(machine, process);
        let loss = match drawn {
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

    /// A small part of the world's chance.
    pub(super) fn fork(&mut self) -> Random {
        Random::new(self.random.bits())
    }
}
