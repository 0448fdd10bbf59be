//! Snapshots of a volume, clones that read its objects, and their pins, as a model of its own beside
//! those of the take-over and of deletion.
//!
//! What those prove is taken for granted here: a volume's superblocks form one chain, an opening claims
//! in one step, a writer that was taken over makes no superblock any more, and what no superblock needs
//! any more may be removed at any time, and is needed by none that follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use stateright::{Model, Property};

use crate::pins::clone::Attempt;
use crate::pins::rules::Broken;
use crate::pins::store::{Held, Id, Pin, Place, Store, Superblock};
use crate::pins::writer::{Step, Writer};
use crate::tried::Tried;

pub mod clone;
pub mod properties;
pub mod rules;
pub mod store;
pub mod writer;

/// The protocol within bounds.
#[derive(Clone, Debug)]
pub struct Pins {
    /// How far the checker goes.
    pub bounds: Bounds,
    /// The rule that is broken.
    pub broken: Broken,
    /// What must be reached at least once.
    pub reached: &'static [properties::Reached],
    /// What users without a fault make of the stores that were met.
    pub tried: Tried,
}

/// How often what may happen happens. All of it happens in every order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Openings of volumes for writing.
    pub openings: usize,
    /// Tries to make a clone.
    pub clones: usize,
    /// Whether a clone is there from the beginning, and clones are made of that.
    pub clones_of_clone: bool,
    /// Deletions of snapshots that are begun.
    pub deletions: usize,
    /// Snapshots, beside the one that is there from the beginning.
    pub snapshots: u8,
    /// Checkpoints of clones that need less.
    pub flattenings: usize,
    /// Removals of volumes.
    pub removals: usize,
    /// Crashes of a process.
    pub crashes: usize,
    /// Answers that are lost, and requests that arrive twice.
    pub faults: usize,
}

/// What is asked of the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RequestBody {
    /// To create a pin.
    PutPin(Pin),
    /// To remove one.
    DeletePin(Pin),
    /// To create a superblock.
    PutSuperblock(Place, Arc<Superblock>),
}

/// A request on its way to the store. It arrives at any time or never.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Request {
    /// Who sent it.
    pub from: Id,
    /// What it asks for.
    pub body: RequestBody,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// The store.
    pub store: Store,
    /// What is on its way there.
    pub network: BTreeSet<Request>,
    /// Writers of volumes.
    pub writers: BTreeSet<Writer>,
    /// Clones that are being made.
    pub attempts: BTreeSet<Attempt>,
    /// Processes there were.
    pub ids: Id,
    /// How much of the bounds was used.
    pub used: Bounds,
}

/// What happens to a request that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is answered.
    Answered,
    /// The answer is lost, and whoever waits for it asks again.
    AnswerLost,
    /// It is answered, and arrives once more some day.
    Doubled,
}

/// Something that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A host opens a volume for writing.
    Open(Place),
    /// A writer goes on.
    Work(Id, Step),
    /// Somebody begins to make a clone of one place at another.
    Clone(Place, Place),
    /// A clone looks at its base again.
    LookAgain(Id),
    /// A clone gives up.
    GiveUp(Id),
    /// A request takes effect.
    Arrive(Request, Arrival),
    /// A process ends at once.
    Crash(Id),
    /// What a snapshot that is deleted kept is removed.
    Remove(Held),
}

impl State {
    /// Nobody is there.
    fn new(store: Store) -> Self {
        Self {
            store,
            network: BTreeSet::new(),
            writers: BTreeSet::new(),
            attempts: BTreeSet::new(),
            ids: 0,
            used: Bounds::default(),
        }
    }

    fn next_id(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }

    fn send(&mut self, from: Id, body: RequestBody) {
        self.network.insert(Request { from, body });
    }

    fn writer(&self, id: Id) -> Option<&Writer> {
        self.writers.iter().find(|writer| writer.id == id)
    }

    fn attempt(&self, id: Id) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.id == id)
    }

    /// The pins of a volume in others.
    fn pins_of(&self, uuid: Id) -> impl Iterator<Item = Pin> {
        let pins = self.store.volumes.iter().flat_map(|volume| &volume.pins);
        pins.copied().filter(move |pin| pin.uuid == uuid)
    }

    /// A superblock that nobody waits for and whose number is taken has no effect any more.
    fn forget_spent_requests(&mut self) {
        let Self {
            network,
            store,
            writers,
            attempts,
            ..
        } = self;
        network.retain(|request| match &request.body {
            RequestBody::PutSuperblock(place, superblock) => {
                let is_free = store.volumes[*place].makers.len() <= superblock.number;
                let mut ids = writers.iter().map(|writer| writer.id);
                let mut attempts = attempts.iter().map(|attempt| attempt.id);
                is_free || ids.any(|id| id == request.from) || attempts.any(|id| id == request.from)
            }
            // It has an effect whenever it arrives.
            RequestBody::DeletePin(_) | RequestBody::PutPin(_) => true,
        });
    }
}

