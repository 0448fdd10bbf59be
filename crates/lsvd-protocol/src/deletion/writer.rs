//! A writer at work, as far as deletion reads it: what it knows, what it stamps, what it may remove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::deletion::rules::Broken;
use crate::deletion::store::{Checkpoint, Content, Entry, Kept, Map, Name, Store, Superblock};

/// A count of cuts, made by one opening. What it found when it opened the volume was cut before its
/// first.
pub type Cut = usize;

/// Checkpoints that are kept.
const CHECKPOINTS_KEPT: usize = 2;

/// How far a checkpoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Making {
    /// There is none under way.
    Nothing,
    /// Its object is on its way.
    Storing(Arc<Checkpoint>, Cut),
    /// It is stored, and waits for its superblock.
    Stored(Arc<Checkpoint>, Cut),
}

/// Data that is moved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Copied {
    /// The new object.
    pub name: Name,
    /// The objects that it was copied from.
    pub victims: BTreeSet<Name>,
    /// The map at that time.
    pub map: Map,
}

/// A writer's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Writer {
    /// Its epoch.
    pub epoch: u8,
    /// The newest superblock that it knows to be its own.
    pub own: Arc<Superblock>,
    /// A superblock of which it does not know what became of it.
    pub outstanding: Option<Arc<Superblock>>,
    /// The checkpoint that it could not read.
    pub fell_back_from: Option<Name>,
    /// The stream as it knows it.
    pub line: Vec<Entry>,
    /// The number of the next object.
    pub next: u8,
    /// The map.
    pub map: Map,
    /// The objects that are there, and the stamp of those that are dead.
    pub table: BTreeMap<Name, Option<usize>>,
    /// Cuts that it made.
    pub cuts: Cut,
    /// Where its own checkpoints were cut.
    pub cut_of: BTreeMap<Name, Cut>,
    /// The checkpoint under way.
    pub making: Making,
    /// Data that is moved.
    pub copied: Option<Copied>,
    /// An object that a client reads from.
    pub reading: Option<Name>,
}

impl Writer {
    /// The number of a new object.
    pub fn number(&mut self) -> u8 {
        self.next += 1;
        self.next - 1
    }

    /// The checkpoint under way.
    #[must_use]
    pub fn running(&self) -> Option<&Arc<Checkpoint>> {
        match &self.making {
            Making::Nothing => None,
            Making::Storing(checkpoint, _) | Making::Stored(checkpoint, _) => Some(checkpoint),
        }
    }

    /// The next superblock. It waits until it is known what became of it.
    pub fn advance(&mut self, alter: impl FnOnce(&mut Superblock)) -> Arc<Superblock> {
        let mut next = Superblock {
            number: self.own.number + 1,
            by: self.epoch,
            ..(*self.own).clone()
        };
        alter(&mut next);
        let next = Arc::new(next);
        self.outstanding = Some(Arc::clone(&next));
        next
    }

    /// The superblock that names the checkpoint that is stored, as soon as there is none outstanding.
    pub fn name_stored(&mut self, broken: Broken) -> Option<Arc<Superblock>> {
        let Making::Stored(checkpoint, _) = &self.making else {
            return None;
        };
        if self.outstanding.is_some() {
            return None;
        }
        let checkpoint = Arc::clone(checkpoint);
        let damaged = match broken {
            Broken::DamagedCounts => None,
            _ => self.fell_back_from,
        };
        Some(self.advance(|next| {
            let kept = kept(&checkpoint);
            next.kept.retain(|kept| Some(kept.name) != damaged);
            next.kept.push(kept);
            let surplus = next.kept.len().saturating_sub(CHECKPOINTS_KEPT);
            next.kept.drain(..surplus);
            next.snapshots
                .extend(checkpoint.snapshot.map(|snapshot| (snapshot, kept)));
        }))
    }

    /// A superblock of this writer is known to be there.
    pub fn adopt(&mut self, found: &Arc<Superblock>, store: &Store, broken: Broken) {
        self.outstanding = None;
        self.own = Arc::clone(found);
        if let Making::Stored(checkpoint, cut) = &self.making
            && found.kept.last() == Some(&kept(checkpoint))
        {
            self.cut_of.insert(checkpoint.name, *cut);
            self.making = Making::Nothing;
        }
        let kept: Vec<_> = found.kept.iter().map(|kept| kept.name).collect();
        self.cut_of.retain(|name, _| kept.contains(name));
        self.stamp_the_dead(store, broken);
    }

