//! The store, as far as deletion reads it: a stream of entries, objects that are there or gone,
//! checkpoints, and the newest superblock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::deletion::rules::Broken;

/// Addresses of the disk.
pub const ADDRESSES: usize = 2;

/// The batches that are there from the beginning: number and address.
const ADDRESSES_WRITTEN: [(u8, usize); ADDRESSES] = [(0, 0), (1, 1)];

/// Name of an object: the epoch of the opening that made it, and a number that it uses once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A batch of the stream.
    Data(u8, u8),
    /// Data that garbage collection moved.
    Gc(u8, u8),
    /// A checkpoint.
    Checkpoint(u8, u8),
}

impl Name {
    /// The epoch in which it was made.
    #[must_use]
    pub const fn epoch(self) -> u8 {
        match self {
            Self::Data(epoch, _) | Self::Gc(epoch, _) | Self::Checkpoint(epoch, _) => epoch,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(epoch, number) => write!(f, "data {epoch}.{number}"),
            Self::Gc(epoch, number) => write!(f, "gc {epoch}.{number}"),
            Self::Checkpoint(epoch, number) => write!(f, "ckpt {epoch}.{number}"),
        }
    }
}

/// Where the data of an address is, and what it is: the batch that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// The object that has it.
    pub at: Name,
    /// The batch that it was written with.
    pub value: Name,
}

/// The extent map.
pub type Map = [Location; ADDRESSES];

/// What is in a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Content {
    /// A write of one address.
    Write(usize),
    /// A snapshot, and nothing else.
    Snapshot(u8),
}

/// A batch of the stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Entry {
    /// Its object.
    pub name: Name,
    /// What is in it.
    pub content: Content,
}

impl Entry {
    /// Applies it to a map.
    pub fn apply(self, map: &mut Map) {
        let location = Location {
            at: self.name,
            value: self.name,
        };
        match self.content {
            Content::Write(address) => map[address] = location,
            Content::Snapshot(_) => {}
        }
    }
}

/// A checkpoint: map and object table at one point of the stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// Its name.
    pub name: Name,
    /// How many batches are in it.
    pub cut: usize,
    /// The map.
    pub map: Map,
    /// The objects that are there as far as its writer knew, dead ones included.
    pub table: BTreeSet<Name>,
    /// The snapshot that it is.
    pub snapshot: Option<u8>,
}

impl Checkpoint {
    /// Whether its map needs an object.
    #[must_use]
    pub fn needs(&self, name: Name) -> bool {
        self.map.iter().any(|location| location.at == name)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let map: Vec<_> = self.map.iter().map(|location| location.at).collect();
        write!(f, "{:?} of {} batches, {map:?}", self.name, self.cut)?;
        match self.snapshot {
            Some(snapshot) => write!(f, ", snapshot {snapshot}"),
            None => Ok(()),
        }
    }
}

/// A checkpoint as a superblock names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kept {
    /// The object.
    pub name: Name,
    /// Its cut.
    pub cut: usize,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)
    }
}

/// A superblock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Superblock {
    /// Its number.
    pub number: u8,
    /// The opening that made it.
    pub by: u8,
    /// The checkpoints from which the volume is opened, the newest last.
    pub kept: Vec<Kept>,
    /// The snapshots that are not pending.
    pub snapshots: BTreeMap<u8, Kept>,
}

impl fmt::Debug for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            by,
            kept,
            snapshots,
        } = self;
        write!(
            f,
            "superblock {number} of epoch {by}: {kept:?}, snapshots {snapshots:?}"
        )
    }
}

/// The objects that are there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// The newest superblock.
    pub newest: Arc<Superblock>,
    /// Who made each superblock.
    pub makers: Vec<u8>,
    /// The stream, whether its objects are there or not.
    pub stream: Vec<Entry>,
    /// Data and moved data that is there.
    pub objects: BTreeSet<Name>,
    /// The checkpoints that are there.
    pub checkpoints: BTreeMap<Name, Arc<Checkpoint>>,
    /// Those of them that are damaged.
    pub damaged: BTreeSet<Name>,
    /// The damaged ones that an opener came across.
    pub noticed: BTreeSet<Name>,
}

/// What an opener has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The map behind the end of the stream.
    pub map: Map,
    /// The objects that it knows.
    pub table: BTreeSet<Name>,
    /// The snapshot that has no checkpoint yet. The name is still to be given.
    pub pending: Option<Checkpoint>,
    /// The checkpoint that could not be read.
    pub fell_back_from: Option<Name>,
}

