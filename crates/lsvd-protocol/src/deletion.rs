//! Deletion: dead objects, their stamps, checkpoints and snapshots that hold them, as a model of its
//! own beside that of the take-over.
//!
//! What the other model proves is taken for granted here: an opening claims, fixes the ends and rolls
//! forward in one step, and what a writer stores in the stream behind that is nobody's. A writer that
//! was taken over goes on without knowing, and its superblocks, moved data, checkpoints and removals
//! arrive at any time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use stateright::{Model, Property};

use crate::deletion::rules::Broken;
use crate::deletion::store::{ADDRESSES, Checkpoint, Content, Name, Store, Superblock};
use crate::deletion::work::writer_of;
use crate::deletion::writer::{Making, Writer};
use crate::tried::Tried;

pub mod properties;
pub mod rules;
pub mod store;
pub mod work;
pub mod writer;

/// The protocol within bounds.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// How far the checker goes.
    pub bounds: Bounds,
    /// The rule that is broken.
    pub broken: Broken,
    /// What must be reached at least once.
    pub reached: &'static [properties::Reached],
    /// What two openings without a fault make of the stores that were met.
    pub tried: Tried,
}

/// How often what may happen happens. All of it happens in every order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Openings for writing, on two hosts.
    pub openings: u8,
    /// Batches of clients.
    pub writes: usize,
    /// Checkpoints that are begun, those of snapshots included.
    pub checkpoints: usize,
    /// Objects of moved data.
    pub copies: usize,
    /// Snapshots.
    pub snapshots: u8,
    /// Reads that take their time.
    pub reads: usize,
    /// Crashes of a process.
    pub crashes: usize,
    /// Checkpoints that are damaged, or read with an error by one opener alone.
    pub damages: usize,
    /// Answers that are lost.
    pub faults: usize,
    /// Whether a writer that was taken over begins anything new, and does not only end what it began.
    pub works_on: bool,
}

/// What is asked of the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestBody {
    /// To create moved data.
    PutGc(Name),
    /// To create a checkpoint.
    PutCheckpoint(Arc<Checkpoint>),
    /// To create a superblock.
    PutSuperblock(Arc<Superblock>),
    /// To remove an object.
    Delete(Name),
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutGc(name) => write!(f, "PUT {name:?}"),
            Self::PutCheckpoint(checkpoint) => write!(f, "PUT {checkpoint:?}"),
            Self::PutSuperblock(superblock) => write!(f, "PUT {superblock:?}"),
            Self::Delete(name) => write!(f, "DELETE {name:?}"),
        }
    }
}

/// A request on its way to the store. It arrives at any time or never.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Request {
    /// The epoch of its sender.
    pub from: u8,
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
    /// The process of each host.
    pub hosts: Vec<Option<Arc<Writer>>>,
    /// The snapshots that were deleted: the superblock that says so is there.
    pub deleted: BTreeSet<u8>,
    /// What was refused to the last opener.
    pub refused: bool,
    /// How much of the bounds was used.
    pub used: Bounds,
}

/// Something that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A host opens the volume. With `is_misread` it takes the newest checkpoint for damaged.
    Open {
        /// The host.
        host: usize,
        /// Whether it misreads.
        is_misread: bool,
    },
    /// A client writes an address.
    Write(usize, usize),
    /// A user takes a snapshot.
    Snapshot(usize),
    /// A user deletes one. That no pin was found is taken for granted here.
    DeleteSnapshot(usize, u8),
    /// A writer cuts a checkpoint.
    Cut(usize),
    /// A writer copies what is live of the objects in which garbage may be collected.
    Collect(usize),
    /// A client begins to read an address.
    BeginRead(usize, usize),
    /// The read ends.
    EndRead(usize),
    /// A writer removes what it may.
    Remove(usize),
    /// A request takes effect. With `answer_is_lost` it is made again.
    Arrive {
        /// The request.
        request: Request,
        /// Whether the sender does not hear of it.
        answer_is_lost: bool,
    },
    /// A process ends at once.
    Crash(usize),
    /// A kept checkpoint is damaged.
    Damage(Name),
}

