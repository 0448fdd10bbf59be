//! The model: hosts, requests on their way, a store; and what may happen next.

use std::collections::BTreeSet;
use std::sync::Arc;

use stateright::{Model, Property};

use crate::history::{Damage, Served};
use crate::opening::Opening;
use crate::properties::{self, Reached};
use crate::rules::Broken;
use crate::serving::Serving;
use crate::store::{Change, DataObject, EpochEnd, Object, OpeningId, Removable, Store, Superblock};

/// The protocol within bounds.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// How far the checker goes.
    pub bounds: Bounds,
    /// The rule that is broken.
    pub broken: Broken,
    /// What must be reached at least once: a model in which nothing happens is always right.
    pub reached: &'static [Reached],
}

/// How often what may happen happens. All of it happens in every order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Hosts, each with one local disk and at most one process.
    pub hosts: usize,
    /// Openings for writing, removals and creations, on all hosts.
    pub openings: u8,
    /// Batches that clients write.
    pub batches: usize,
    /// Uploads under way at once.
    pub window: usize,
    /// Checkpoints.
    pub checkpoints: usize,
    /// Crashes of a process.
    pub crashes: usize,
    /// How many of the crashes take the local disk along.
    pub disk_losses: usize,
    /// Answers that are lost, and requests that arrive twice.
    pub faults: usize,
    /// Removals of the volume. Where there is one, the volume may be made again.
    pub removals: usize,
    /// Epochs that a superblock lists before those that both checkpoints are behind leave the list.
    pub epochs_kept: usize,
}

/// A request on its way to the store. It arrives at any time or never, also when nobody waits any more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Request {
    /// Who sent it.
    pub from: OpeningId,
    /// What it asks for.
    pub body: RequestBody,
}

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RequestBody {
    /// To create an object if its name is free.
    Put(Object),
    /// To remove an object.
    Delete(Removable),
}

/// A write log. Only what was synced is in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    /// The opening that made it.
    pub id: OpeningId,
    /// The batches in it that are not known to be persisted.
    pub batches: Vec<DataObject>,
    /// The last opening that served with it.
    pub last: Option<OpeningId>,
}

/// A machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Host {
    /// What its local disk has of the volume.
    pub log: Option<Log>,
    /// Its process. The lock of the log keeps a second one away.
    pub process: Process,
}

/// A process and its memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Process {
    /// There is none.
    #[default]
    None,
    /// It opens the volume.
    Opening(Opening),
    /// It serves the volume.
    Serving(Box<Serving>),
    /// It removes the volume, and waits for its tombstone.
    Removing(OpeningId, Arc<Superblock>),
}

impl Process {
    /// Whose answers it waits for.
    #[must_use]
    pub fn id(&self) -> Option<OpeningId> {
        match self {
            Self::None => None,
            Self::Opening(opening) => Some(opening.id),
            Self::Serving(serving) => Some(serving.id),
            Self::Removing(id, _) => Some(*id),
        }
    }
}

/// How much of the bounds was used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Used {
    /// Openings, and so the id of the next.
    pub openings: u8,
    /// Batches.
    pub batches: usize,
    /// Checkpoints.
    pub checkpoints: usize,
    /// Crashes.
    pub crashes: usize,
    /// Lost disks.
    pub disk_losses: usize,
    /// Lost and doubled requests.
    pub faults: usize,
    /// Removals.
    pub removals: usize,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// The store.
    pub store: Store,
    /// What is on its way there.
    pub network: BTreeSet<Request>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The openings that served, in order.
    pub served: Vec<Served>,
    /// What an opener was told that it should not be.
    pub damage: Option<Damage>,
    /// What is left of the bounds.
    pub used: Used,
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
    /// A host finds the newest superblock, looks at its log, and sends a claim. With `list_is_old` the
    /// list of the store is one from the beginning.
    Open {
        /// The host.
        host: usize,
        /// Whether the list is old.
        list_is_old: bool,
    },
    /// An opener whose claim is there loads the checkpoint and begins to search.
    BeginSearch(usize),
    /// An opener's search ends with one of the streams that it can have found.
    EndSearch {
        /// The host.
        host: usize,
        /// Which of them.
        stream: usize,
    },
    /// A request takes effect.
    Arrive(Request, Arrival),
    /// Clients fill a batch and flush it to the log.
    Write(usize),
    /// A writer looks at the next superblock's number.
    Look(usize),
    /// A writer draws its conclusion from a look that found nothing.
    Conclude(usize),
    /// A writer makes a checkpoint.
    Checkpoint {
        /// The host.
        host: usize,
        /// Whether pieces of the one before are used.
        incremental: bool,
    },
    /// A writer removes what its checkpoints do not need.
    RemoveUnneeded(usize),
    /// A writer closes the volume.
    Close(usize),
    /// A process ends at once.
    Crash {
        /// The host.
        host: usize,
        /// Whether its local disk is lost, too.
        disk_is_lost: bool,
    },
    /// A host sends a tombstone.
    RemoveVolume(usize),
    /// A host makes the volume again where it was removed.
    CreateVolume(usize),
}

