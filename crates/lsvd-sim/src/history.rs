//! What clients did, and whether what is there afterwards is a state that it can have led to.
//!
//! A change comes before another if it was answered before that one was sent. What is there is
//! right when there is a set S of changes, closed under "comes before", with all that must be in it,
//! such that every sector shows a change of S that no other change of S to that sector must follow.
//! All that is known of S is what cannot be in it, and no more than that is taken for lost.
//!
//! A take-over begins a new line of history. What the writer before did and the new line lacks may
//! never have been reported as stored, nor may it be later, however long that writer is stalled.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// Counts requests and answers in the order in which they come.
pub type Moment = u64;

/// Earlier than all.
const NEVER: Moment = 0;

/// The number of a line of history: how many take-overs came before it.
pub type Line = u64;

/// A write, or sectors that were made zero.
#[derive(Clone, Debug)]
struct Change {
    start: u64,
    sectors: u64,
    /// What its sectors show, a number that no other write has; zeroes where there is none.
    serial: Option<u64>,
    sent: Moment,
    outcome: Outcome,
    /// Whether a flush made it durable.
    flushed: bool,
    /// Whether it is in the store.
    stored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It may be there or not, now or later.
    Unanswered,
    Done(Moment),
    /// It failed, and may be there all the same, but if so then since before this moment.
    Failed(Moment),
}

impl Change {
    fn ended(&self) -> Moment {
        match self.outcome {
            Outcome::Unanswered => Moment::MAX,
            Outcome::Done(moment) | Outcome::Failed(moment) => moment,
        }
    }

    fn covers(&self, lba: u64) -> bool {
        (self.start..self.start + self.sectors).contains(&lba)
    }
}

/// What must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// What was flushed, as the local disk is there.
    Flushed,
    /// What was stored, as the local disk is not.
    Stored,
    /// Nothing: the store breaks its contract. What is there is a prefix all the same.
    Prefix,
}

/// Where an acknowledged flush made things durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// In the write log.
    InLog,
    /// In the store.
    InStore,
}

/// All changes since the volume was made that may still be in it.
#[derive(Debug, Default)]
pub struct History {
    /// By their serial numbers, which also those have that wrote zeroes.
    changes: BTreeMap<u64, Change>,
    /// What the line lacks that writers of earlier lines did, or still do.
    gone: BTreeMap<u64, (Line, Change)>,
    line: Line,
    now: Moment,
    serials: u64,
}

/// What a sector holds that the write with this serial number wrote.
pub fn stamp(serial: u64, lba: u64) -> [u8; SECTOR] {
    let filling = (serial % 255).to_le_bytes()[0] + 1;
    let mut sector = [filling; SECTOR];
    sector[..8].copy_from_slice(&serial.to_le_bytes());
    sector[8..16].copy_from_slice(&lba.to_le_bytes());
    sector
}

/// What a sector shows: the serial number of a write, or nothing where it is zero.
fn shown(sector: &[u8], lba: u64) -> Result<Option<u64>, String> {
    if *sector == [0; SECTOR] {
        return Ok(None);
    }
    let serial = sector
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if *sector != stamp(serial, lba) {
        return Err(format!("sector {lba} is torn, or of another place"));
    }
    Ok(Some(serial))
}

impl History {
    /// Now, later than all before.
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// The line of history that goes on.
    #[must_use]
    pub const fn line(&self) -> Line {
        self.line
    }

    /// The writer of `line` is about to send a change; gives the serial number that it has.
    pub fn send(&mut self, line: Line, start: u64, sectors: u64, is_write: bool) -> u64 {
        self.serials += 1;
        let serial = self.serials;
        let change = Change {
            start,
            sectors,
            serial: is_write.then_some(serial),
            sent: self.tick(),
            outcome: Outcome::Unanswered,
            flushed: false,
            stored: false,
        };
        if line == self.line {
            self.changes.insert(serial, change);
        } else {
            self.gone.insert(serial, (line, change));
        }
        serial
    }

    /// A change was answered.
    pub fn answer(&mut self, serial: u64, succeeded: bool) {
        let now = self.tick();
        let gone = self.gone.get_mut(&serial).map(|(_, change)| change);
        let Some(change) = gone.or(self.changes.get_mut(&serial)) else {
            return;
        };
        // One that was found in the store was done then.
        if change.outcome == Outcome::Unanswered {
            change.outcome = match succeeded {
                true => Outcome::Done(now),
                false => Outcome::Failed(now),
            };
        }
    }

    /// The change is durable in the write log.
    pub fn logged(&mut self, serial: u64) {
        if let Some(change) = self.changes.get_mut(&serial) {
            change.flushed = true;
        }
    }

