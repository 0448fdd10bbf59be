//! A machine room on one thread: tasks in groups, a clock that stands still while anything can run,
//! and a seed that decides who runs next.
//!
//! A group is what lives and dies together, a process for example. It can be stalled, in the midst of
//! whatever its tasks wait for, and go on later; and it can end, at a step that was chosen before or
//! now: its tasks are never run again, and dropped when whoever watches says so. Each run of a task
//! from one wait to the next is a step. The digest is over all choices and times, so two runs with
//! the same digest went the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::sync::Signal;
use parking_lot::Mutex;

use crate::random::Random;

/// Steps after which a run that does not end is taken to go round in circles.
const STEPS_MAX: u64 = 20_000_000;

/// Tasks that live and die together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(u64);

/// What runs the tasks. Clones are the same.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Those that were woken; apart, since a task may be woken while anything else is going on.
    woken: Mutex<Vec<u64>>,
    /// Notified when a group ends or stalls.
    stopped: Signal,
}

struct State {
    random: Random,
    now: Duration,
    steps: u64,
    digest: u64,
    next: u64,
    tasks: BTreeMap<u64, Task>,
    ready: BTreeSet<u64>,
    groups: BTreeMap<Group, GroupState>,
    timers: BTreeMap<(Duration, u64), Waker>,
}

struct Task {
    group: Group,
    /// Nothing while it runs.
    future: Option<BoxFuture<'static, ()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupState {
    /// It stops after so many more steps, where that is known.
    Running(Option<(u64, Stop)>),
    Stalled,
    Ended,
}

/// How a group stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Until it is resumed.
    Stall,
    /// For ever.
    End,
}

impl From<Stop> for GroupState {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Stall => Self::Stalled,
            Stop::End => Self::Ended,
        }
    }
}

struct TaskWaker {
    task: u64,
    shared: Weak<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.woken.lock().push(self.task);
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({:?})", self.now())
    }
}

