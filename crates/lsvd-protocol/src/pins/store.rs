//! The store, as far as pins read it: some volumes, each with its superblocks and pins.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Where a volume is, or may be: its URL.
pub type Place = usize;

/// The base, its clone, and a clone of that.
pub const PLACES: usize = 3;

/// A process, and what tells its superblocks from others.
pub type Id = u8;

/// The clone that is there from the beginning, where there is one.
const CLONE: Id = Id::MAX - 1;

/// What a snapshot keeps: its volume's place, and a number that no other snapshot has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// Where the objects are.
    pub place: Place,
    /// The snapshot that keeps them there.
    pub snapshot: u8,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {} @ snapshot {}", self.place, self.snapshot)
    }
}

/// Objects of other volumes.
pub type Foreign = BTreeSet<Held>;

/// A pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pin {
    /// What it pins, and where it is.
    pub held: Held,
    /// The clone's uuid.
    pub uuid: Id,
    /// Where the clone is or will be.
    pub place: Place,
    /// The number of the clone's first superblock.
    pub number: usize,
}

/// A snapshot, as a superblock names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Snapshot {
    /// Its number.
    pub number: u8,
    /// It is being deleted.
    pub is_marked: bool,
    /// What it needs of other volumes.
    pub foreign: Foreign,
}

/// A superblock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Superblock {
    /// Its number.
    pub number: usize,
    /// Who made it.
    pub by: Id,
    /// The volume.
    pub uuid: Id,
    /// The volume is removed.
    pub is_tombstone: bool,
    /// What the two kept checkpoints need of other volumes, the newest last.
    pub kept: [Foreign; 2],
    /// Its snapshot.
    pub snapshot: Option<Snapshot>,
}

impl Superblock {
    /// The next one.
    #[must_use]
    pub fn next(&self, by: Id) -> Self {
        Self {
            number: self.number + 1,
            by,
            ..self.clone()
        }
    }

    /// A tombstone.
    #[must_use]
    pub fn tombstone(number: usize, by: Id) -> Self {
        Self {
            number,
            by,
            uuid: by,
            is_tombstone: true,
            kept: [Foreign::new(), Foreign::new()],
            snapshot: None,
        }
    }

    /// All that it needs of other volumes.
    pub fn foreign(&self) -> impl Iterator<Item = &Held> {
        let snapshot = self.snapshot.iter();
        let snapshot = snapshot.flat_map(|snapshot| &snapshot.foreign);
        self.kept.iter().flatten().chain(snapshot)
    }
}

impl fmt::Debug for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "superblock {} by {}", self.number, self.by)?;
        if self.is_tombstone {
            return write!(f, ", a tombstone");
        }
        if let Some(snapshot) = &self.snapshot {
            let mark = if snapshot.is_marked { ", marked" } else { "" };
            write!(f, ", snapshot {}{mark}", snapshot.number)?;
        }
        match self.foreign().next() {
            Some(_) => write!(f, ", needs {:?}", self.kept),
            None => Ok(()),
        }
    }
}

/// A place and what is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Volume {
    /// Who made each superblock.
    pub makers: Vec<Id>,
    /// The newest.
    pub newest: Option<Arc<Superblock>>,
    /// The pins.
    pub pins: BTreeSet<Pin>,
}

impl Volume {
    /// Creates a superblock if its number is free and the next one, and says whether it is there.
    pub fn create(&mut self, superblock: &Arc<Superblock>) -> bool {
        if self.makers.len() == superblock.number {
            self.makers.push(superblock.by);
            self.newest = Some(Arc::clone(superblock));
        }
        self.makers.get(superblock.number) == Some(&superblock.by)
    }

    /// The newest superblock, unless there is no volume.
    #[must_use]
    pub fn living(&self) -> Option<&Arc<Superblock>> {
        self.newest.as_ref().filter(|newest| !newest.is_tombstone)
    }
}

/// All volumes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// By place.
    pub volumes: Vec<Volume>,
    /// What snapshots kept and is removed.
    pub gone: BTreeSet<Held>,
}

impl Store {
    /// A base with a snapshot.
    #[must_use]
    pub fn new() -> Self {
        let base = Superblock {
            number: 0,
            by: 0,
            uuid: 0,
            is_tombstone: false,
            kept: [Foreign::new(), Foreign::new()],
            snapshot: Some(Snapshot {
                number: 0,
                is_marked: false,
                foreign: Foreign::new(),
            }),
        };
        let mut volumes = vec![Volume::default(); PLACES];
        volumes[0].create(&Arc::new(base));
        Self {
            volumes,
            gone: BTreeSet::new(),
        }
    }

    /// The same, and a clone of it that has a snapshot, too.
    #[must_use]
    pub fn with_clone() -> Self {
        let mut store = Self::new();
        let held = Held {
            place: 0,
            snapshot: 0,
        };
        let foreign = Foreign::from([held]);
        let (uuid, place, number) = (CLONE, 1, 0);
        let clone = Superblock {
            number,
            by: uuid,
            uuid,
            is_tombstone: false,
            kept: [foreign.clone(), foreign.clone()],
            snapshot: Some(Snapshot {
                number: 0,
                is_marked: false,
                foreign,
            }),
        };
        store.volumes[place].create(&Arc::new(clone));
        let pin = Pin {
            held,
            uuid,
            place,
            number,
        };
        store.volumes[0].pins.insert(pin);
        store
    }

    /// Whether a volume's newest superblock has a snapshot, and so keeps what that needs.
    #[must_use]
    pub fn is_kept(&self, held: Held) -> bool {
        let living = self.volumes[held.place].living();
        let snapshot = living.and_then(|living| living.snapshot.as_ref());
        snapshot.is_some_and(|snapshot| snapshot.number == held.snapshot)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
