//! What clients did, and whether what is there afterwards is a state that it can have led to.
//!
//! A change comes before another if it was answered before that one was sent. What is there is
//! right when there is a set S of changes, closed under "comes before", with all that must be in it,
//! such that every sector shows a change of S that no other change of S to that sector must follow.
//! All that is known of S is what cannot be in it: [`History::lost`] is that, and no more.

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

/// Counts requests and answers in the order in which they come.
pub(super) type Moment = u64;

/// Earlier than all.
const NEVER: Moment = 0;

/// A write of up to 1 MiB, or sectors that were made zero.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) start: u64,
    pub(super) sectors: u64,
    /// What its sectors show, a number that no other write has; zeroes where there is none.
    pub(super) serial: Option<u64>,
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
pub(super) enum Expect {
    /// What was flushed, as the local disk is.
    Flushed,
    /// What was stored, as there is no local disk.
    Stored,
}

/// Where an acknowledged flush made things durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    InLog,
    InStore,
}

/// All changes since the volume was made that may still be in it.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: Vec<Change>,
    now: Moment,
    serials: u64,
}

/// What a sector holds that the write with this serial number wrote.
pub(super) fn stamp(serial: u64, lba: u64) -> [u8; SECTOR] {
    let filling = u8::try_from(serial % 255).unwrap() + 1;
    let mut sector = [filling; SECTOR];
    sector[..8].copy_from_slice(&serial.to_le_bytes());
    sector[8..16].copy_from_slice(&lba.to_le_bytes());
    sector
}

/// What a sector shows: the serial number of a write, or nothing where it is zero.
fn shown(sector: &[u8], lba: u64) -> Result<Option<u64>, String> {
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let serial = u64::from_le_bytes(*sector.first_chunk().unwrap());
    if *sector != stamp(serial, lba) {
        return Err(format!("sector {lba} is torn, or of another place"));
    }
    Ok(Some(serial))
}

impl History {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A change is about to be sent; gives its key, and the serial number that a write is to have.
    pub(super) fn send(&mut self, start: u64, sectors: u64, is_write: bool) -> (usize, u64) {
        self.serials += 1;
        let sent = self.tick();
        self.changes.push(Change {
            start,
            sectors,
            serial: is_write.then_some(self.serials),
            sent,
            outcome: Outcome::Unanswered,
            flushed: false,
            stored: false,
        });
        (self.changes.len() - 1, self.serials)
    }

    /// A change was answered.
    pub(super) fn answer(&mut self, key: usize, succeeded: bool) {
        let now = self.tick();
        self.changes[key].outcome = match succeeded {
            true => Outcome::Done(now),
            false => Outcome::Failed(now),
        };
    }

    /// A flush is about to be sent.
    pub(super) fn send_flush(&mut self) -> Moment {
        self.tick()
    }

