//! The disks of the machines: slow, failing, full, and stopped at the point where a life ends.

use std::time::Duration;

use super::World;
use super::settings::index;
use crate::disk::{Fault, Reach};
use crate::executor::Group;
use crate::points::{Place, Points};
use crate::random::Random;

/// How a disk fares in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It works, as long as nobody ends the life.
    Sound,
    /// As the seed has it.
    Drawn,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flaws {
    /// Some request of it is going to fail.
    pub(super) fails: bool,
    /// It has no room for another log.
    pub(super) is_full: bool,
}

impl World {
    /// What the disk is going to be like.
    pub(super) fn prepare_disk(
        &mut self,
        machine: usize,
        (group, hardware): (Group, Group),
        points: &Points,
        condition: Condition,
    ) -> Flaws {
        self.stop_disk_at_the_last(machine, group, points.clone());
        let disk = &self.disks[machine];
        disk.limit(u64::MAX);
        if condition == Condition::Sound {
            return Flaws::default();
        }
        let mut flaws = Flaws::default();
        for fault in [Fault::Sync, Fault::Write, Fault::Read] {
            if self.random.chance(4) {
                disk.fail_after(self.random.below(30), fault);
                flaws.fails = true;
            }
        }
        flaws.is_full = self.random.chance(5);
        if flaws.is_full {
            // Of a new log a part would fit.
            disk.limit(disk.bytes() + self.random.below(4 * self.settings.object_bytes));
            self.counts.lock().full_disks += 1;
        }
        if self.random.chance(50) {
            self.slow_disk_down(machine, hardware);
        }
        flaws
    }

    fn stop_disk_at_the_last(&mut self, machine: usize, group: Group, points: Points) {
        let executor = self.executor.clone();
        let mut reaches = Random::new(self.random.bits());
        self.disks[machine].stop_when(move |request| {
            let place = Place::of_disk(request, points.phase());
            let reach = if points.pass(place, false).is_some() {
                match reaches.below(3) {
                    0 => Reach::Nothing,
                    1 => Reach::Part(reaches.bits()),
                    _ => Reach::Unsynced,
                }
            } else if points.pass(place, true).is_some() {
                Reach::Whole
            } else {
                return None;
            };
            executor.end(group);
            Some(reach)
        });
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
                let held = disk.held_count() as u64;
                disk.release(index(random.below(held)));
            }
        };
        self.executor.spawn(hardware, Box::pin(task));
    }
}
