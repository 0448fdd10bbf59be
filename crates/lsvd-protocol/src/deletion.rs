//! Deletion: dead objects, their stamps, checkpoints and snapshots that hold them, as a model of its
//! own beside that of the take-over.
//!
//! What the other model proves is taken for granted here: an opening claims, fixes the ends and rolls
//! forward in one step, and what a writer stores in the stream behind that is nobody's. A writer that
//! was taken over goes on without knowing, and its superblocks, moved data, checkpoints and removals
//! arrive at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use stateright::{Model, Property};

use crate::deletion::rules::Broken;
use crate::deletion::store::{ADDRESSES, Checkpoint, Content, Name, Store, Superblock};
use crate::deletion::writer::{Copied, Making, Writer};
use crate::tried::Tried;

pub mod properties;
pub mod rules;
pub mod store;
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
    /// Claims, loads, rolls forward, serves.
    pub(crate) fn open(&self, state: &mut State, host: usize, is_misread: bool) {
        state.used.openings += 1;
        let epoch = state.used.openings;
        let claim = Arc::new(Superblock {
            number: state.store.newest.number + 1,
            by: epoch,
            ..(*state.store.newest).clone()
        });
        state.store.create_superblock(&claim);
        let opened = match state.store.open(is_misread, self.broken) {
            Ok(opened) => opened,
            Err(_) => {
                state.refused = true;
                return;
            }
        };
        if let Some(name) = opened.fell_back_from {
            state.store.noticed.insert(name);
        }
        let mut writer = Writer {
            epoch,
            own: claim,
            outstanding: None,
            fell_back_from: opened.fell_back_from,
            line: state.store.stream.clone(),
            next: 0,
            map: opened.map,
            table: opened
                .table
                .into_iter()
                .map(|name| (name, None))
                .collect::<BTreeMap<_, _>>(),
            cuts: 0,
            cut_of: BTreeMap::new(),
            making: Making::Nothing,
            copied: None,
            reading: None,
        };
        let pending = opened.pending;
        if let Some(pending) = pending.filter(|_| self.broken != Broken::SnapshotOvertaken) {
            // Its cut is made, in the past: it is the first of this opening.
            let name = Name::Checkpoint(epoch, writer.number());
            let checkpoint = Arc::new(Checkpoint { name, ..pending });
            writer.cuts += 1;
            writer.making = Making::Storing(Arc::clone(&checkpoint), writer.cuts);
            state.send(epoch, RequestBody::PutCheckpoint(checkpoint));
        }
        writer.stamp_the_dead(&state.store, self.broken);
        if self.broken == Broken::UnstampedAtOpen {
            writer.unstamp_new(&BTreeSet::new());
        }
        state.hosts[host] = Some(Arc::new(writer));
    }

    fn append(&self, state: &mut State, host: usize, content: Content) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let entry = writer.append(content);
        if writer.epoch == state.used.openings {
            state.store.stream.push(entry);
            state.store.objects.insert(entry.name);
        }
        writer.stamp_the_dead(&state.store, self.broken);
        Some(())
    }

    pub(crate) fn cut(&self, state: &mut State, host: usize, snapshot: Option<u8>) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let checkpoint = writer.cut(snapshot, self.broken);
        writer.stamp_the_dead(&state.store, self.broken);
        let epoch = writer.epoch;
        state.used.checkpoints += 1;
        state.send(epoch, RequestBody::PutCheckpoint(checkpoint));
        Some(())
    }

    fn delete_snapshot(state: &mut State, host: usize, snapshot: u8) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let draft = writer.advance(|next| {
            next.snapshots.remove(&snapshot);
        });
        let epoch = writer.epoch;
        state.send(epoch, RequestBody::PutSuperblock(draft));
        Some(())
    }

    fn collect(&self, state: &mut State, host: usize) -> Option<()> {
        let writer = writer_of(&mut state.hosts, host)?;
        let (epoch, number) = (writer.epoch, writer.number());
        let name = Name::Gc(epoch, number);
        let (victims, map) = (writer.victims(self.broken), writer.map);
        writer.copied = Some(Copied { name, victims, map });
        state.used.copies += 1;
        state.send(epoch, RequestBody::PutGc(name));
        Some(())
    }

    /// Removes what it may, behind a fence check. This is the one place where objects are removed.
    pub(crate) fn remove(&self, state: &mut State, host: usize) -> Option<()> {
        let is_unchecked = [Broken::RemovesUnchecked, Broken::CleansNewer].contains(&self.broken);
        let newest = Arc::clone(&state.store.newest);
        let writer = writer_of(&mut state.hosts, host)?;
        if newest.by != writer.epoch && !is_unchecked {
            state.hosts[host] = None;
            return Some(());
        }
        if newest.by == writer.epoch && newest.number > writer.own.number {
            self.adopt(state, host, &newest);
        }
        let writer = writer_of(&mut state.hosts, host)?;
        let doomed = writer.removable(&state.store, self.broken);
        if self.broken == Broken::ForgottenWhenSent {
            writer.table.retain(|name, _| !doomed.contains(name));
        }
        let epoch = writer.epoch;
        for name in doomed {
            state.send(epoch, RequestBody::Delete(name));
        }
        Some(())
    }

    fn adopt(&self, state: &mut State, host: usize, found: &Arc<Superblock>) {
        let Some(writer) = writer_of(&mut state.hosts, host) else {
            return;
        };
        let (epoch, before) = (writer.epoch, writer.dead());
        let drops = writer.own.snapshots.len() > found.snapshots.len();
        writer.adopt(found, &state.store, self.broken);
        if drops && self.broken == Broken::UnstampedBehindSnapshot {
            writer.unstamp_new(&before);
        }
        if let Some(draft) = writer.name_stored(self.broken) {
            state.send(epoch, RequestBody::PutSuperblock(draft));
        }
    }

    pub(crate) fn arrive(&self, state: &mut State, request: &Request, answer_is_lost: bool) {
        match answer_is_lost {
            true => state.used.faults += 1,
            false => drop(state.network.remove(request)),
        }
        let before = Arc::clone(&state.store.newest);
        let store = &mut state.store;
        let is_ours = match &request.body {
            RequestBody::PutGc(name) => {
                store.objects.insert(*name);
                true
            }
            RequestBody::PutCheckpoint(checkpoint) => {
                let known = Arc::clone(checkpoint);
                store.checkpoints.insert(checkpoint.name, known);
                true
            }
            RequestBody::PutSuperblock(superblock) => store.create_superblock(superblock),
            RequestBody::Delete(name) => {
                store.remove(*name);
                true
            }
        };
        let was = before.snapshots.keys();
        let gone = was.filter(|name| !state.store.newest.snapshots.contains_key(name));
        state.deleted.extend(gone);
        if !answer_is_lost {
            self.answered(state, request, is_ours);
        }
    }

    fn answered(&self, state: &mut State, request: &Request, is_ours: bool) {
        let mut hosts = state.hosts.iter();
        let is_sender = |host: &Option<Arc<Writer>>| {
            let writer = host.as_ref();
            writer.is_some_and(|writer| writer.epoch == request.from)
        };
        let Some(host) = hosts.position(is_sender) else {
            return;
        };
        let Some(writer) = writer_of(&mut state.hosts, host) else {
            return;
        };
        match &request.body {
            RequestBody::PutSuperblock(superblock) => {
                if !is_ours {
                    state.hosts[host] = None;
                } else if writer.outstanding.as_ref() == Some(superblock) {
                    self.adopt(state, host, superblock);
                }
            }
            RequestBody::PutCheckpoint(stored) => {
                if let Making::Storing(checkpoint, cut) = &writer.making
                    && checkpoint == stored
                {
                    writer.making = Making::Stored(Arc::clone(stored), *cut);
                    if let Some(draft) = writer.name_stored(self.broken) {
                        state.send(request.from, RequestBody::PutSuperblock(draft));
                    }
                }
            }
            RequestBody::PutGc(_) => {
                let before = writer.dead();
                writer.remap(self.broken);
                writer.stamp_the_dead(&state.store, self.broken);
                if self.broken == Broken::UnstampedVictim {
                    writer.unstamp_new(&before);
                }
            }
            RequestBody::Delete(name) => drop(writer.table.remove(name)),
        }
    }

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

fn writer_of(hosts: &mut [Option<Arc<Writer>>], host: usize) -> Option<&mut Writer> {
    hosts[host].as_mut().map(Arc::make_mut)
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