/// Why a volume does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A checkpoint is missing.
    CheckpointMissing,
    /// No checkpoint can be read.
    AllDamaged,
    /// An object of the stream is missing.
    Gap,
}

impl Store {
    /// A volume with a batch for each address and one checkpoint, opened by nobody.
    #[must_use]
    pub fn new() -> Self {
        let stream = ADDRESSES_WRITTEN.map(|(number, address)| Entry {
            name: Name::Data(0, number),
            content: Content::Write(address),
        });
        let map = stream.map(|entry| Location {
            at: entry.name,
            value: entry.name,
        });
        let objects = BTreeSet::from(stream.map(|entry| entry.name));
        let (name, cut) = (Name::Checkpoint(0, 0), stream.len());
        let checkpoint = Checkpoint {
            name,
            cut,
            map,
            table: objects.clone(),
            snapshot: None,
        };
        let newest = Superblock {
            number: 0,
            by: 0,
            kept: vec![Kept { name, cut }],
            snapshots: BTreeMap::new(),
        };
        Self {
            newest: Arc::new(newest),
            makers: vec![0],
            stream: stream.to_vec(),
            objects,
            checkpoints: BTreeMap::from([(name, Arc::new(checkpoint))]),
            damaged: BTreeSet::new(),
            noticed: BTreeSet::new(),
        }
    }

    /// Creates a superblock if its number is free, and says whether it is there.
    pub fn create_superblock(&mut self, superblock: &Arc<Superblock>) -> bool {
        let number = usize::from(superblock.number);
        if self.makers.len() == number {
            self.makers.push(superblock.by);
            self.newest = Arc::clone(superblock);
        }
        self.makers[number] == superblock.by
    }

    /// Removes an object.
    pub fn remove(&mut self, name: Name) {
        self.objects.remove(&name);
        self.checkpoints.remove(&name);
    }

    /// Opens the volume from the newest checkpoint, or from the older one where that is damaged or
    /// `is_misread`, and rolls forward.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn open(&self, is_misread: bool, broken: Broken) -> Result<Opened, Refused> {
        let kept = &self.newest.kept;
        let newest = kept.last().ok_or(Refused::CheckpointMissing)?;
        let fell_back = is_misread || self.damaged.contains(&newest.name);
        let older = kept.len().checked_sub(2).map(|older| kept[older]);
        let chosen = match fell_back {
            true => older.ok_or(Refused::AllDamaged)?,
            false => *newest,
        };
        if self.damaged.contains(&chosen.name) {
            return Err(Refused::AllDamaged);
        }
        let checkpoint = self.checkpoints.get(&chosen.name);
        let checkpoint = checkpoint.ok_or(Refused::CheckpointMissing)?;
        let mut opened = Opened {
            map: checkpoint.map,
            table: checkpoint.table.clone(),
            pending: None,
            fell_back_from: fell_back.then_some(newest.name),
        };
        // Up to the newest cut all snapshots that were ever named are settled: one that is not named
        // there was deleted.
        let settled = match broken {
            Broken::PendingByAbsence => chosen.cut,
            _ => newest.cut,
        };
        let searched = older.map_or(0, |older| older.cut);
        for (place, entry) in self.stream.iter().enumerate().skip(searched) {
            if !self.objects.contains(&entry.name) {
                return Err(Refused::Gap);
            }
            if place < chosen.cut {
                continue;
            }
            entry.apply(&mut opened.map);
            opened.table.insert(entry.name);
            if let Content::Snapshot(snapshot) = entry.content
                && place >= settled
                && !self.newest.snapshots.contains_key(&snapshot)
            {
                opened.pending = Some(Checkpoint {
                    name: Name::Checkpoint(0, 0),
                    cut: place + 1,
                    map: opened.map,
                    table: opened.table.clone(),
                    snapshot: Some(snapshot),
                });
            }
        }
        Ok(opened)
    }

    /// Whether all that a map needs is there.
    #[must_use]
    pub fn has_all_of(&self, map: &Map) -> bool {
        let mut locations = map.iter();
        locations.all(|location| self.objects.contains(&location.at))
    }

    /// Whether a map shows what the first `count` batches left.
    #[must_use]
    pub fn is_state_behind(&self, map: &Map, count: usize) -> bool {
        let unwritten = Location {
            at: self.stream[0].name,
            value: self.stream[0].name,
        };
        let mut right = [unwritten; ADDRESSES];
        for entry in &self.stream[..count] {
            entry.apply(&mut right);
        }
        let pairs = map.iter().zip(&right);
        pairs.into_iter().all(|(is, right)| is.value == right.value)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
