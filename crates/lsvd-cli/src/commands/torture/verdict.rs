//! Whether a state that was found is right, decided exactly.
//!
//! a *comes before* b if a ended before b was sent. A state is right when there is a set S of
//! changes such that
//!
//! 1. what comes before a change of S is in S, unless nobody knows that it was done at all;
//! 2. S holds all that had to be there (see [`Expect`]);
//! 3. every sector shows what some change of S left there that no other change of S to that sector
//!    must follow. The state before all changes, the *base*, counts as a change of every sector
//!    that comes before all others and is always in S.
//!
//! A change is in S or not, so one that is half there makes a state wrong.
//!
//! # How S is found
//!
//! For a sector that shows a stamp there is one change `u` that can have left it. So `u` is in S,
//! and every change of that sector that was sent after `u` ended is not. The same goes for a sector
//! that shows what its base had, and no change left.
//!
//! Zeroes have no stamp: any trim or zeroing that covers the sector may have left them, or the base.
//! Such a sector says: for every change `x` of it that is in S there is, in S, a change that leaves
//! zeroes and did not end before `x` was sent. (For the `x` of S that was sent last, that one change
//! is followed by none of S; and the other way round, the change that left the zeroes serves every
//! `x`.) If the base was not zero, S holds at least one change that leaves zeroes there.
//!
//! So each condition says either "this change is in S", or "this change is not", or "if this change
//! is in S, so is one of these", or "one of these is in S". No condition has two changes on its "if"
//! side: if two sets meet all conditions of the three kinds other than the first and the last, so
//! does their union, and there is a greatest set that does. It is found by taking away what cannot
//! be in any: begin with all changes, and take away what a condition forbids until none does. Then
//! the state is right exactly if that greatest set has all that must be there: any set that meets
//! every condition is part of it, and what is in the part is in the whole.
//!
//! "Comes before" is an order of intervals, so closing under it needs no search: where `a` is taken
//! away, all that were sent after `a` ended go, and only the earliest such end counts.
//!
//! # What a wrong state is called
//!
//! First changes are taken away by what sectors show and without closing under "comes before": for
//! these there is evidence that they are not wholly there. One that was flushed is a *flushed write
//! lost*; one that another sector shows is *torn*. Then the set is closed; what is shown and goes
//! now is *out of order*: it is there and something before it is not. With [`Expect::Disk`] the first
//! condition does not count: then the set is the one before it is closed, and what is out of order
//! is no fault.

mod cover;
mod fault;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::history::{Change, Fate, History, Moment, NEVER};
use super::stamp::{Content, Number, Shows};
use cover::Cover;
pub(super) use fault::{Fault, Found};

/// What must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// All that was answered: nobody killed the server.
    Answered,
    /// All that was answered before the last answered flush was sent, and what FUA promised.
    Flushed,
    /// Nothing but the base.
    Base,
    /// As much as with `Flushed`, and in any order: what is there need not be a prefix.
    Disk,
}

/// The judgement of one state.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Empty when the state is right.
    pub(super) faults: BTreeMap<Fault, Found>,
    /// Whether the state is an exact prefix, with all that was flushed or without.
    pub(super) prefix: bool,
    /// What the state tells of each change of the history.
    pub(super) fates: Vec<Fate>,
    /// Changes lost that a flush or FUA had made durable; with [`Expect::Base`] that is no fault.
    pub(super) flushed_lost: u64,
    /// Changes lost that were answered and not flushed: what a volatile cache may lose.
    pub(super) unflushed_lost: u64,
}

impl Verdict {
    pub(super) fn is_right(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Judges the state `found`, which the changes of `history` made of `base`.
pub(super) fn judge(
    history: &History,
    (base, found): (&[Content], &[Content]),
    expect: Expect,
) -> Verdict {
    let mut judging = Judging::new(history, base, found);
    judging.read_sectors();
    judging.settle_sectors();
    judging.evident = judging.lost.clone();
    judging.close();
    judging.verdict(expect)
}

/// What a sector can have been left by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftBy {
    Base,
    Change(usize),
    /// Any change that leaves zeroes, or the base where it was zero.
    Zeroes,
    /// Nothing there is.
    Nothing(Fault),
}

/// The work in progress of [`judge`].
struct Judging<'a> {
    history: &'a History,
    base: &'a [Content],
    found: &'a [Content],
    /// Changes by when they were sent.
    by_sent: Vec<usize>,
    /// Changes by number, then by first sector.
    by_number: Vec<usize>,
    cover: Cover,
    /// Changes that are in no set S.
    lost: Vec<bool>,
    /// Those of them that sectors show to be missing, wholly or in part.
    evident: Vec<bool>,
    /// Changes that a sector shows.
    shown: Vec<bool>,
    /// Sectors that show zeroes and lost a change that leaves zeroes, to be looked at again.
    doubtful: Vec<usize>,
    /// The earliest end of what was taken away and is known to have been done.
    horizon: Moment,
    faults: BTreeMap<Fault, Found>,
}