    /// The flush that was sent then succeeded.
    pub(super) fn flushed(&mut self, sent: Moment, durable: Durable) {
        let done = |outcome| matches!(outcome, Outcome::Done(at) if at < sent);
        for change in self
            .changes
            .iter_mut()
            .filter(|change| done(change.outcome))
        {
            change.flushed = true;
            change.stored |= durable == Durable::InStore;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// How many must be there.
    pub(super) fn required(&self, expect: Expect) -> usize {
        let required = self
            .changes
            .iter()
            .filter(|change| is_required(change, expect));
        required.count()
    }

    /// Judges what is there after a crash. What is lost must not come back; all else there is from
    /// now on, for good where it came from the store.
    pub(super) fn settle(&mut self, found: &[u8], expect: Expect) -> Result<(), String> {
        let lost = self.lost(found)?;
        for (change, lost) in self.changes.iter().zip(&lost) {
            if *lost && is_required(change, expect) {
                return Err(format!("what was durable is lost: {change:?}"));
            }
        }
        let now = self.tick();
        let mut lost = lost.into_iter();
        self.changes.retain(|_| lost.next() == Some(false));
        for change in &mut self.changes {
            change.flushed |= expect == Expect::Stored;
            change.stored |= expect == Expect::Stored;
            if !matches!(change.outcome, Outcome::Done(_)) {
                change.outcome = Outcome::Done(now);
            }
        }
        Ok(())
    }

    /// Which changes cannot be in S.
    fn lost(&self, found: &[u8]) -> Result<Vec<bool>, String> {
        let sectors = found.len() / SECTOR;
        let mut cover: Vec<Vec<usize>> = vec![Vec::new(); sectors];
        for (key, change) in self.changes.iter().enumerate() {
            for lba in change.start..change.start + change.sectors {
                cover[usize::try_from(lba).unwrap()].push(key);
            }
        }
        let mut shows = Vec::with_capacity(sectors);
        for (lba, sector) in (0..).zip(found.chunks(SECTOR)) {
            let serial = shown(sector, lba)?;
            let by = |serial| {
                let writes = self.changes.iter();
                let mut writes = writes.enumerate().filter(|(_, change)| change.covers(lba));
                let by = writes.find(|(_, change)| change.serial == Some(serial));
                by.map(|(key, _)| key).ok_or_else(|| {
                    format!("sector {lba} shows write {serial}, which is not there any more")
                })
            };
            shows.push(serial.map(by).transpose()?);
        }
        let lost = self.exclude(&cover, &shows);
        if let Some(key) = shows.iter().flatten().find(|key| lost[**key]) {
            let change = &self.changes[*key];
            return Err(format!(
                "there is {change:?}, and something is missing that came before it"
            ));
        }
        Ok(lost)
    }

    /// The changes that are not in the largest set that is closed under "comes before" and in which
    /// nothing must follow what a sector shows.
    fn exclude(&self, cover: &[Vec<usize>], shows: &[Option<usize>]) -> Vec<bool> {
        let mut lost = vec![false; self.changes.len()];
        loop {
            let before = lost.clone();
            for (cover, shows) in cover.iter().zip(shows) {
                // Zeroes may be what any change left that zeroed, and was never written.
                let last = match shows {
                    Some(key) => self.changes[*key].ended(),
                    None => {
                        let zeroing = cover
                            .iter()
                            .filter(|key| !lost[**key] && self.changes[**key].serial.is_none());
                        let ended = zeroing.map(|key| self.changes[*key].ended());
                        ended.max().unwrap_or(NEVER)
                    }
                };
                for key in cover {
                    lost[*key] |= self.changes[*key].sent > last;
                }
            }
            let horizon = self
                .changes
                .iter()
                .zip(&lost)
                .filter(|(change, lost)| **lost && matches!(change.outcome, Outcome::Done(_)))
                .map(|(change, _)| change.ended())
                .min()
                .unwrap_or(Moment::MAX);
            for (change, lost) in self.changes.iter().zip(&mut lost) {
                *lost |= change.sent > horizon;
            }
            if lost == before {
                return lost;
            }
        }
    }
}

const fn is_required(change: &Change, expect: Expect) -> bool {
    match expect {
        Expect::Flushed => change.flushed,
        Expect::Stored => change.stored,
    }
}

/// A history of sectors 0 and 1, told in letters: `a0` sends the write `a` of sector 0, `a01` of
/// both, `A` answers it, `z0` and `Z` a zeroing, `F` is a flush; and what is there then.
fn tell(story: &str, found: [char; 2]) -> Result<(), String> {
    let mut history = History::default();
    let mut keys = std::collections::BTreeMap::new();
    for word in story.split(' ') {
        let letter = word.chars().next().unwrap();
        if letter == 'F' {
            let sent = history.send_flush();
            history.flushed(sent, Durable::InLog);
        } else if letter.is_ascii_uppercase() {
            history.answer(keys[&letter.to_ascii_lowercase()], true);
        } else {
            let start = u64::from(!word.contains('0'));
            let (key, _) = history.send(start, word.len() as u64 - 1, letter != 'z');
            history.changes[key].serial = (letter != 'z').then_some(u64::from(letter));
            keys.insert(letter, key);
        }
    }
    let sector = |(lba, letter)| match letter {
        '0' => [0; SECTOR],
        letter => stamp(u64::from(letter), lba),
    };
    let found: Vec<u8> = (0..).zip(found).flat_map(sector).collect();
    history.settle(&found, Expect::Flushed)
}

#[test]
fn a_history_is_judged_by_what_it_can_have_led_to() {
    let right = [
        ("a0 A b1 B", ['a', 'b']),
        ("a0 A b1 B", ['a', '0']),
        ("a0 A b1 B", ['0', '0']),
        ("a0 b1 A B", ['0', 'b']),
        ("a01 b01 A B", ['a', 'b']),
        ("a0 A b0 c1", ['a', 'c']),
        ("a0 A F b0 B", ['a', '0']),
        ("a0 A z0 Z F", ['0', '0']),
        ("a0 z0 A Z F", ['a', '0']),
        ("a0 A z0 b1", ['0', 'b']),
    ];
    for (story, found) in right {
        assert_eq!(tell(story, found), Ok(()), "{story} gives {found:?}");
    }
    let wrong = [
        ("a0 A b1 B", ['0', 'b']),
        ("a0 A b0 B c1 C", ['a', 'c']),
        ("a01 A b1 B", ['0', 'b']),
        ("a01 A", ['a', '0']),
        ("a0 A F", ['0', '0']),
        ("a0 A b0 B F", ['a', '0']),
        ("a0 A z0 Z F", ['a', '0']),
        ("z0 Z a0 A F", ['0', '0']),
        ("a0 A z0 Z b1 B", ['a', 'b']),
        ("a0 A", ['x', '0']),
    ];
    for (story, found) in wrong {
        assert!(tell(story, found).is_err(), "{story} gives {found:?}");
    }
}
