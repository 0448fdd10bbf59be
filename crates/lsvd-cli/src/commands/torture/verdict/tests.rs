//! The judge before a slow one that follows the definition word by word, and before planted
//! violations.

use proptest::prelude::*;

use super::super::history::{Change, Clock, Fate, History, Kind, Outcome};
use super::super::stamp::{Content, Number};
use super::{Expect, Fault, Verdict, judge};

const SECTORS: usize = 4;

/// Whether the set that has these bits explains the state, by the definition.
fn explains(
    set: u32,
    history: &History,
    base: &[Content],
    found: &[Content],
    expect: Expect,
) -> bool {
    let changes = &history.changes;
    let has = |index: usize| set >> index & 1 == 1;
    let inside = || changes.iter().enumerate().filter(|(index, _)| has(*index));
    let required = |change: &Change| match expect {
        Expect::Answered => change.is_done(),
        Expect::Flushed | Expect::Disk => history.is_flushed(change),
        Expect::Base => false,
    };
    let closed = expect == Expect::Disk
        || changes.iter().enumerate().all(|(index, before)| {
            has(index)
                || !before.is_done()
                || inside().all(|(_, later)| !before.comes_before(later))
        });
    let complete = changes
        .iter()
        .enumerate()
        .all(|(index, change)| has(index) || !required(change));
    let shown = |sector: usize| {
        let others = || inside().filter(move |(_, change)| change.covers(sector));
        let by_base = found[sector] == base[sector] && others().next().is_none();
        by_base
            || others().any(|(_, change)| {
                change.content() == found[sector]
                    && others().all(|(_, other)| !change.comes_before(other))
            })
    };
    closed && complete && (0..found.len()).all(shown)
}

/// Every set that explains the state.
fn explanations(
    history: &History,
    base: &[Content],
    found: &[Content],
    expect: Expect,
) -> Vec<u32> {
    (0..1 << history.changes.len())
        .filter(|set| explains(*set, history, base, found, expect))
        .collect()
}

/// What a change is to be, before it has its moments.
#[derive(Clone, Debug)]
struct Sketch {
    kind: Kind,
    fua: bool,
    first: usize,
    count: usize,
    connection: usize,
    fate: u8,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let kinds = prop_oneof![
        3 => Just(Kind::Write),
        1 => Just(Kind::Trim),
        1 => Just(Kind::WriteZeroes),
    ];
    (
        kinds,
        prop::bool::weighted(0.1),
        0..SECTORS,
        1..=SECTORS,
        0..3_usize,
        0..8_u8,
    )
        .prop_map(|(kind, fua, first, count, connection, fate)| Sketch {
            kind,
            fua,
            first,
            count: count.min(SECTORS - first),
            connection,
            fate,
        })
}

/// A history of some connections, each with one request at a time, and what the disk held when the
/// server died at `death`: every change takes effect at a moment between its sending and its end.
fn run(
    sketches: &[Sketch],
    flush: Option<usize>,
    base: &[Content],
    order: &[u8],
) -> (History, Vec<Content>) {
    let clock = Clock::new();
    let mut history = History::default();
    let mut disk = base.to_vec();
    let mut open: [Option<Change>; 3] = [None; 3];
    let answer =
        |change: Option<Change>, fate: u8, disk: &mut Vec<Content>, history: &mut History| {
            let Some(mut change) = change else { return };
            let effect = fate != 0;
            if effect {
                disk[change.first..change.first + change.count].fill(change.content());
            }
            change.outcome = match fate {
                0 | 1 => Outcome::Unsure(clock.tick()),
                _ => Outcome::Done(clock.tick()),
            };
            history.add(change, SECTORS);
        };
    for (index, sketch) in sketches.iter().enumerate() {
        let early = order.get(index).copied().unwrap_or_default();
        for (connection, slot) in open.iter_mut().enumerate() {
            if connection == sketch.connection || early >> connection & 1 == 1 {
                answer(slot.take(), sketch.fate, &mut disk, &mut history);
            }
        }
        if flush == Some(index) {
            history.add_flush(clock.tick());
            clock.tick();
        }
        let number = Number::new(1, 0, u32::try_from(index).unwrap()).unwrap();
        open[sketch.connection] = Some(Change {
            number,
            kind: sketch.kind,
            fua: sketch.fua,
            first: sketch.first,
            count: sketch.count,
            sent: clock.tick(),
            outcome: Outcome::Unanswered,
        });
    }
    for (connection, slot) in open.into_iter().enumerate() {
        if let Some(change) = slot {
            if order.first().copied().unwrap_or_default() >> connection & 1 == 1 {
                disk[change.first..change.first + change.count].fill(change.content());
            }
            history.add(change, SECTORS);
        }
    }
    (history, disk)
}

