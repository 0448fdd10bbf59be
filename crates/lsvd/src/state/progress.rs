//! How far the data stream is stored: what was answered, the persisted point behind it, and what
//! holds both up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::state::segments::Segment;
use crate::sync::{Arc, Mutex, Signal};
use crate::words::error::{Error, Result};
use crate::words::name::ObjectId;

/// Uploads answered, in order and out of it, and how far they are persisted.
#[derive(Debug)]
pub struct Progress {
    persists: Persists,
    state: Mutex<State>,
    /// Notified when a point moves, an upload gets stuck, or all is over.
    changed: Signal,
}

/// When an upload that was answered counts as persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persists {
    /// At once: nobody else can write to the volume.
    WhenAnswered,
    /// After a fence check that began behind the answer.
    WhenChecked,
}

/// An upload that was answered.
#[derive(Debug)]
pub struct Answered {
    /// The object.
    pub id: ObjectId,
    /// Bytes of its data.
    pub bytes: u64,
    /// The log segment that holds it too, which is kept until the object is persisted.
    pub segment: Option<Arc<Segment>>,
}

#[derive(Debug)]
struct State {
    /// Place in the stream of the oldest upload not yet answered.
    next: u64,
    /// The newest data object of which it and all before it were answered.
    answered: Option<ObjectId>,
    persisted: Option<ObjectId>,
    /// Answered before an older one was, by their places.
    early: BTreeMap<u64, Answered>,
    /// Answered in order and not persisted, with what is kept until they are.
    held: VecDeque<Answered>,
    /// Batches that were opened and are not persisted.
    at_risk: VecDeque<AtRisk>,
    /// Uploads that failed for so long that nobody is made to wait for them, by their places.
    stuck: BTreeMap<u64, Error>,
    /// Why nothing will be stored any more, if that is so.
    ended: Option<Error>,
    /// Whether everything was uploaded and nothing more will be.
    complete: bool,
}

/// A batch that is not persisted.
#[derive(Clone, Copy, Debug)]
struct AtRisk {
    id: ObjectId,
    /// When it was first seen.
    seen: Option<Duration>,
    /// How old it was then.
    age: Duration,
}

impl State {
    fn error(&self) -> Option<Error> {
        let stuck = self.stuck.values().next();
        self.ended.as_ref().or(stuck).cloned()
    }

    /// Moves the persisted point, and gives what need not be held any more.
    #[must_use = "dropping it may wake others, which is not for under the lock"]
    fn persist(&mut self, id: Option<ObjectId>) -> Vec<Answered> {
        self.persisted = self.persisted.max(id);
        let persisted = self.persisted;
        let is_persisted = |id: ObjectId| Some(id) <= persisted;
        self.at_risk.retain(|batch| !is_persisted(batch.id));
        let count = self.held.partition_point(|held| is_persisted(held.id));
        self.held.drain(..count).collect()
    }
}

impl Progress {
    /// A stream of which all up to `persisted` is persisted; places are counted from 0 behind it.
    #[must_use]
    pub fn new(persisted: Option<ObjectId>, persists: Persists) -> Self {
        let state = State {
            next: 0,
            answered: persisted,
            persisted,
            early: BTreeMap::new(),
            held: VecDeque::new(),
            at_risk: VecDeque::new(),
            stuck: BTreeMap::new(),
            ended: None,
            complete: false,
        };
        Self {
            persists,
            state: Mutex::new(state),
            changed: Signal::default(),
        }
    }

    /// A batch was opened: what is in it is at risk until it is persisted. Batches are opened in
    /// order.
    pub fn opened(&self, id: ObjectId) {
        self.found(id, Duration::ZERO);
    }

    /// A batch that is `age` old was found in the log, which is as if it were opened.
    pub fn found(&self, id: ObjectId, age: Duration) {
        let batch = AtRisk {
            id,
            seen: None,
            age,
        };
        self.state.lock().at_risk.push_back(batch);
        self.changed.notify();
    }