impl Executor {
    /// An empty one, whose choices the seed makes, and whose clock shows one second.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            now: Duration::from_secs(1),
            steps: 0,
            digest: seed,
            next: 0,
            tasks: BTreeMap::new(),
            ready: BTreeSet::new(),
            groups: BTreeMap::new(),
            timers: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                woken: Mutex::default(),
                stopped: Signal::default(),
            }),
        }
    }

    /// A new group, running.
    #[must_use]
    pub fn group(&self) -> Group {
        let mut state = self.shared.state.lock();
        state.next += 1;
        let group = Group(state.next);
        state.groups.insert(group, GroupState::Running(None));
        group
    }

    /// The engine's door to this: tasks of `group`, and its own randomness.
    #[must_use]
    pub fn runtime(&self, group: Group) -> Arc<dyn Runtime> {
        let seed = self.shared.state.lock().random.bits();
        Arc::new(GroupRuntime {
            executor: self.clone(),
            group,
            random: Mutex::new(Random::new(seed)),
        })
    }

    /// Adds a task. Those of a group that has ended are dropped.
    pub fn spawn(&self, group: Group, future: BoxFuture<'static, ()>) {
        let mut state = self.shared.state.lock();
        if matches!(state.groups.get(&group), None | Some(GroupState::Ended)) {
            drop(state);
            return drop(future);
        }
        state.next += 1;
        let id = state.next;
        let future = Some(future);
        state.tasks.insert(id, Task { group, future });
        state.ready.insert(id);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.state.lock().now
    }

    /// Completes when `duration` has passed.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.shared.state.lock();
        state.next += 1;
        Sleep {
            executor: self.clone(),
            key: (state.now + duration, state.next),
        }
    }

    /// Over all choices so far, and the times at which they were made.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.shared.state.lock().digest
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.shared.state.lock().steps
    }

    /// Runs no task of the group until it is [resumed](Self::resume).
    pub fn stall(&self, group: Group) {
        self.change(group, |state| match state {
            GroupState::Running(_) => GroupState::Stalled,
            other => other,
        });
        self.shared.stopped.notify();
    }

    /// Lets a stalled group go on.
    pub fn resume(&self, group: Group) {
        self.change(group, |state| match state {
            GroupState::Stalled => GroupState::Running(None),
            other => other,
        });
    }

    /// Stops the group after so many more steps of its tasks.
    pub fn stop_after(&self, group: Group, steps: u64, stop: Stop) {
        self.change(group, |state| match state {
            GroupState::Running(_) => GroupState::Running(Some((steps, stop))),
            other => other,
        });
    }

    /// Runs no task of the group any more.
    pub fn end(&self, group: Group) {
        self.change(group, |_| GroupState::Ended);
        self.shared.stopped.notify();
    }

    fn change(&self, group: Group, change: impl FnOnce(GroupState) -> GroupState) {
        if let Some(state) = self.shared.state.lock().groups.get_mut(&group) {
            *state = change(*state);
        }
    }

    /// Waits until the group has stopped, and says how.
    pub async fn until_stopped(&self, group: Group) -> Stop {
        let stopped = || match self.shared.state.lock().groups.get(&group) {
            Some(GroupState::Running(_)) => None,
            Some(GroupState::Stalled) => Some(Stop::Stall),
            None | Some(GroupState::Ended) => Some(Stop::End),
        };
        self.shared.stopped.until(stopped).await
    }

    /// Ends the group, and drops all that its tasks have.
    pub fn remove(&self, group: Group) {
        self.end(group);
        let dropped: Vec<_> = {
            let mut state = self.shared.state.lock();
            let of_group = state.tasks.iter().filter(|(_, task)| task.group == group);
            let ids: Vec<u64> = of_group.map(|(id, _)| *id).collect();
            state.ready.retain(|id| !ids.contains(id));
            let tasks = ids.iter().filter_map(|id| state.tasks.remove(id));
            tasks.collect()
        };
        drop(dropped);
        self.shared.state.lock().groups.remove(&group);
    }

    /// Runs `main`, and whatever it starts, until it is done.
    ///
    /// # Errors
    /// Where nothing can ever run again, or nothing ever ends.
    pub fn run<T: Send + 'static>(
        &self,
        main: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let answer = Arc::new(Mutex::new(None));
        let group = self.group();
        self.spawn(group, {
            let answer = Arc::clone(&answer);
            Box::pin(async move { *answer.lock() = Some(main.await) })
        });
        loop {
            if let Some(answer) = answer.lock().take() {
                return Ok(answer);
            }
            let Some((id, mut future)) = self.choose()? else {
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker {
                task: id,
                shared: Arc::downgrade(&self.shared),
            }));
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            self.settle(id, poll.is_pending().then_some(future));
        }
    }

    /// Takes the task that is to run next; nothing where the clock went on instead.
    fn choose(&self) -> Result<Option<(u64, BoxFuture<'static, ()>)>, String> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        state.ready.extend(self.shared.woken.lock().drain(..));
        let (tasks, groups) = (&state.tasks, &state.groups);
        let runs = |id: &u64| {
            let group = tasks.get(id).map(|task| task.group);
            let group = group.and_then(|group| groups.get(&group));
            matches!(group, Some(GroupState::Running(_)))
        };
        state.ready.retain(|id| tasks.contains_key(id));
        let ready: Vec<u64> = state.ready.iter().copied().filter(runs).collect();
        if ready.is_empty() {
            let Some(((then, _), waker)) = state.timers.pop_first() else {
                return Err("nothing can run any more, and nothing is waited for".to_owned());
            };
            state.now = state.now.max(then);
            waker.wake();
            return Ok(None);
        }
        state.steps += 1;
        if state.steps > STEPS_MAX {
            return Err(format!("nothing ended in {STEPS_MAX} steps"));
        }
        let chosen = usize::try_from(state.random.below(ready.len() as u64)).unwrap_or(0);
        let id = ready[chosen];
        state.ready.remove(&id);
        let now = state.now.as_nanos();
        state.mix(id ^ u64::try_from(now).unwrap_or(u64::MAX).rotate_left(20));
        let future = state.tasks.get_mut(&id).and_then(|task| task.future.take());
        Ok(future.map(|future| (id, future)))
    }

    /// Puts back a task that waits, and lets its group end where it was to.
    fn settle(&self, id: u64, future: Option<BoxFuture<'static, ()>>) {
        let mut state = self.shared.state.lock();
        let Some(group) = state.tasks.get(&id).map(|task| task.group) else {
            // Its group was removed, perhaps by the task itself.
            drop(state);
            return drop(future);
        };
        let dropped = match future {
            Some(future) => {
                if let Some(task) = state.tasks.get_mut(&id) {
                    task.future = Some(future);
                }
                None
            }
            None => state.tasks.remove(&id),
        };
        let mut stopped = false;
        if let Some(GroupState::Running(Some((left, stop)))) = state.groups.get(&group).copied() {
            stopped = left == 0;
            let next = match left.checked_sub(1) {
                Some(left) => GroupState::Running(Some((left, stop))),
                None => stop.into(),
            };
            state.groups.insert(group, next);
        }
        drop(state);
        drop(dropped);
        if stopped {
            self.shared.stopped.notify();
        }
    }
}

impl State {
    fn mix(&mut self, what: u64) {
        let mut random = Random::new(self.digest ^ what);
        self.digest = random.bits();
    }
}

/// A timer; leaves the list when it is dropped.
struct Sleep {
    executor: Executor,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.executor.shared.state.lock();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.executor.shared.state.lock().timers.remove(&self.key);
        drop(waker);
    }
}

/// The engine's view of one group.
struct GroupRuntime {
    executor: Executor,
    group: Group,
    random: Mutex<Random>,
}

impl fmt::Debug for GroupRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.group, self.executor)
    }
}

impl Runtime for GroupRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.executor.spawn(self.group, task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.executor.sleep(duration))
    }

    fn now(&self) -> Duration {
        self.executor.now()
    }

    fn wall_clock(&self) -> Duration {
        self.executor.now()
    }

    fn random(&self) -> u128 {
        let mut random = self.random.lock();
        u128::from(random.bits()) << 64 | u128::from(random.bits())
    }
}