fn base_of(bits: u8) -> Vec<Content> {
    let written =
        |sector: usize| Content::of(Number::new(2, 1, u32::try_from(sector).unwrap()).unwrap());
    (0..SECTORS)
        .map(|sector| {
            if bits >> sector & 1 == 1 {
                written(sector)
            } else {
                Content::ZEROES
            }
        })
        .collect()
}

/// Contents that a sector of this history can be thought to show, right or wrong.
fn contents(history: &History, base: &[Content], sector: usize) -> Vec<Content> {
    let mut contents = vec![Content::ZEROES, base[sector]];
    let covering = history
        .changes
        .iter()
        .filter(|change| change.covers(sector));
    contents.extend(covering.map(Change::content));
    contents
}

fn check(history: &History, base: &[Content], found: &[Content], expect: Expect) -> Verdict {
    let verdict = judge(history, (base, found), expect);
    let prefixes = explanations(history, base, found, Expect::Base);
    assert_eq!(verdict.prefix, !prefixes.is_empty(), "{verdict:#?}");
    let explanations = explanations(history, base, found, expect);
    assert_eq!(
        verdict.is_right(),
        !explanations.is_empty(),
        "{history:#?}\nbase {base:?}\nfound {found:?}\n{expect:?}\n{verdict:#?}"
    );
    if explanations.is_empty() {
        return verdict;
    }
    let (mut all, mut any) = (u32::MAX, 0);
    for set in &explanations {
        all &= set;
        any |= set;
    }
    assert!(explanations.contains(&any), "there is a greatest set");
    for (index, fate) in verdict.fates.iter().enumerate() {
        let (all, any) = (all >> index & 1 == 1, any >> index & 1 == 1);
        match fate {
            Fate::Kept => assert!(all, "change {index} is not in every explanation"),
            Fate::Possible => assert!(any, "change {index} is in no explanation"),
            Fate::Lost => assert!(!any, "change {index} is in an explanation"),
        }
    }
    verdict
}

const EXPECTATIONS: [Expect; 4] = [
    Expect::Answered,
    Expect::Flushed,
    Expect::Base,
    Expect::Disk,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// What a disk that loses nothing holds is right, whatever is expected, and the slow judge says
    /// the same.
    #[test]
    fn a_disk_that_loses_nothing_is_right(
        sketches in prop::collection::vec(sketch(), 0..9),
        flush in prop::option::of(0..9_usize),
        base in 0..16_u8,
        order in prop::collection::vec(0..8_u8, 9),
    ) {
        let base = base_of(base);
        let (history, disk) = run(&sketches, flush, &base, &order);
        for expect in EXPECTATIONS {
            let verdict = check(&history, &base, &disk, expect);
            prop_assert!(verdict.is_right(), "{verdict:#?}");
            prop_assert_eq!(verdict.flushed_lost, 0);
        }
    }

    /// Any state at all, and most are wrong: both judges agree.
    #[test]
    fn any_state_is_judged_as_the_definition_says(
        sketches in prop::collection::vec(sketch(), 0..9),
        flush in prop::option::of(0..9_usize),
        base in 0..16_u8,
        order in prop::collection::vec(0..8_u8, 9),
        changed in prop::collection::vec((0..SECTORS, any::<prop::sample::Index>()), 0..4),
    ) {
        let base = base_of(base);
        let (history, mut disk) = run(&sketches, flush, &base, &order);
        for (sector, choice) in changed {
            let contents = contents(&history, &base, sector);
            disk[sector] = contents[choice.index(contents.len())];
        }
        for expect in EXPECTATIONS {
            check(&history, &base, &disk, expect);
        }
    }

    /// The server dies, what it has is read, it goes on and loses all that it was not told to
    /// flush: what the first reading said does not make the second wrong.
    #[test]
    fn what_was_found_once_may_still_be_lost_until_it_is_flushed(
        sketches in prop::collection::vec(sketch(), 1..9),
        base in 0..16_u8,
        order in prop::collection::vec(0..8_u8, 9),
        kept in 0..9_usize,
    ) {
        let base = base_of(base);
        let (mut history, found) = run(&sketches, None, &base, &order);
        for sketch in &mut history.changes {
            sketch.fua = false;
        }
        history.flushed = 0;
        for expect in [Expect::Flushed, Expect::Disk] {
            let mut history = history.clone();
            let verdict = judge(&history, (&base, &found), expect);
            prop_assert!(verdict.is_right());
            let len = history.changes.len();
            history.settle(&verdict.fates, 1 << 20);
            prop_assert!(history.changes.len() <= len);
            for state in [&found, &base] {
                let verdict = check(&history, &base, state, expect);
                prop_assert!(verdict.is_right(), "{state:?} {history:#?} {verdict:#?}");
            }
        }
        // And a prefix of the order in which requests were answered, where they did not overlap.
        let alone = sketches.iter().map(|sketch| Sketch { connection: 0, fate: 2, fua: false, ..sketch.clone() });
        let alone: Vec<Sketch> = alone.collect();
        let (whole, found) = run(&alone, None, &base, &[]);
        let (_, older) = run(&alone[..kept.min(alone.len())], None, &base, &[1]);
        let mut whole = whole;
        let verdict = judge(&whole, (&base, &found), Expect::Flushed);
        prop_assert!(verdict.is_right(), "{verdict:#?}");
        whole.settle(&verdict.fates, 1 << 20);
        let verdict = check(&whole, &base, &older, Expect::Flushed);
        prop_assert!(verdict.is_right() || kept >= alone.len(), "{verdict:#?}");
    }
}