    /// What the map, a snapshot or a pending one needs.
    fn live(&self, store: &Store, broken: Broken) -> BTreeSet<Name> {
        let mut live: BTreeSet<_> = self.map.iter().map(|location| location.at).collect();
        let mut need = |map: &Map| live.extend(map.iter().map(|location| location.at));
        if broken != Broken::SnapshotDoesNotHold {
            let snapshots = self.own.snapshots.values();
            let snapshots = snapshots.filter_map(|kept| store.checkpoints.get(&kept.name));
            snapshots.for_each(|checkpoint| need(&checkpoint.map));
        }
        if broken != Broken::PendingDoesNotHold {
            let pending = self.running();
            let pending = pending.filter(|running| running.snapshot.is_some());
            pending.into_iter().for_each(|pending| need(&pending.map));
        }
        live
    }

    /// Gives a stamp to what is dead and has none: the next cut.
    pub fn stamp_the_dead(&mut self, store: &Store, broken: Broken) {
        let live = self.live(store, broken);
        let next = match broken {
            Broken::StampIsPlace => self.line.len(),
            Broken::StampOfRunningCut if self.running().is_some() => self.cuts,
            _ => self.cuts + 1,
        };
        for (name, stamp) in &mut self.table {
            match live.contains(name) {
                true => *stamp = None,
                false => *stamp = stamp.or(Some(next)),
            }
        }
    }

    /// Takes the stamps away from what is dead and was not dead `before`; only where a rule is broken.
    pub fn unstamp_new(&mut self, before: &BTreeSet<Name>) {
        for (name, stamp) in &mut self.table {
            if stamp.is_some() && !before.contains(name) {
                *stamp = Some(0);
            }
        }
    }

    /// What has a stamp.
    #[must_use]
    pub fn dead(&self) -> BTreeSet<Name> {
        let dead = self.table.iter().filter(|(_, stamp)| stamp.is_some());
        dead.map(|(name, _)| *name).collect()
    }

    /// What it may remove.
    #[must_use]
    pub fn removable(&self, store: &Store, broken: Broken) -> BTreeSet<Name> {
        let has_own = self.own.kept.iter().any(|kept| self.is_own(kept));
        let cleans = match broken {
            Broken::CleansAtOnce => self.fell_back_from.is_none(),
            Broken::CleansAtOnceAfterFallback => true,
            Broken::RemovesAfterFallback => has_own,
            _ => has_own && self.fell_back_from.is_none(),
        };
        let removes = match broken {
            Broken::RemovesAfterFallback => true,
            _ => self.fell_back_from.is_none(),
        };
        let dead = self.table.iter().filter_map(|(name, stamp)| {
            let stamp = (*stamp)?;
            self.may_go(*name, stamp, broken).then_some(*name)
        });
        let mut removable: BTreeSet<_> = dead.filter(|_| removes).collect();
        if cleans {
            removable.extend(self.strays(store, broken));
        }
        removable
    }

    fn is_own(&self, kept: &Kept) -> bool {
        self.cut_of.contains_key(&kept.name)
    }

    /// Whether a dead object may go.
    fn may_go(&self, name: Name, stamp: usize, broken: Broken) -> bool {
        let mut kept = self.own.kept.clone();
        let mut cut_of = self.cut_of.clone();
        if broken == Broken::CountsUnnamed
            && let Making::Stored(checkpoint, cut) = &self.making
        {
            kept.push(self::kept(checkpoint));
            cut_of.insert(checkpoint.name, *cut);
            kept.drain(..kept.len().saturating_sub(CHECKPOINTS_KEPT));
        }
        let is_behind = |kept: &Kept| {
            let cut = match broken {
                Broken::StampIsPlace => kept.cut,
                _ => cut_of.get(&kept.name).copied().unwrap_or_default(),
            };
            cut >= stamp
        };
        let [older, newest] = kept[..] else {
            return false;
        };
        let is_old = is_behind(&newest) && (is_behind(&older) || broken == Broken::NewestAlone);
        let mut line = self.line.iter();
        let place = line.position(|entry| entry.name == name);
        let is_before_cut = place.is_none_or(|place| place < older.cut);
        let running = self.running();
        let is_running = running.is_some_and(|running| running.needs(name));
        is_old
            && (is_before_cut || broken == Broken::BehindOlderCut)
            && (!is_running || broken == Broken::RunningDoesNotHold)
            && (self.reading != Some(name) || broken == Broken::ReaderDoesNotHold)
    }