impl State {
    /// The newest superblock there is.
    #[must_use]
    pub fn newest(&self) -> &Arc<Superblock> {
        let newest = self.store.superblocks.values().next_back();
        newest.expect("the first superblock is there from the beginning")
    }

    /// Sends a PUT.
    pub fn send(&mut self, from: OpeningId, object: Object) {
        let body = RequestBody::Put(object);
        self.network.insert(Request { from, body });
    }

    /// Sends a DELETE.
    pub fn send_delete(&mut self, from: OpeningId, name: Removable) {
        let body = RequestBody::Delete(name);
        self.network.insert(Request { from, body });
    }

    /// The host whose process is this opening.
    #[must_use]
    pub fn host_of(&self, id: OpeningId) -> Option<usize> {
        let mut hosts = self.hosts.iter();
        hosts.position(|host| host.process.id() == Some(id))
    }

    /// The id of a new opening.
    pub fn next_id(&mut self) -> OpeningId {
        self.used.openings += 1;
        self.used.openings - 1
    }

    /// What opening `id` truly did. It served.
    pub fn record(&mut self, id: OpeningId) -> &mut Served {
        let mut served = self.served.iter_mut();
        let record = served.find(|served| served.id == id);
        record.expect("who serves has a record")
    }

    /// A superblock that nobody waits for and whose number is taken can have no effect any more.
    fn forget_spent_requests(&mut self) {
        let (hosts, store) = (&self.hosts, &self.store);
        self.network.retain(|request| {
            let RequestBody::Put(Object::Superblock(superblock)) = &request.body else {
                return true;
            };
            let is_awaited = || {
                hosts
                    .iter()
                    .any(|host| host.process.id() == Some(request.from))
            };
            !store.superblocks.contains_key(&superblock.number) || is_awaited()
        });
    }
}

impl Protocol {
    fn arrive(&self, state: &mut State, request: &Request, arrival: Arrival) {
        if arrival == Arrival::Answered {
            state.network.remove(request);
        } else {
            state.used.faults += 1;
        }
        let object = match &request.body {
            RequestBody::Delete(name) => return state.store.remove(*name),
            RequestBody::Put(object) => object,
        };
        let overwrites = self.broken == Broken::ConditionIgnored;
        let is_ours = state.store.create(object, overwrites);
        let Some(host) = state.host_of(request.from) else {
            return;
        };
        if arrival == Arrival::AnswerLost {
            return;
        }
        match &state.hosts[host].process {
            Process::None => {}
            Process::Opening(_) => self.opener_was_answered(state, host, object, is_ours),
            Process::Serving(_) => self.writer_was_answered(state, host, object, is_ours),
            Process::Removing(id, tombstone) => {
                let (id, tombstone) = (*id, Arc::clone(tombstone));
                state.hosts[host].process = Process::None;
                if is_ours {
                    self.clear(state, id, &tombstone);
                }
            }
        }
    }

    /// Removes all that a tombstone stands behind.
    fn clear(&self, state: &mut State, id: OpeningId, tombstone: &Superblock) {
        let last = tombstone.epochs.last().map(|last| last.epoch);
        let is_behind = |epoch| Some(epoch) <= last;
        let data = state.store.data.keys().copied().map(Removable::Data);
        let checkpoints = state.store.checkpoints.keys().copied();
        let mut doomed: Vec<_> = data.chain(checkpoints.map(Removable::Checkpoint)).collect();
        doomed.retain(|name| match name {
            Removable::Data((epoch, _)) | Removable::Checkpoint((epoch, _)) => is_behind(*epoch),
            Removable::Superblock(_) => false,
        });
        if self.broken == Broken::TombstoneRemoved {
            doomed.push(Removable::Superblock(tombstone.number));
        }
        for name in doomed {
            state.send_delete(id, name);
        }
    }