    /// The flush that the writer of `line` sent then succeeded.
    ///
    /// # Errors
    /// Where it says that something is stored that the line which goes on lacks.
    pub fn flushed(&mut self, line: Line, sent: Moment, durable: Durable) -> Result<(), String> {
        let done = |change: &Change| matches!(change.outcome, Outcome::Done(at) if at < sent);
        if line == self.line {
            for change in self.changes.values_mut().filter(|change| done(change)) {
                change.flushed = true;
                change.stored |= durable == Durable::InStore;
            }
            return Ok(());
        }
        let mut gone = self.gone.values().filter(|(of, _)| *of == line);
        match gone.find(|(_, change)| done(change)) {
            Some((_, change)) if durable == Durable::InStore => Err(format!(
                "a writer that was taken over says that this is stored, which nobody will ever read: \
                 {change:?}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether the writer of `line` was answered something before then that the line which goes on
    /// lacks: it is not stored, and nobody will ever store it.
    #[must_use]
    pub fn lacks(&self, line: Line, before: Moment) -> bool {
        let mut gone = self.gone.values().filter(|(of, _)| *of == line);
        gone.any(|(_, change)| matches!(change.outcome, Outcome::Done(at) if at < before))
    }

    /// Those that are in the store.
    #[must_use]
    pub fn stored(&self) -> BTreeSet<u64> {
        let stored = self.changes.iter().filter(|(_, change)| change.stored);
        stored.map(|(serial, _)| *serial).collect()
    }

    /// Judges what somebody reads who changes nothing: a prefix with all of `stored` in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_image(&self, found: &[u8], stored: &BTreeSet<u64>) -> Result<(), String> {
        let lost = self.lost(found)?;
        let mut lost = self
            .changes
            .iter()
            .zip(lost)
            .filter(|(_, is_lost)| *is_lost);
        match lost.find(|((serial, _), _)| stored.contains(serial)) {
            None => Ok(()),
            Some(((_, change), _)) => Err(format!("what was stored is not there: {change:?}")),
        }
    }

    /// Changes that may be there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing may be there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many must be there.
    #[must_use]
    pub fn required(&self, expect: Expect) -> usize {
        let required = self.changes.values();
        required
            .filter(|change| is_required(change, expect))
            .count()
    }

    /// Judges what is there after a crash. What is lost must not come back; all else there is from
    /// now on, for good where it came from the store.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn settle(&mut self, found: &[u8], expect: Expect) -> Result<(), String> {
        self.keep(found, expect)?;
        self.gone.clear();
        for change in self
            .changes
            .values_mut()
            .filter(|_| expect == Expect::Stored)
        {
            change.flushed = true;
            change.stored = true;
        }
        Ok(())
    }

    /// The same for what a writer finds that takes over: its line goes on. Whether all that came from
    /// the store must be known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_over(
        &mut self,
        found: &[u8],
        expect: Expect,
        is_stored: bool,
    ) -> Result<Line, String> {
        let lost = self.keep(found, expect)?;
        for change in self.changes.values_mut() {
            // An opening makes durable what it replays.
            change.flushed = true;
            change.stored |= is_stored;
        }
        let line = self.line;
        let lost = lost
            .into_iter()
            .map(|(serial, change)| (serial, (line, change)));
        self.gone.extend(lost);
        self.line += 1;
        Ok(self.line)
    }

    fn keep(&mut self, found: &[u8], expect: Expect) -> Result<BTreeMap<u64, Change>, String> {
        let lost = self.lost(found)?;
        let mut lost = lost.into_iter();
        let (lost, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(|_| lost.next() == Some(true));
        if let Some(change) = lost.values().find(|change| is_required(change, expect)) {
            return Err(format!("what was durable is lost: {change:?}"));
        }
        self.changes = kept;
        let now = self.tick();
        for change in self.changes.values_mut() {
            if !matches!(change.outcome, Outcome::Done(_)) {
                change.outcome = Outcome::Done(now);
            }
        }
        Ok(lost)
    }

    /// Judges a read of sectors from `start` on that was sent then and has just been answered: each
    /// sector shows a change that nothing replaced before the read was sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_read(&self, start: u64, found: &[u8], sent: Moment) -> Result<(), String> {
        for (lba, sector) in (start..).zip(found.chunks(SECTOR)) {
            let covering = || self.changes.values().filter(|change| change.covers(lba));
            let shown = shown(sector, lba)?;
            let ended = match shown {
                Some(serial) => {
                    let change = covering().find(|change| change.serial == Some(serial));
                    let change = change.ok_or_else(|| {
                        format!("sector {lba} shows write {serial}, which is not there")
                    })?;
                    change.ended()
                }
                None => {
                    let zeroing = covering().filter(|change| change.serial.is_none());
                    zeroing.map(Change::ended).max().unwrap_or(NEVER)
                }
            };
            let replaced = covering().find(|change| {
                change.sent > ended && matches!(change.outcome, Outcome::Done(at) if at < sent)
            });
            if let Some(by) = replaced {
                return Err(format!(
                    "a read of sector {lba} shows {shown:?}, and {by:?} was answered before"
                ));
            }
        }
        Ok(())
    }

    /// Which changes cannot be in S, in order.
    fn lost(&self, found: &[u8]) -> Result<Vec<bool>, String> {
        let changes: Vec<&Change> = self.changes.values().collect();
        let serials: Vec<u64> = self.changes.keys().copied().collect();
        let sectors = found.len() / SECTOR;
        let mut shows = Vec::with_capacity(sectors);
        for (lba, sector) in (0..).zip(found.chunks(SECTOR)) {
            let by = |serial| {
                let key = serials.binary_search(&serial).ok();
                key.filter(|key| changes[*key].serial.is_some() && changes[*key].covers(lba))
                    .ok_or_else(|| {
                        format!("sector {lba} shows write {serial}, which is not there any more")
                    })
            };
            shows.push(shown(sector, lba)?.map(by).transpose()?);
        }
        let lost = exclude(&changes, &Cover::of(&changes, sectors), &shows);
        if let Some(key) = shows.iter().flatten().find(|key| lost[**key]) {
            let change = changes[*key];
            return Err(format!(
                "there is {change:?}, and something is missing that came before it"
            ));
        }
        Ok(lost)
    }
}

/// For every sector the changes that cover it, in the order in which they were sent.
struct Cover {
    /// Where those of each sector begin.
    starts: Vec<usize>,
    keys: Vec<usize>,
}

impl Cover {
    fn of(changes: &[&Change], sectors: usize) -> Self {
        let range = |change: &Change| {
            let place = |lba: u64| usize::try_from(lba).unwrap_or(sectors).min(sectors);
            place(change.start)..place(change.start + change.sectors)
        };
        let mut starts = vec![0; sectors + 1];
        for sector in changes.iter().flat_map(|change| range(change)) {
            starts[sector + 1] += 1;
        }
        for sector in 0..sectors {
            starts[sector + 1] += starts[sector];
        }
        let mut next = starts.clone();
        let mut keys = vec![0; starts[sectors]];
        for (key, change) in changes.iter().enumerate() {
            for sector in range(change) {
                keys[next[sector]] = key;
                next[sector] += 1;
            }
        }
        Self { starts, keys }
    }

