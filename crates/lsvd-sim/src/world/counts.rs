//! What was done in a run, or in many.

use std::collections::BTreeMap;

use crate::cloud::Breach;
use crate::points::Place;

/// What was done in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lives that ended in a crash.
    pub crashes: u64,
    /// Those of them that ended while the volume was opened.
    pub in_openings: u64,
    /// Those behind another one of that kind.
    pub in_openings_again: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Losses of the local disk.
    pub disk_losses: u64,
    /// Lives in which the local disk had no room for another log.
    pub full_disks: u64,
    /// Take-overs while the writer before was alive.
    pub take_overs: u64,
    /// Those of a writer that was stalled while it opened the volume.
    pub stalled_openings: u64,
    /// Requests of clients.
    pub operations: u64,
    /// How often an engine was asked whether it is consistent.
    pub self_checks: u64,
    /// How often each object of the store was asked what it is there for.
    pub censuses: u64,
    /// Objects that were there without reason, until an opening removed them.
    pub strays: u64,
    /// Steps of tasks.
    pub steps: u64,
    /// How often each point was passed, before it was done and behind it.
    pub passed: BTreeMap<(Place, bool), u64>,
    /// How many lives ended there.
    pub ended: BTreeMap<(Place, bool), u64>,
    /// How it ended where the store broke its contract.
    pub breaches: BTreeMap<(Breach, Ending), u64>,
}

/// How an opening in a store ended that breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The store was refused.
    Refused,
    /// It failed, with an error.
    Error,
    /// What was there was a prefix.
    Prefix,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        let Self {
            crashes,
            in_openings,
            in_openings_again,
            power_losses,
            disk_losses,
            full_disks,
            take_overs,
            stalled_openings,
            operations,
            self_checks,
            censuses,
            strays,
            steps,
            passed,
            ended,
            breaches,
        } = other;
        self.crashes += crashes;
        self.in_openings += in_openings;
        self.in_openings_again += in_openings_again;
        self.power_losses += power_losses;
        self.disk_losses += disk_losses;
        self.full_disks += full_disks;
        self.take_overs += take_overs;
        self.stalled_openings += stalled_openings;
        self.operations += operations;
        self.self_checks += self_checks;
        self.censuses += censuses;
        self.strays += strays;
        self.steps += steps;
        add_each(&mut self.passed, passed);
        add_each(&mut self.ended, ended);
        add_each(&mut self.breaches, breaches);
    }
}

fn add_each<K: Copy + Ord>(sum: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (key, count) in counts {
        *sum.entry(*key).or_default() += count;
    }
}