impl<'a> Judging<'a> {
    fn new(history: &'a History, base: &'a [Content], found: &'a [Content]) -> Self {
        assert_eq!(base.len(), found.len(), "states of one area");
        let changes = &history.changes;
        let mut by_sent: Vec<usize> = (0..changes.len()).collect();
        let mut by_number = by_sent.clone();
        by_sent.sort_unstable_by_key(|index| changes[*index].sent);
        by_number.sort_unstable_by_key(|index| (changes[*index].number, changes[*index].first));
        Self {
            history,
            base,
            found,
            cover: Cover::new(history, &by_sent, found.len()),
            by_sent,
            by_number,
            lost: vec![false; changes.len()],
            evident: Vec::new(),
            shown: vec![false; changes.len()],
            doubtful: Vec::new(),
            horizon: NEVER,
            faults: BTreeMap::new(),
        }
    }

    fn change(&self, index: usize) -> &'a Change {
        &self.history.changes[index]
    }

    /// Takes in what every sector shows.
    fn read_sectors(&mut self) {
        for sector in 0..self.found.len() {
            match self.left_by(sector) {
                LeftBy::Base => self.forbid_after(sector, 0),
                LeftBy::Change(index) => {
                    self.shown[index] = true;
                    self.forbid_after(sector, self.change(index).ended());
                }
                LeftBy::Zeroes => self.doubtful.push(sector),
                LeftBy::Nothing(fault) => self.fault(
                    fault,
                    format!(
                        "sector {sector} shows {}, it had {} before these writes",
                        self.found[sector], self.base[sector]
                    ),
                ),
            }
        }
    }

    fn left_by(&self, sector: usize) -> LeftBy {
        let found = self.found[sector];
        if found == Content::ZEROES {
            let zeroed = |index: usize| self.change(index).zeroes();
            let explained =
                self.base[sector] == Content::ZEROES || self.cover.of(sector).any(zeroed);
            return if explained {
                LeftBy::Zeroes
            } else {
                LeftBy::Nothing(Fault::ZeroedSector)
            };
        }
        if let Shows::Write(number) = found.shows()
            && let Some(index) = self.write(number, sector)
        {
            return LeftBy::Change(index);
        }
        if found == self.base[sector] {
            return LeftBy::Base;
        }
        LeftBy::Nothing(match found.shows() {
            Shows::Damaged => Fault::TornSector,
            Shows::Misplaced => Fault::MisplacedSector,
            Shows::Zeroes | Shows::Write(_) | Shows::OtherRun => Fault::StaleSector,
        })
    }

    /// The write of this number, or the part of it, that covers the sector.
    fn write(&self, number: Number, sector: usize) -> Option<usize> {
        let behind = self.by_number.partition_point(|index| {
            let change = self.change(*index);
            (change.number, change.first) <= (number, sector)
        });
        let index = *self.by_number.get(behind.checked_sub(1)?)?;
        let change = self.change(index);
        (change.number == number && !change.zeroes() && change.covers(sector)).then_some(index)
    }

    /// The changes that may have left zeroes in a sector and are not lost.
    fn zeroings(&self, sector: usize) -> impl Iterator<Item = &'a Change> {
        let covering = self.cover.of(sector);
        covering
            .filter(|index| !self.lost[*index])
            .map(|index| self.change(index))
            .filter(|change| change.zeroes())
    }

    /// No change of the sector that was sent after this moment is in S.
    fn forbid_after(&mut self, sector: usize, moment: Moment) {
        for place in self.cover.places(sector).rev() {
            let index = self.cover.at(place);
            if self.change(index).sent <= moment {
                break;
            }
            self.lose(index);
        }
    }

    fn lose(&mut self, index: usize) {
        if std::mem::replace(&mut self.lost[index], true) {
            return;
        }
        let change = self.change(index);
        if change.is_done() {
            self.horizon = self.horizon.min(change.ended());
        }
        if change.zeroes() {
            let covered = change.first..change.first + change.count;
            let zero = covered.filter(|sector| self.found[*sector] == Content::ZEROES);
            self.doubtful.extend(zero);
        }
    }

    /// Looks at sectors that show zeroes until all that are left have an explanation, or none.
    fn settle_sectors(&mut self) {
        while let Some(sector) = self.doubtful.pop() {
            // Without any, nothing but a base of zeroes is left to explain them.
            let last = self.zeroings(sector).map(Change::ended).max();
            if last.is_some() || self.base[sector] == Content::ZEROES {
                self.forbid_after(sector, last.unwrap_or(0));
            }
        }
    }

    /// Takes away all that follow what is lost.
    fn close(&mut self) {
        let mut rest = self.by_sent.len();
        while let Some(&index) = self.by_sent[..rest].last() {
            if self.change(index).sent <= self.horizon {
                return;
            }
            rest -= 1;
            self.lose(index);
            self.settle_sectors();
        }
    }

    fn fault(&mut self, fault: Fault, example: impl fmt::Display) {
        self.faults.entry(fault).or_default().add(example);
    }

    fn is_required(&self, change: &Change, expect: Expect) -> bool {
        match expect {
            Expect::Answered => change.is_done(),
            Expect::Flushed | Expect::Disk => self.history.is_flushed(change),
            Expect::Base => false,
        }
    }

    fn verdict(mut self, expect: Expect) -> Verdict {
        self.find_required_lost(&self.evident.clone(), expect);
        self.find_torn();
        self.find_out_of_order();
        let prefix = self.faults.keys().all(|fault| !fault.breaks_prefix());
        if expect == Expect::Disk {
            self.faults.remove(&Fault::OutOfOrder);
            self.lost = self.evident.clone();
        }
        // Where something is wrong by what sectors show, what would have to be lost for order's sake
        // as well says little.
        let mut lost = &self.evident;
        if self.faults.is_empty() {
            // All the evidence may be that the one explanation of zeroes follows something lost.
            self.find_required_lost(&self.lost.clone(), expect);
            lost = &self.lost;
        }
        let count = |flushed: bool| {
            let changes = self.history.changes.iter().zip(lost);
            let numbers: HashSet<Number> = changes
                .filter(|(change, lost)| **lost && change.is_done())
                .filter(|(change, _)| self.history.is_flushed(change) == flushed)
                .map(|(change, _)| change.number)
                .collect();
            numbers.len() as u64
        };
        Verdict {
            flushed_lost: count(true),
            unflushed_lost: count(false),
            fates: self.fates(expect),
            faults: self.faults,
            prefix,
        }
    }

    fn find_required_lost(&mut self, lost: &[bool], expect: Expect) {
        let mut seen = HashSet::new();
        for (change, lost) in self.history.changes.iter().zip(lost) {
            if !lost || !self.is_required(change, expect) || !seen.insert(change.number) {
                continue;
            }
            if self.history.is_flushed(change) {
                self.fault(Fault::FlushedLost, change);
            } else {
                self.fault(Fault::AnsweredLost, change);
            }
        }
    }

    /// What a sector shows and another sector shows to be missing.
    fn find_torn(&mut self) {
        let there = self.there();
        let mut seen = HashSet::new();
        for (index, change) in self.history.changes.iter().enumerate() {
            if there[index] && self.evident[index] && seen.insert(change.number) {
                self.fault(Fault::TornWrite, change);
            }
        }
    }

    /// What is there, and lost only because it follows something that is not there.
    fn find_out_of_order(&mut self) {
        let missing = self.history.changes.iter().zip(&self.lost);
        let missing = missing
            .filter(|(change, lost)| **lost && change.is_done())
            .map(|(change, _)| change)
            .min_by_key(|change| change.ended());
        let Some(missing) = missing else { return };
        let there = self.there();
        let mut seen = HashSet::new();
        for (index, change) in self.history.changes.iter().enumerate() {
            let follows = self.lost[index] && !self.evident[index];
            if there[index] && follows && seen.insert(change.number) {
                self.fault(
                    Fault::OutOfOrder,
                    format!("{}, but not {}", change, missing),
                );
            }
        }
    }

    /// The changes that sectors show, with those that zeroes are laid to which nothing else
    /// explains.
    fn there(&self) -> Vec<bool> {
        let mut there = self.shown.clone();
        for sector in 0..self.found.len() {
            if let Some(index) = self.zeroed_by(sector) {
                there[index] = true;
            }
        }
        there
    }

    /// For a sector whose zeroes nothing explains any more: the change that they are laid to, one
    /// that was not evidently lost where there is one.
    fn zeroed_by(&self, sector: usize) -> Option<usize> {
        let unexplained = self.found[sector] == Content::ZEROES
            && self.base[sector] != Content::ZEROES
            && self.zeroings(sector).next().is_none();
        let covering = self.cover.of(sector);
        covering
            .filter(|index| unexplained && self.change(*index).zeroes())
            .max_by_key(|index| (!self.evident[*index], self.change(*index).sent))
    }

    fn fates(&self, expect: Expect) -> Vec<Fate> {
        let changes = self.history.changes.iter().enumerate();
        let surely = |index: usize, change| self.shown[index] || self.is_required(change, expect);
        let sent = changes
            .clone()
            .filter(|(index, change)| surely(*index, change))
            .map(|(_, change)| change.sent);
        // Where order does not count, what is there says nothing of what came before it.
        let last = match expect {
            Expect::Disk => 0,
            Expect::Answered | Expect::Flushed | Expect::Base => sent.max().unwrap_or(0),
        };
        changes
            .map(|(index, change)| {
                if self.lost[index] {
                    Fate::Lost
                } else if surely(index, change) || (change.is_done() && change.ended() < last) {
                    Fate::Kept
                } else {
                    Fate::Possible
                }
            })
            .collect()
    }
}