impl State {
    /// Nobody has opened the volume yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: Store::new(),
            network: BTreeSet::new(),
            hosts: vec![None; 2],
            deleted: BTreeSet::new(),
            refused: false,
            used: Bounds::default(),
        }
    }

    /// The writer that has the volume, if its process is there.
    #[must_use]
    pub fn current(&self) -> Option<&Writer> {
        let mut writers = self.hosts.iter().flatten().map(|writer| &**writer);
        writers.find(|writer| writer.epoch == self.used.openings)
    }

    fn send(&mut self, from: u8, body: RequestBody) {
        self.network.insert(Request { from, body });
    }

    /// A superblock that nobody waits for and whose number is taken has no effect any more.
    fn forget_spent_requests(&mut self) {
        let (hosts, newest) = (&self.hosts, self.store.newest.number);
        let is_there = |epoch| hosts.iter().flatten().any(|writer| writer.epoch == epoch);
        self.network.retain(|request| match &request.body {
            RequestBody::PutSuperblock(superblock) => {
                superblock.number > newest || is_there(request.from)
            }
            _ => true,
        });
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl Deletion {
    fn writer_actions(&self, state: &State, host: usize, actions: &mut Vec<Action>) {
        let Some(writer) = &state.hosts[host] else {
            return;
        };
        let (bounds, used) = (&self.bounds, &state.used);
        if bounds.works_on || writer.epoch == used.openings {
            self.new_work(state, host, actions);
        }
        if writer.reading.is_some() {
            actions.push(Action::EndRead(host));
        }
        let removable = writer.removable(&state.store, self.broken);
        let is_sent = |name: &Name| {
            let (from, body) = (writer.epoch, RequestBody::Delete(*name));
            state.network.contains(&Request { from, body })
        };
        if !removable.iter().all(is_sent) {
            actions.push(Action::Remove(host));
        }
        if used.crashes < bounds.crashes {
            actions.push(Action::Crash(host));
        }
    }

    fn new_work(&self, state: &State, host: usize, actions: &mut Vec<Action>) {
        let Some(writer) = &state.hosts[host] else {
            return;
        };
        let (bounds, used) = (&self.bounds, &state.used);
        if used.writes < bounds.writes {
            // The addresses are alike, so the one that is written first is the first.
            let written = if used.writes == 0 { 1 } else { ADDRESSES };
            actions.extend((0..written).map(|address| Action::Write(host, address)));
        }
        let is_idle = writer.making == Making::Nothing;
        let is_settled = writer.outstanding.is_none();
        if is_idle && used.checkpoints < bounds.checkpoints {
            actions.push(Action::Cut(host));
            if used.snapshots < bounds.snapshots && is_settled {
                actions.push(Action::Snapshot(host));
            }
        }
        if is_settled {
            let snapshots = writer.own.snapshots.keys();
            actions.extend(snapshots.map(|name| Action::DeleteSnapshot(host, *name)));
        }
        let victims = writer.victims(self.broken);
        if used.copies < bounds.copies && writer.copied.is_none() && !victims.is_empty() {
            actions.push(Action::Collect(host));
        }
        if writer.reading.is_none() && used.reads < bounds.reads {
            let addresses = 0..ADDRESSES;
            actions.extend(addresses.map(|address| Action::BeginRead(host, address)));
        }
    }

    /// One damage at a time: the next comes when the volume has two good checkpoints again, as far as
    /// its writer knows.
    fn damage_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Store {
            newest,
            damaged,
            noticed,
            ..
        } = &state.store;
        let [older, last] = newest.kept[..] else {
            return;
        };
        let is_good = |name: &Name| !damaged.contains(name);
        let is_whole =
            is_good(&last.name) && (is_good(&older.name) || noticed.contains(&older.name));
        if state.used.damages < self.bounds.damages && is_whole {
            // What a snapshot's checkpoint says is in no other: it would be lost with the snapshot.
            let is_snapshot = |name: &Name| {
                let mut snapshots = newest.snapshots.values();
                snapshots.any(|snapshot| snapshot.name == *name)
            };
            let kept = [older.name, last.name].into_iter();
            let kept = kept.filter(|name| is_good(name) && !is_snapshot(name));
            actions.extend(kept.map(Action::Damage));
        }
    }
}

impl Model for Deletion {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (bounds, used) = (&self.bounds, &state.used);
        for request in &state.network {
            for answer_is_lost in [false, true] {
                let mut hosts = state.hosts.iter().flatten();
                let is_awaited = hosts.any(|writer| writer.epoch == request.from);
                let may_be_lost = used.faults < bounds.faults && is_awaited;
                if may_be_lost || !answer_is_lost {
                    let request = request.clone();
                    actions.push(Action::Arrive {
                        request,
                        answer_is_lost,
                    });
                }
            }
        }
        let free = state.hosts.iter().position(Option::is_none);
        if let Some(host) = free.filter(|_| used.openings < bounds.openings) {
            let is_misread = false;
            actions.push(Action::Open { host, is_misread });
            let has_two = state.store.newest.kept.len() > 1;
            let none_is_damaged = {
                let mut kept = state.store.newest.kept.iter();
                kept.all(|kept| !state.store.damaged.contains(&kept.name))
            };
            if used.damages < bounds.damages && has_two && none_is_damaged {
                let is_misread = true;
                actions.push(Action::Open { host, is_misread });
            }
        }
        for host in 0..state.hosts.len() {
            self.writer_actions(state, host, actions);
        }
        self.damage_actions(state, actions);
    }

    fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
        let mut state = last_state.clone();
        match action {
            Action::Open { host, is_misread } => {
                state.used.damages += usize::from(is_misread);
                self.open(&mut state, host, is_misread);
            }
            Action::Write(host, address) => {
                state.used.writes += 1;
                self.append(&mut state, host, Content::Write(address))?;
            }
            Action::Snapshot(host) => {
                let snapshot = state.used.snapshots;
                state.used.snapshots += 1;
                self.append(&mut state, host, Content::Snapshot(snapshot))?;
                self.cut(&mut state, host, Some(snapshot))?;
            }
            Action::DeleteSnapshot(host, name) => Self::delete_snapshot(&mut state, host, name)?,
            Action::Cut(host) => self.cut(&mut state, host, None)?,
            Action::Collect(host) => self.collect(&mut state, host)?,
            Action::BeginRead(host, address) => {
                state.used.reads += 1;
                let writer = writer_of(&mut state.hosts, host)?;
                writer.reading = Some(writer.map[address].at);
            }
            Action::EndRead(host) => writer_of(&mut state.hosts, host)?.reading = None,
            Action::Remove(host) => self.remove(&mut state, host)?,
            Action::Arrive {
                request,
                answer_is_lost,
            } => self.arrive(&mut state, &request, answer_is_lost),
            Action::Crash(host) => {
                state.used.crashes += 1;
                state.hosts[host] = None;
            }
            Action::Damage(name) => {
                state.used.damages += 1;
                state.store.damaged.insert(name);
            }
        }
        state.forget_spent_requests();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.reached)
    }
}