    fn remove_volume(&self, state: &mut State, host: usize) -> Option<()> {
        let newest = Arc::clone(state.store.find_newest(false).ok()?);
        state.used.removals += 1;
        let id = state.next_id();
        if newest.change == Change::Tombstone {
            // One that was cut short is gone on with.
            self.clear(state, id, &newest);
            return Some(());
        }
        let tombstone = Arc::new(Superblock {
            epochs: vec![EpochEnd {
                epoch: newest.next_epoch(),
                objects: Some(0),
            }],
            checkpoints: Vec::new(),
            log: None,
            ..newest.next(id, Change::Tombstone)
        });
        state.send(id, Object::Superblock(Arc::clone(&tombstone)));
        state.hosts[host].process = Process::Removing(id, tombstone);
        Some(())
    }

    fn create_volume(&self, state: &mut State) -> Option<()> {
        let newest = Arc::clone(state.store.find_newest(false).ok()?);
        if newest.change != Change::Tombstone {
            return None;
        }
        let id = state.next_id();
        let created = Superblock {
            volume: newest.number + 1,
            first_epoch: match self.broken {
                Broken::EpochsUsedAgain => 0,
                _ => newest.next_epoch(),
            },
            epochs: Vec::new(),
            persisted: None,
            ..newest.next(id, Change::Create)
        };
        // Nobody has to wait for it: it is there some day, or not.
        state.send(id, Object::Superblock(Arc::new(created)));
        Some(())
    }

    fn host_actions(&self, state: &State, host: usize, actions: &mut Vec<Action>) {
        let (bounds, used) = (&self.bounds, &state.used);
        match &state.hosts[host].process {
            // The hosts are all alike, so the first one is the first.
            Process::None if used.openings == 0 && host > 0 => {}
            Process::None => {
                if used.openings < bounds.openings {
                    for list_is_old in [false, true] {
                        actions.push(Action::Open { host, list_is_old });
                    }
                    if used.removals < bounds.removals {
                        actions.push(Action::RemoveVolume(host));
                    }
                    if bounds.removals > 0 {
                        actions.push(Action::CreateVolume(host));
                    }
                }
                return;
            }
            Process::Opening(opening) => opening.actions(self, state, host, actions),
            Process::Serving(serving) => serving.actions(self, state, host, actions),
            Process::Removing(..) => {}
        }
        if used.crashes < bounds.crashes {
            actions.push(Action::Crash {
                host,
                disk_is_lost: false,
            });
            if used.disk_losses < bounds.disk_losses {
                actions.push(Action::Crash {
                    host,
                    disk_is_lost: true,
                });
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Store::with_volume(),
            network: BTreeSet::new(),
            hosts: vec![Host::default(); self.bounds.hosts],
            served: Vec::new(),
            damage: None,
            used: Used::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for request in &state.network {
            actions.push(Action::Arrive(request.clone(), Arrival::Answered));
            let is_put = matches!(request.body, RequestBody::Put(_));
            let may_fail = state.used.faults < self.bounds.faults && is_put;
            if may_fail && state.host_of(request.from).is_some() {
                actions.push(Action::Arrive(request.clone(), Arrival::AnswerLost));
                actions.push(Action::Arrive(request.clone(), Arrival::Doubled));
            }
        }
        for host in 0..state.hosts.len() {
            self.host_actions(state, host, actions);
        }
    }

    fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
        let mut state = last_state.clone();
        match action {
            Action::Open { host, list_is_old } => self.open(&mut state, host, list_is_old)?,
            Action::BeginSearch(host) => self.begin_search(&mut state, host)?,
            Action::EndSearch { host, stream } => self.end_search(&mut state, host, stream)?,
            Action::Arrive(request, arrival) => self.arrive(&mut state, &request, arrival),
            Action::Write(host) => self.write(&mut state, host)?,
            Action::Look(host) => self.look(&mut state, host)?,
            Action::Conclude(host) => self.conclude(&mut state, host)?,
            Action::Checkpoint { host, incremental } => {
                self.checkpoint(&mut state, host, incremental)?;
            }
            Action::RemoveUnneeded(host) => self.remove_unneeded(&mut state, host)?,
            Action::Close(host) => self.close(&mut state, host)?,
            Action::Crash { host, disk_is_lost } => {
                state.used.crashes += 1;
                state.hosts[host].process = Process::None;
                if disk_is_lost {
                    state.used.disk_losses += 1;
                    state.hosts[host].log = None;
                }
            }
            Action::RemoveVolume(host) => self.remove_volume(&mut state, host)?,
            Action::CreateVolume(_) => self.create_volume(&mut state)?,
        }
        state.forget_spent_requests();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.reached)
    }
}