/// A history that is written down line by line.
struct Story {
    clock: Clock,
    history: History,
    index: u32,
}

impl Story {
    fn new() -> Self {
        Self {
            clock: Clock::new(),
            history: History::default(),
            index: 0,
        }
    }

    fn number(&mut self) -> Number {
        self.index += 1;
        Number::new(1, 0, self.index).unwrap()
    }

    /// A change that is answered before the next begins; gives what it leaves.
    fn change(&mut self, kind: Kind, first: usize, count: usize) -> Content {
        let sent = self.clock.tick();
        let outcome = Outcome::Done(self.clock.tick());
        self.sent(kind, (first, count), sent, outcome)
    }

    fn sent(
        &mut self,
        kind: Kind,
        (first, count): (usize, usize),
        sent: u64,
        outcome: Outcome,
    ) -> Content {
        let change = Change {
            number: self.number(),
            kind,
            fua: false,
            first,
            count,
            sent,
            outcome,
        };
        self.history.add(change, 2048);
        change.content()
    }

    fn flush(&mut self) {
        self.history.add_flush(self.clock.tick());
        self.clock.tick();
    }

    /// The faults of a state that began with zeroes.
    fn faults(&self, found: &[Content], expect: Expect) -> Vec<(Fault, u64)> {
        self.faults_over(&vec![Content::ZEROES; found.len()], found, expect)
    }

    fn faults_over(
        &self,
        base: &[Content],
        found: &[Content],
        expect: Expect,
    ) -> Vec<(Fault, u64)> {
        let verdict = check(&self.history, base, found, expect);
        verdict
            .faults
            .iter()
            .map(|(fault, found)| (*fault, found.count))
            .collect()
    }
}

const ZERO: Content = Content::ZEROES;

#[test]
fn a_dropped_flushed_write_is_found() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 2);
    let b = story.change(Kind::Write, 2, 1);
    story.flush();
    let c = story.change(Kind::Write, 3, 1);
    assert_eq!(story.faults(&[a, a, b, c], Expect::Flushed), []);
    assert_eq!(story.faults(&[a, a, b, ZERO], Expect::Flushed), []);
    assert_eq!(
        story.faults(&[a, a, ZERO, ZERO], Expect::Flushed),
        [(Fault::FlushedLost, 1)]
    );
    assert_eq!(story.faults(&[a, a, ZERO, ZERO], Expect::Base), []);
    assert_eq!(
        story.faults(&[a, a, b, ZERO], Expect::Answered),
        [(Fault::AnsweredLost, 1)]
    );
    let all_lost = story.faults(&[ZERO; 4], Expect::Flushed);
    assert_eq!(all_lost, [(Fault::FlushedLost, 2)]);
}

#[test]
fn a_lost_write_in_the_middle_is_found() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 1);
    story.change(Kind::Write, 1, 1);
    let c = story.change(Kind::Write, 2, 1);
    let d = story.change(Kind::Write, 3, 1);
    let out_of_order = [(Fault::OutOfOrder, 2)];
    for expect in [Expect::Flushed, Expect::Base] {
        assert_eq!(story.faults(&[a, ZERO, c, d], expect), out_of_order);
        assert_eq!(story.faults(&[a, ZERO, ZERO, ZERO], expect), []);
    }
}