    /// Checkpoints that nobody needs, and moved data of earlier epochs that nobody names.
    fn strays(&self, store: &Store, broken: Broken) -> Vec<Name> {
        let snapshots = self.own.snapshots.values();
        let snapshots = snapshots.filter(|_| broken != Broken::CleansByMapAlone);
        let named: Vec<_> = self.own.kept.iter().chain(snapshots).collect();
        let mut strays = Vec::new();
        for name in store.checkpoints.keys() {
            let is_needed = named.iter().any(|kept| kept.name == *name);
            let is_running = self.running().is_some_and(|running| running.name == *name);
            if !is_needed && !is_running && name.epoch() <= self.epoch {
                strays.push(*name);
            }
        }
        let is_readable = |kept: &&&Kept| Some(kept.name) != self.fell_back_from;
        let named = named.iter().filter(is_readable);
        let named = named.filter_map(|kept| store.checkpoints.get(&kept.name));
        let named: Vec<_> = named.collect();
        for name in &store.objects {
            let is_later = name.epoch() >= self.epoch && broken != Broken::CleansNewer;
            if is_later || !matches!(name, Name::Gc(..)) || self.copies_to(*name) {
                continue;
            }
            let is_known = match broken {
                Broken::CleansByMapAlone => self.map.iter().any(|location| location.at == *name),
                _ => {
                    let mut named = named.iter();
                    let running = self.running();
                    self.table.contains_key(name)
                        || named.any(|checkpoint| checkpoint.needs(*name))
                        || running.is_some_and(|running| running.needs(*name))
                }
            };
            if !is_known {
                strays.push(*name);
            }
        }
        strays
    }

    fn copies_to(&self, name: Name) -> bool {
        let copied = self.copied.as_ref();
        copied.is_some_and(|copied| copied.name == name)
    }

    /// What is live and in a checkpoint: garbage may be collected in it.
    #[must_use]
    pub fn victims(&self, broken: Broken) -> BTreeSet<Name> {
        let cut = self.own.kept.last().map_or(0, |newest| newest.cut);
        let is_in_checkpoint = |name: &Name| {
            let mut line = self.line.iter();
            let place = line.position(|entry| entry.name == *name);
            place.is_none_or(|place| place < cut) || broken == Broken::CollectsNewest
        };
        let live = self.map.iter().map(|location| location.at);
        live.filter(is_in_checkpoint).collect()
    }

    /// A batch of clients, or a snapshot.
    pub fn append(&mut self, content: Content) -> Entry {
        let name = Name::Data(self.epoch, self.number());
        let entry = Entry { name, content };
        self.line.push(entry);
        self.table.insert(name, None);
        entry.apply(&mut self.map);
        entry
    }

    /// Cuts a checkpoint.
    pub fn cut(&mut self, snapshot: Option<u8>, broken: Broken) -> Arc<Checkpoint> {
        let live = |name: &Name| self.map.iter().any(|location| location.at == *name);
        let listed = self.table.keys().copied();
        let listed = listed.filter(|name| broken != Broken::DeadUnlisted || live(name));
        let table = listed.collect();
        let (epoch, number) = (self.epoch, self.number());
        let checkpoint = Arc::new(Checkpoint {
            name: Name::Checkpoint(epoch, number),
            cut: self.line.len(),
            map: self.map,
            table,
            snapshot,
        });
        self.cuts += 1;
        self.making = Making::Storing(Arc::clone(&checkpoint), self.cuts);
        checkpoint
    }

    /// Moved data is stored: what still points at its source points at it from now on.
    pub fn remap(&mut self, broken: Broken) {
        let Some(copied) = self.copied.take() else {
            return;
        };
        self.table.insert(copied.name, None);
        for (location, was) in self.map.iter_mut().zip(copied.map) {
            let is_same = *location == was || broken == Broken::RemapsNewer;
            if copied.victims.contains(&was.at) && is_same {
                location.at = copied.name;
                location.value = was.value;
            }
        }
    }
}

fn kept(checkpoint: &Checkpoint) -> Kept {
    Kept {
        name: checkpoint.name,
        cut: checkpoint.cut,
    }
}