impl Pins {
    pub(crate) fn arrive(&self, state: &mut State, request: &Request, arrival: Arrival) {
        match arrival {
            Arrival::Answered => drop(state.network.remove(request)),
            Arrival::AnswerLost | Arrival::Doubled => state.used.faults += 1,
        }
        let volumes = &mut state.store.volumes;
        let is_ours = match &request.body {
            RequestBody::PutPin(pin) => {
                volumes[pin.held.place].pins.insert(*pin);
                true
            }
            RequestBody::DeletePin(pin) => {
                volumes[pin.held.place].pins.remove(pin);
                true
            }
            RequestBody::PutSuperblock(place, superblock) => volumes[*place].create(superblock),
        };
        if arrival == Arrival::AnswerLost {
            return;
        }
        if let Some(attempt) = state.attempt(request.from).cloned() {
            Self::clone_was_answered(state, &attempt, &request.body, is_ours);
        }
        if let RequestBody::PutSuperblock(_, superblock) = &request.body
            && let Some(writer) = state.writer(request.from).cloned()
        {
            self.writer_was_answered(state, &writer, superblock, is_ours);
        }
    }

    fn clone_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (bounds, used) = (&self.bounds, &state.used);
        if used.clones < bounds.clones {
            let source = usize::from(bounds.clones_of_clone);
            actions.push(Action::Clone(source, source + 1));
        }
        for attempt in &state.attempts {
            if self.may_look_again(attempt) {
                actions.push(Action::LookAgain(attempt.id));
            }
            if self.may_give_up(attempt) {
                actions.push(Action::GiveUp(attempt.id));
            }
        }
    }

    fn crash(state: &mut State, id: Id) {
        state.used.crashes += 1;
        state.writers.retain(|writer| writer.id != id);
        state.attempts.retain(|attempt| attempt.id != id);
    }

    /// Snapshots that are deleted, and what they kept is still there.
    fn removable(state: &State) -> impl Iterator<Item = Held> {
        let numbers = 0..=state.used.snapshots;
        let places = 0..state.store.volumes.len();
        let all = places.flat_map(move |place| {
            let numbers = numbers.clone();
            numbers.map(move |snapshot| Held { place, snapshot })
        });
        let named = |held: &Held| {
            let volumes = state.store.volumes.iter();
            let mut living = volumes.filter_map(|volume| volume.living());
            living.any(|living| living.foreign().any(|foreign| foreign == held))
        };
        let is_known = move |held: &Held| {
            let mut pins = state.attempts.iter().flat_map(|attempt| &attempt.pins);
            named(held) || pins.any(|pin| pin.held == *held)
        };
        // What nobody knows of may as well be there.
        all.filter(move |held| {
            is_known(held) && !state.store.is_kept(*held) && !state.store.gone.contains(held)
        })
    }
}

impl Model for Pins {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let store = match self.bounds.clones_of_clone {
            true => Store::with_clone(),
            false => Store::new(),
        };
        vec![State::new(store)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (bounds, used) = (&self.bounds, &state.used);
        for request in &state.network {
            actions.push(Action::Arrive(request.clone(), Arrival::Answered));
            if used.faults < bounds.faults {
                actions.push(Action::Arrive(request.clone(), Arrival::AnswerLost));
                actions.push(Action::Arrive(request.clone(), Arrival::Doubled));
            }
        }
        if used.openings < bounds.openings {
            let places = state.store.volumes.iter().enumerate();
            let living = places.filter(|(_, volume)| volume.living().is_some());
            actions.extend(living.map(|(place, _)| Action::Open(place)));
        }
        for writer in &state.writers {
            self.writer_actions(state, writer, actions);
        }
        self.clone_actions(state, actions);
        if used.crashes < bounds.crashes {
            let writers = state.writers.iter().map(|writer| writer.id);
            let attempts = state.attempts.iter().map(|attempt| attempt.id);
            actions.extend(writers.chain(attempts).map(Action::Crash));
        }
        actions.extend(Self::removable(state).map(Action::Remove));
    }

    fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
        let mut state = last_state.clone();
        match action {
            Action::Open(place) => self.open(&mut state, place)?,
            Action::Work(id, step) => self.work(&mut state, id, step)?,
            Action::Clone(source, target) => self.begin_clone(&mut state, source, target)?,
            Action::LookAgain(id) => {
                let attempt = state.attempt(id)?.clone();
                self.look_again(&mut state, &attempt)?;
            }
            Action::GiveUp(id) => {
                let attempt = state.attempt(id)?.clone();
                Self::give_up(&mut state, &attempt)?;
            }
            Action::Arrive(request, arrival) => self.arrive(&mut state, &request, arrival),
            Action::Crash(id) => Self::crash(&mut state, id),
            Action::Remove(held) => drop(state.store.gone.insert(held)),
        }
        state.forget_spent_requests();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.reached)
    }
}