/// A disk with a volatile cache owes what was flushed and no order.
#[test]
fn a_disk_may_lose_in_any_order_what_was_not_flushed() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 1);
    story.flush();
    story.change(Kind::Write, 1, 1);
    let c = story.change(Kind::Write, 2, 1);
    assert_eq!(story.faults(&[a, ZERO, c], Expect::Disk), []);
    assert_eq!(
        story.faults(&[ZERO, ZERO, c], Expect::Disk),
        [(Fault::FlushedLost, 1)]
    );
    let found = [a, ZERO, c];
    let verdict = judge(&story.history, (&[ZERO; 3], &found), Expect::Disk);
    assert!(!verdict.prefix);
    assert_eq!((verdict.flushed_lost, verdict.unflushed_lost), (0, 1));
    // Nothing says that what was written before what is there is there to stay.
    let now = story.clock.tick();
    story.history.settle(&verdict.fates, now);
    assert_eq!(story.faults(&[a, ZERO, ZERO], Expect::Disk), []);
    assert_eq!(
        story.faults(&[ZERO, ZERO, c], Expect::Disk),
        [(Fault::FlushedLost, 1)]
    );
}

#[test]
fn a_torn_write_is_found_and_a_torn_overlap_is_none() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 4);
    let b = story.change(Kind::Write, 0, 4);
    assert_eq!(
        story.faults(&[a, a, b, b], Expect::Flushed),
        [(Fault::TornWrite, 1)]
    );
    // Two at the same time may come in another order in every sector.
    let mut story = Story::new();
    let (first, second) = (story.clock.tick(), story.clock.tick());
    let a = story.sent(Kind::Write, (0, 4), first, Outcome::Unanswered);
    let b = story.sent(Kind::Write, (0, 4), second, Outcome::Unanswered);
    assert_eq!(story.faults(&[a, b, a, b], Expect::Flushed), []);
    assert_eq!(
        story.faults(&[a, b, a, ZERO], Expect::Flushed),
        [(Fault::TornWrite, 2)]
    );
}

#[test]
fn what_a_server_does_not_do_whole_may_be_torn() {
    let mut history = History::default();
    let number = Number::new(1, 0, 0).unwrap();
    let change = Change {
        number,
        kind: Kind::Write,
        fua: false,
        first: 0,
        count: 4,
        sent: 1,
        outcome: Outcome::Unanswered,
    };
    history.add(change, 3);
    let a = Content::of(number);
    let right =
        |found: &[Content]| judge(&history, (&[ZERO; 4], found), Expect::Flushed).is_right();
    assert!(right(&[a, a, a, ZERO]));
    assert!(right(&[ZERO, ZERO, ZERO, a]));
    assert!(!right(&[a, a, ZERO, ZERO]));
}

#[test]
fn a_forgotten_discard_is_found() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 2);
    story.change(Kind::Trim, 0, 2);
    let b = story.change(Kind::Write, 2, 2);
    assert_eq!(story.faults(&[ZERO, ZERO, b, b], Expect::Flushed), []);
    assert_eq!(
        story.faults(&[a, a, b, b], Expect::Flushed),
        [(Fault::OutOfOrder, 1)]
    );
    story.flush();
    let faults = story.faults(&[a, a, b, b], Expect::Flushed);
    assert_eq!(faults, [(Fault::FlushedLost, 1), (Fault::OutOfOrder, 1)]);
    // Half of it is there: either that, or half of the write below it.
    assert_eq!(
        story.faults(&[a, ZERO, b, b], Expect::Base),
        [(Fault::OutOfOrder, 1), (Fault::TornWrite, 1)]
    );
    let mut story = Story::new();
    let old = [Content::of(Number::new(2, 0, 0).unwrap()); 2];
    story.change(Kind::Trim, 0, 2);
    let torn = story.faults_over(&old, &[old[0], ZERO], Expect::Flushed);
    assert_eq!(torn, [(Fault::TornWrite, 1)]);
}

