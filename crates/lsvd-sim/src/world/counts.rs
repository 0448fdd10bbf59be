//! What was done in a run, or in many.

use std::collections::BTreeMap;

use super::work::Parting;
use crate::cloud::Breach;
use crate::points::Place;

/// What was done in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lives that were cut off while the volume was opened.
    pub in_openings: u64,
    /// Those behind another one of that kind.
    pub in_openings_again: u64,
    /// Lives that were cut off amid the work of clients, a checkpoint or a close.
    pub at_work: u64,
    /// Lives that were cut off when the clients were done and the volume was open.
    pub at_rest: u64,
    /// Lives that ended with an opening that failed.
    pub failed_openings: u64,
    /// Lives that ended with a close.
    pub closes: u64,
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
    /// Images that were read beside a writer.
    pub readers: u64,
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
    /// Lives that were cut off.
    #[must_use]
    pub const fn crashes(&self) -> u64 {
        self.in_openings + self.at_work + self.at_rest
    }

    pub(super) const fn note(&mut self, parting: Parting) {
        let count = match parting {
            Parting::CrashedInOpening => &mut self.in_openings,
            Parting::Crashed => &mut self.at_work,
            Parting::CrashedAtRest => &mut self.at_rest,
            Parting::Failed => &mut self.failed_openings,
            Parting::Closed => &mut self.closes,
            Parting::TakenOver => &mut self.take_overs,
        };
        *count += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        let Self {
            in_openings,
            in_openings_again,
            at_work,
            at_rest,
            failed_openings,
            closes,
            power_losses,
            disk_losses,
            full_disks,
            take_overs,
            stalled_openings,
            operations,
            readers,
            self_checks,
            censuses,
            strays,
            steps,
            passed,
            ended,
            breaches,
        } = other;
        self.at_work += at_work;
        self.at_rest += at_rest;
        self.failed_openings += failed_openings;
        self.closes += closes;
        self.in_openings += in_openings;
        self.in_openings_again += in_openings_again;
        self.power_losses += power_losses;
        self.disk_losses += disk_losses;
        self.full_disks += full_disks;
        self.take_overs += take_overs;
        self.stalled_openings += stalled_openings;
        self.operations += operations;
        self.readers += readers;
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
