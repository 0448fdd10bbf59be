//! The objects of the store, what it says of them, and how it breaks its contract where it does.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lsvd::doors::store::{ListedObject, StoreErrorKind};

use crate::executor::Group;
use crate::random::Random;

/// How a store breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// It ignores the condition of a creation: whoever comes later overwrites.
    Overwrites,
    /// It loses some of the objects whose creation it answered, after a while.
    Forgets,
    /// For a while it denies that it has an object whose creation it answered.
    Hides,
}

/// What kind of store it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// How it breaks the contract, if it does.
    pub breach: Option<Breach>,
    /// Longest time for which a list misses an object that was created, or has one that was deleted.
    pub list_lag: Duration,
}

/// Of a hundred objects, those that a store loses which forgets.
const FORGOTTEN: u64 = 3;

/// Longest time until it loses them.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Longest time for which a store hides what was created.
const HIDDEN: Duration = Duration::from_millis(500);

/// Counts what the store carried out, in order.
pub type Turn = u64;

/// An object, and how it came to be.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whose request created it.
    pub by: Group,
    /// When that was carried out.
    pub at: Turn,
    /// From when on lists have it.
    listed_from: Duration,
    /// From when on it can be read.
    read_from: Duration,
    /// When it is lost, if it will be.
    lost_at: Option<Duration>,
}

/// What the store has.
#[derive(Debug)]
pub(super) struct Contents {
    contract: Contract,
    random: Random,
    turn: Turn,
    objects: BTreeMap<String, Stored>,
    /// What is deleted and still listed, with the time up to which that is so.
    still_listed: Vec<(ListedObject, Duration)>,
    /// When the last list for each client was carried out.
    lists: BTreeMap<Group, Turn>,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) by: Group,
    pub(super) now: Duration,
}

impl Contents {
    pub(super) fn new(contract: Contract, seed: u64) -> Self {
        Self {
            contract,
            random: Random::new(seed),
            turn: 0,
            objects: BTreeMap::new(),
            still_listed: Vec::new(),
            lists: BTreeMap::new(),
        }
    }

    pub(super) const fn objects(&self) -> &BTreeMap<String, Stored> {
        &self.objects
    }

    pub(super) fn last_list(&self, by: Group) -> Option<Turn> {
        self.lists.get(&by).copied()
    }

    pub(super) const fn turn(&self) -> Turn {
        self.turn
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(longest.saturating_add(1)))
    }

    fn lag(&mut self, now: Duration) -> Duration {
        match self.contract.list_lag {
            Duration::ZERO => Duration::ZERO,
            longest => now + self.up_to(longest),
        }
    }

    /// Loses what is to be lost by now.
    fn forget(&mut self, now: Duration) {
        if self.contract.breach == Some(Breach::Forgets) {
            let is_lost = |stored: &Stored| stored.lost_at.is_some_and(|at| at <= now);
            self.objects.retain(|_, stored| !is_lost(stored));
        }
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        bytes: &Bytes,
        asked: Asked,
    ) -> Result<(), StoreErrorKind> {
        self.turn += 1;
        self.forget(asked.now);
        let breach = self.contract.breach;
        if breach != Some(Breach::Overwrites) && self.objects.contains_key(name) {
            return Err(StoreErrorKind::AlreadyExists);
        }
        let read_from = match breach {
            Some(Breach::Hides) => asked.now + self.up_to(HIDDEN),
            _ => Duration::ZERO,
        };
        let is_lost = breach == Some(Breach::Forgets) && self.random.chance(FORGOTTEN);
        let stored = Stored {
            bytes: bytes.clone(),
            by: asked.by,
            at: self.turn,
            listed_from: self.lag(asked.now).max(read_from),
            read_from,
            lost_at: is_lost.then(|| asked.now + self.up_to(REMEMBERED)),
        };
        self.objects.insert(name.to_owned(), stored);
        Ok(())
    }

    pub(super) fn read(&mut self, name: &str, asked: Asked) -> Result<Bytes, StoreErrorKind> {
        self.forget(asked.now);
        let found = self.objects.get(name);
        let found = found.filter(|stored| stored.read_from <= asked.now);
        found
            .map(|stored| stored.bytes.clone())
            .ok_or(StoreErrorKind::NotFound)
    }

    pub(super) fn list(&mut self, asked: Asked) -> Vec<ListedObject> {
        self.turn += 1;
        self.forget(asked.now);
        self.lists.insert(asked.by, self.turn);
        self.still_listed.retain(|(_, until)| *until > asked.now);
        let listed = self.objects.iter();
        let listed = listed.filter(|(_, stored)| stored.listed_from <= asked.now);
        let there = listed.map(|(name, stored)| listed_object(name, stored));
        let gone = self.still_listed.iter().map(|(object, _)| object.clone());
        there.chain(gone).collect()
    }

    pub(super) fn delete(&mut self, name: &str, asked: Asked) -> Result<(), StoreErrorKind> {
        self.turn += 1;
        self.forget(asked.now);
        let removed = self.objects.remove(name);
        let removed = removed.ok_or(StoreErrorKind::NotFound)?;
        let until = self.lag(asked.now);
        if removed.listed_from <= asked.now && until > asked.now {
            let object = listed_object(name, &removed);
            self.still_listed.push((object, until));
        }
        Ok(())
    }
}

fn listed_object(name: &str, stored: &Stored) -> ListedObject {
    ListedObject {
        name: name.to_owned(),
        bytes: stored.bytes.len() as u64,
    }
}

#[cfg(test)]
mod tests;