    fn at(&self, sector: usize) -> &[usize] {
        &self.keys[self.starts[sector]..self.starts[sector + 1]]
    }
}

/// The changes that are not in the largest set that is closed under "comes before" and in which
/// nothing must follow what a sector shows.
fn exclude(changes: &[&Change], cover: &Cover, shows: &[Option<usize>]) -> Vec<bool> {
    let mut lost = vec![false; changes.len()];
    let lose_behind = |lost: &mut Vec<bool>, sector, last: Moment| {
        let keys = cover.at(sector).iter().rev();
        let behind = keys.take_while(|key| changes[**key].sent > last);
        behind.for_each(|key| lost[*key] = true);
    };
    for (sector, shows) in shows.iter().enumerate() {
        if let Some(key) = shows {
            lose_behind(&mut lost, sector, changes[*key].ended());
        }
    }
    let zero = |sector: &usize| shows[*sector].is_none() && !cover.at(*sector).is_empty();
    let zero: Vec<usize> = (0..shows.len()).filter(zero).collect();
    loop {
        let before = lost.clone();
        for sector in &zero {
            // Zeroes may be what any change left that zeroed, and was never written.
            let zeroing = cover.at(*sector).iter();
            let zeroing = zeroing.filter(|key| !lost[**key] && changes[**key].serial.is_none());
            let ended = zeroing.map(|key| changes[*key].ended()).max();
            lose_behind(&mut lost, *sector, ended.unwrap_or(NEVER));
        }
        let horizon = changes
            .iter()
            .zip(&lost)
            .filter(|(change, lost)| **lost && matches!(change.outcome, Outcome::Done(_)))
            .map(|(change, _)| change.ended())
            .min()
            .unwrap_or(Moment::MAX);
        let first = changes.partition_point(|change| change.sent <= horizon);
        lost[first..].fill(true);
        if lost == before {
            return lost;
        }
    }
}

const fn is_required(change: &Change, expect: Expect) -> bool {
    match expect {
        Expect::Flushed => change.flushed,
        Expect::Stored => change.stored,
        Expect::Prefix => false,
    }
}

#[cfg(test)]
mod tests;