    /// Bytes of data in uploads that were answered and are not persisted.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let state = self.state.lock();
        let held = state.held.iter().chain(state.early.values());
        held.map(|answered| answered.bytes).sum()
    }

    /// Notes the time for what is at risk and was not seen before: whoever opens batches knows no
    /// clock.
    pub fn see(&self, now: Duration) {
        let mut state = self.state.lock();
        for batch in state.at_risk.iter_mut().rev() {
            if batch.seen.is_some() {
                break;
            }
            batch.seen = Some(now);
        }
    }

    /// The oldest batch that is not persisted, if there is one, and its age at `now`.
    #[must_use]
    pub fn oldest_at_risk(&self, now: Duration) -> Option<(ObjectId, Duration)> {
        let oldest = self.state.lock().at_risk.front().copied()?;
        let since_seen = now.saturating_sub(oldest.seen.unwrap_or(now));
        Some((oldest.id, oldest.age + since_seen))
    }

    /// Waits until there is something that is not persisted, or all is over.
    pub async fn at_risk(&self) {
        self.changed
            .until(|| {
                let state = self.state.lock();
                let over = state.ended.is_some() || state.complete;
                (over || !state.at_risk.is_empty()).then_some(())
            })
            .await;
    }

    /// The upload at `place` was answered. Answers come in any order; the points move in order.
    pub fn answered(&self, place: u64, answered: Answered) {
        let released = {
            let mut state = self.state.lock();
            state.stuck.remove(&place);
            state.early.insert(place, answered);
            loop {
                let next = state.next;
                let Some(first) = state.early.remove(&next) else {
                    break;
                };
                state.next += 1;
                state.answered = Some(first.id);
                state.held.push_back(first);
            }
            match self.persists {
                Persists::WhenAnswered => {
                    let answered = state.answered;
                    state.persist(answered)
                }
                Persists::WhenChecked => Vec::new(),
            }
        };
        drop(released);
        self.changed.notify();
    }

    /// A fence check passed that began when all up to `id` was answered.
    pub fn persist(&self, id: ObjectId) {
        let released = {
            let mut state = self.state.lock();
            debug_assert!(state.answered >= Some(id), "{id:?} was never answered");
            state.persist(Some(id))
        };
        drop(released);
        self.changed.notify();
    }

    /// Everything was uploaded, and nothing more will be.
    pub fn complete(&self) {
        self.state.lock().complete = true;
        self.changed.notify();
    }

    /// Waits until nothing more is uploaded.
    pub async fn completed(&self) {
        let completed = || self.state.lock().complete.then_some(());
        self.changed.until(completed).await;
    }

    /// Whether object `last` will never be stored: nothing more is uploaded, and it was not.
    #[must_use]
    pub fn never_stores(&self, last: ObjectId) -> bool {
        let state = self.state.lock();
        state.complete && state.answered < Some(last)
    }

    /// Waits for something that was answered and is not persisted, and gives the last of it;
    /// nothing when there will be no more, and nothing is at risk.
    pub async fn unpersisted(&self) -> Option<ObjectId> {
        self.changed
            .until(|| {
                let state = self.state.lock();
                if state.ended.is_some() {
                    return Some(None);
                }
                let waiting = state.answered.filter(|_| state.answered > state.persisted);
                match waiting {
                    Some(answered) => Some(Some(answered)),
                    None => (state.complete && state.at_risk.is_empty()).then_some(None),
                }
            })
            .await
    }

    /// Waits until the persisted point has left `seen`; nothing when nothing is stored any more.
    pub async fn persisted_beyond(&self, seen: Option<ObjectId>) -> Option<()> {
        self.changed
            .until(|| {
                let state = self.state.lock();
                let moved = (state.persisted != seen).then_some(Some(()));
                moved.or_else(|| state.ended.is_some().then_some(None))
            })
            .await
    }

    /// Waits until nothing is stored any more.
    pub async fn over(&self) {
        let ended = || self.state.lock().ended.is_some().then_some(());
        self.changed.until(ended).await;
    }

    /// The upload at `place` keeps failing. It is still tried, but what waits for it fails.
    pub fn stuck(&self, place: u64, error: Error) {
        self.state.lock().stuck.insert(place, error);
        self.changed.notify();
    }

    /// What was stuck at `place` goes on.
    pub fn unstuck(&self, place: u64) {
        self.state.lock().stuck.remove(&place);
        self.changed.notify();
    }

    /// Nothing is stored any more: what waits fails with `error`, now and for ever.
    pub fn ended(&self, error: Error) {
        self.state.lock().ended = Some(error);
        self.changed.notify();
    }

    /// Why uploads are stuck, if they are: the error of the oldest.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.state.lock().error()
    }

    /// Why everything ended, if it did.
    #[must_use]
    pub fn end(&self) -> Option<Error> {
        self.state.lock().ended.clone()
    }

    /// Place of the oldest upload not yet answered.
    #[must_use]
    pub fn oldest_unanswered(&self) -> u64 {
        self.state.lock().next
    }

    /// The newest object of which it and all before it are stored.
    #[must_use]
    pub fn persisted(&self) -> Option<ObjectId> {
        self.state.lock().persisted
    }

    /// Says what is wrong with the points and what they hold up, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn self_check(&self) -> Result<(), String> {
        let state = self.state.lock();
        let (answered, persisted) = (state.answered, state.persisted);
        if persisted > answered {
            return Err(format!(
                "persisted up to {persisted:?}, answered to {answered:?}"
            ));
        }
        let held: Vec<ObjectId> = state.held.iter().map(|held| held.id).collect();
        let last = held.last().copied().max(persisted);
        if !held.is_sorted() || held.first().is_some_and(|id| Some(*id) <= persisted) {
            return Err(format!("{held:?} are held, and persisted is {persisted:?}"));
        }
        if last != answered {
            return Err(format!(
                "held and persisted end at {last:?}, answered at {answered:?}"
            ));
        }
        let at_risk = state.at_risk.iter().map(|batch| batch.id);
        if !at_risk.clone().is_sorted() || at_risk.min().is_some_and(|id| Some(id) <= persisted) {
            return Err(format!(
                "what is at risk is out of order, or behind {persisted:?}"
            ));
        }
        let (early, stuck) = (state.early.first_key_value(), state.stuck.first_key_value());
        let early = early.map(|(place, _)| *place);
        if early.is_some_and(|place| place <= state.next) {
            return Err(format!(
                "place {early:?} is early, and {} is next",
                state.next
            ));
        }
        let stuck = stuck.map(|(place, _)| *place);
        if stuck.is_some_and(|place| place < state.next) {
            return Err(format!("place {stuck:?} is stuck, and was answered"));
        }
        Ok(())
    }

    /// All that was answered and is not persisted, by place in the stream; places below
    /// [`oldest_unanswered`](Self::oldest_unanswered) were answered in order.
    pub(super) fn unpersisted_answers(&self) -> BTreeMap<u64, (ObjectId, Option<u32>)> {
        let state = self.state.lock();
        let first_held = state.next - state.held.len() as u64;
        let held = (first_held..).zip(&state.held);
        let early = state.early.iter().map(|(place, early)| (*place, early));
        let of = |answered: &Answered| {
            let segment = answered.segment.as_ref();
            (answered.id, segment.map(|segment| segment.index()))
        };
        held.chain(early)
            .map(|(place, answered)| (place, of(answered)))
            .collect()
    }

    /// The batches that are at risk.
    pub(super) fn ids_at_risk(&self) -> Vec<ObjectId> {
        let state = self.state.lock();
        state.at_risk.iter().map(|batch| batch.id).collect()
    }

    /// The newest object of which it and all before it were answered.
    pub(super) fn last_answered(&self) -> Option<ObjectId> {
        self.state.lock().answered
    }

    /// Waits until as many uploads were answered as `entered` says.
    pub async fn caught_up(&self, entered: impl Fn() -> u64) {
        let caught_up = || (self.state.lock().next >= entered()).then_some(());
        self.changed.until(caught_up).await;
    }

    /// Waits until this object and all before it are stored.
    ///
    /// # Errors
    /// When uploads are stuck.
    pub async fn reached(&self, id: ObjectId) -> Result<()> {
        self.changed
            .until(|| {
                let state = self.state.lock();
                if state.persisted.is_some_and(|persisted| persisted >= id) {
                    return Some(Ok(()));
                }
                state.error().map(Err)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::error::ErrorKind;

    fn id(sequence: u64) -> ObjectId {
        ObjectId::from_u64(sequence)
    }

    fn answer(progress: &Progress, place: u64) {
        let answered = Answered {
            id: id(place),
            bytes: 0,
            segment: None,
        };
        progress.answered(place, answered);
    }

    #[test]
    fn the_persisted_point_moves_in_order_however_answers_come() {
        let progress = Progress::new(None, Persists::WhenAnswered);
        answer(&progress, 2);
        answer(&progress, 1);
        assert_eq!(
            (progress.persisted(), progress.oldest_unanswered()),
            (None, 0)
        );
        answer(&progress, 0);
        assert_eq!(
            (progress.persisted(), progress.oldest_unanswered()),
            (Some(id(2)), 3)
        );
    }

    #[test]
    fn a_stuck_upload_fails_who_waits_until_it_is_answered() {
        let progress = Progress::new(None, Persists::WhenAnswered);
        progress.stuck(0, Error::new(ErrorKind::Unavailable, "no store"));
        let failed = pollster::block_on(progress.reached(id(0)));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
        answer(&progress, 0);
        assert!(progress.error().is_none());
        pollster::block_on(progress.reached(id(0))).unwrap();
    }

    #[test]
    fn with_checks_only_what_was_answered_before_a_check_is_persisted() {
        let progress = Progress::new(None, Persists::WhenChecked);
        for sequence in 0..2 {
            progress.opened(id(sequence));
            progress.see(Duration::from_secs(sequence));
        }
        answer(&progress, 0);
        let begun = pollster::block_on(progress.unpersisted()).unwrap();
        answer(&progress, 1);
        assert_eq!(progress.persisted(), None);
        let now = Duration::from_secs(10);
        let oldest = |sequence| Some((id(sequence), now - Duration::from_secs(sequence)));
        assert_eq!(progress.oldest_at_risk(now), oldest(0));
        progress.persist(begun);
        assert_eq!(progress.persisted(), Some(id(0)));
        assert_eq!(progress.oldest_at_risk(now), oldest(1));
        assert_eq!(pollster::block_on(progress.unpersisted()), Some(id(1)));
        progress.persist(id(1));
        assert_eq!(progress.oldest_at_risk(now), None);
        progress.complete();
        assert_eq!(pollster::block_on(progress.unpersisted()), None);
    }
}