#[test]
fn zeroes_are_laid_to_whatever_can_have_left_them() {
    let mut story = Story::new();
    let early = story.clock.tick();
    let a = story.change(Kind::Write, 0, 2);
    // Under way all the time, and in sector 1 as well: before or after the write, or never.
    story.sent(Kind::Trim, (0, 2), early, Outcome::Unanswered);
    assert_eq!(story.faults(&[a, a], Expect::Answered), []);
    assert_eq!(story.faults(&[ZERO, ZERO], Expect::Answered), []);
    assert_eq!(story.faults(&[a, ZERO], Expect::Answered), []);
    let b = story.change(Kind::Write, 0, 1);
    assert_eq!(story.faults(&[b, ZERO], Expect::Answered), []);
    story.flush();
    let c = story.change(Kind::Write, 1, 1);
    assert_eq!(story.faults(&[ZERO, c], Expect::Flushed), []);
    assert_eq!(
        story.faults(&[a, c], Expect::Flushed),
        [(Fault::FlushedLost, 1), (Fault::OutOfOrder, 1)]
    );
}

/// The only thing that can have left the zeroes comes after something that is lost: the flushed
/// write below them is not there by any explanation, though nothing shows it.
#[test]
fn zeroes_that_follow_a_lost_write_hide_nothing() {
    let mut story = Story::new();
    let x_sent = story.clock.tick();
    story.change(Kind::Write, 1, 1);
    let zeroes_sent = story.clock.tick();
    let x_done = Outcome::Done(story.clock.tick());
    story.sent(Kind::Write, (0, 1), x_sent, x_done);
    story.sent(Kind::Trim, (0, 1), zeroes_sent, Outcome::Unanswered);
    story.history.flushed = 0;
    let number = story.history.changes.len() - 2;
    story.history.changes[number].fua = true;
    // Sector 1 shows that the write to it is lost; so the trim, sent after it ended, is, too.
    let faults = story.faults(&[ZERO, ZERO], Expect::Flushed);
    assert_eq!(faults, [(Fault::FlushedLost, 1)]);
}

#[test]
fn stale_and_damaged_sectors_are_told_apart() {
    let seed = 1;
    let mut story = Story::new();
    let a = story.change(Kind::Write, 1, 1);
    let lost = Content::of(Number::new(1, 9, 9).unwrap());
    assert_eq!(
        story.faults(&[lost, a], Expect::Base),
        [(Fault::StaleSector, 1)]
    );
    let data = super::super::stamp::data(Number::new(1, 0, 1).unwrap(), seed, 5, 1);
    let misplaced = Content::read(&data, seed, 0);
    assert_eq!(
        story.faults(&[misplaced, ZERO], Expect::Base),
        [(Fault::MisplacedSector, 1)]
    );
    let damaged = Content::read(&[1; 512], seed, 0);
    assert_eq!(
        story.faults(&[damaged, ZERO], Expect::Base),
        [(Fault::TornSector, 1)]
    );
    // One that was there before is not held against anybody.
    let mut story = Story::new();
    assert_eq!(
        story.faults_over(&[damaged, ZERO], &[damaged, ZERO], Expect::Base),
        []
    );
    let b = story.change(Kind::Write, 0, 2);
    assert_eq!(story.faults_over(&[damaged, a], &[b, b], Expect::Base), []);
    let zeroed = story.faults_over(&[damaged, a], &[ZERO, a], Expect::Base);
    assert_eq!(zeroed, [(Fault::ZeroedSector, 1)]);
}

/// What was lost once does not come back, and what was found and then flushed is not lost.
#[test]
fn a_history_goes_on_from_what_was_found() {
    let mut story = Story::new();
    let a = story.change(Kind::Write, 0, 1);
    let sent = story.clock.tick();
    let b = story.sent(Kind::Write, (1, 1), sent, Outcome::Unanswered);
    let c = story.sent(Kind::Write, (2, 1), sent, Outcome::Unanswered);
    let base = [ZERO; 3];
    let verdict = judge(&story.history, (&base, &[a, b, ZERO]), Expect::Flushed);
    assert!(verdict.is_right());
    let now = story.clock.tick();
    story.history.settle(&verdict.fates, now);
    assert_eq!(story.faults(&[a, b, ZERO], Expect::Flushed), []);
    assert_eq!(story.faults(&[a, ZERO, ZERO], Expect::Flushed), []);
    assert_eq!(
        story.faults(&[a, b, c], Expect::Flushed),
        [(Fault::StaleSector, 1)]
    );
    story.flush();
    assert_eq!(
        story.faults(&[a, ZERO, ZERO], Expect::Flushed),
        [(Fault::FlushedLost, 1)]
    );
}
