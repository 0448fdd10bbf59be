//! The store: what objects say, as far as the protocol reads it, and the one condition that a store
//! keeps, that a name is created at most once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One opening of the volume for writing, counted over all hosts. It stands for the random write ids
/// of what that opening makes.
pub type OpeningId = u8;

/// Name of a data object: its epoch and its number in it.
pub type DataName = (u8, u8);

/// A batch of writes: the unit that is stored, logged and lost. What is in it is who made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Batch {
    /// The epoch it was written in.
    pub epoch: u8,
    /// Its number in the epoch, dense from 0.
    pub sequence: u8,
    /// The opening that wrote it.
    pub by: OpeningId,
}

impl Batch {
    /// The name of its object.
    #[must_use]
    pub const fn name(self) -> DataName {
        (self.epoch, self.sequence)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

/// Batches in the order in which they were written: a state of the disk.
pub type Line = Vec<Batch>;

/// A data object, or the same batch in a write log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DataObject {
    /// What is in it.
    pub batch: Batch,
    /// The batch before it.
    pub predecessor: Option<Batch>,
}

/// Name of a checkpoint object: the epoch of the writer that made it, and its number.
pub type CheckpointName = (u8, u8);

/// A checkpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CheckpointObject {
    /// Its name.
    pub name: CheckpointName,
    /// The state that it holds.
    pub line: Line,
    /// An older checkpoint, pieces of which are of this one, too.
    pub base: Option<CheckpointName>,
}

/// A checkpoint as a superblock names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeptCheckpoint {
    /// The object.
    pub name: CheckpointName,
    /// The last batch in it.
    pub cut: Batch,
}

/// What a superblock was made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Change {
    /// The volume is there, and empty.
    Create,
    /// An opening takes the next epoch.
    Claim,
    /// It says where the epochs before end.
    FixEnds,
    /// It names a checkpoint.
    Checkpoint,
    /// All is persisted, and nobody needs the write log.
    Close,
    /// The volume is removed.
    Tombstone,
}

/// An epoch of the stream, and how many objects of it count; nothing while it is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: u8,
    /// Its fixed end.
    pub objects: Option<u8>,
}

/// A superblock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Superblock {
    /// Its number, which is its name.
    pub number: u8,
    /// The opening that made it, for its write id: none makes two with one number.
    pub by: OpeningId,
    /// Who made the one before.
    pub predecessor: Option<OpeningId>,
    /// What it is for.
    pub change: Change,
    /// The volume: the number of the superblock that made it.
    pub volume: u8,
    /// The first epoch of the volume.
    pub first_epoch: u8,
    /// The epochs of the stream, that of the newest writer last.
    pub epochs: Vec<EpochEnd>,
    /// The checkpoints from which the volume is opened, the newest last.
    pub checkpoints: Vec<KeptCheckpoint>,
    /// The write log of the newest writer: who made it.
    pub log: Option<OpeningId>,
    /// What is known to be persisted.
    pub persisted: Option<Batch>,
}

impl Superblock {
    /// The first of a volume.
    #[must_use]
    pub fn create() -> Self {
        Self {
            number: 0,
            by: OpeningId::MAX,
            predecessor: None,
            change: Change::Create,
            volume: 0,
            first_epoch: 0,
            epochs: Vec::new(),
            checkpoints: Vec::new(),
            log: None,
            persisted: None,
        }
    }

    /// Whether nobody needs the log that it names.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.change == Change::Close || self.log.is_none()
    }

    /// The epoch that the next opening claims.
    #[must_use]
    pub fn next_epoch(&self) -> u8 {
        self.epochs
            .last()
            .map_or(self.first_epoch, |last| last.epoch + 1)
    }

    /// One that follows this one, made by `by`.
    #[must_use]
    pub fn next(&self, by: OpeningId, change: Change) -> Self {
        Self {
            number: self.number + 1,
            by,
            predecessor: Some(self.by),
            change,
            ..self.clone()
        }
    }
}

/// An object on its way to the store, or in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A batch.
    Data(DataObject),
    /// A checkpoint.
    Checkpoint(Arc<CheckpointObject>),
    /// A superblock.
    Superblock(Arc<Superblock>),
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(object) => write!(f, "data {:?}", object.batch),
            Self::Checkpoint(object) => {
                let ((epoch, number), line) = (object.name, &object.line);
                write!(f, "ckpt {epoch}.{number} of {line:?}")
            }
            Self::Superblock(superblock) => {
                let Superblock {
                    number,
                    by,
                    change,
                    epochs,
                    ..
                } = &**superblock;
                let ends: Vec<_> = epochs.iter().map(|end| (end.epoch, end.objects)).collect();
                write!(
                    f,
                    "superblock {number} {change:?} by opening {by}, ends {ends:?}"
                )
            }
        }
    }
}

/// A name that can be removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Removable {
    /// A data object.
    Data(DataName),
    /// A checkpoint.
    Checkpoint(CheckpointName),
    /// A superblock. The protocol removes none.
    Superblock(u8),
}

/// The objects that are there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// The data objects.
    pub data: BTreeMap<DataName, DataObject>,
    /// The checkpoints.
    pub checkpoints: BTreeMap<CheckpointName, Arc<CheckpointObject>>,
    /// The superblocks.
    pub superblocks: BTreeMap<u8, Arc<Superblock>>,
}

/// A superblock does not follow the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenChain;

impl Store {
    /// A store with a new volume.
    #[must_use]
    pub fn with_volume() -> Self {
        Self {
            data: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            superblocks: BTreeMap::from([(0, Arc::new(Superblock::create()))]),
        }
    }

    /// Creates the object if its name is free, and says whether it is the one that has the name now.
    /// With `overwrites` the store ignores the condition.
    pub fn create(&mut self, object: &Object, overwrites: bool) -> bool {
        match object {
            Object::Data(object) => put(&mut self.data, object.batch.name(), object, overwrites),
            Object::Checkpoint(object) => {
                put(&mut self.checkpoints, object.name, object, overwrites)
            }
            Object::Superblock(object) => {
                put(&mut self.superblocks, object.number, object, overwrites)
            }
        }
    }

    /// Removes an object, if it is there.
    pub fn remove(&mut self, name: Removable) {
        match name {
            Removable::Data(name) => drop(self.data.remove(&name)),
            Removable::Checkpoint(name) => drop(self.checkpoints.remove(&name)),
            Removable::Superblock(number) => drop(self.superblocks.remove(&number)),
        }
    }

    /// The newest superblock as an opener finds it: from the highest that is listed on, by exact
    /// numbers to the first that is not there. With `list_is_old` the list is one from the beginning.
    ///
    /// # Errors
    /// [`BrokenChain`]
    pub fn find_newest(&self, list_is_old: bool) -> Result<&Arc<Superblock>, BrokenChain> {
        let mut numbers = self.superblocks.values();
        let listed = if list_is_old {
            numbers.next()
        } else {
            numbers.next_back()
        };
        let mut newest = listed.ok_or(BrokenChain)?;
        while let Some(next) = self.superblocks.get(&(newest.number + 1)) {
            if next.predecessor != Some(newest.by) {
                return Err(BrokenChain);
            }
            newest = next;
        }
        Ok(newest)
    }
}

fn put<N: Ord, O: Clone + PartialEq>(
    objects: &mut BTreeMap<N, O>,
    name: N,
    object: &O,
    overwrites: bool,
) -> bool {
    if overwrites {
        objects.insert(name, object.clone());
        return true;
    }
    objects.entry(name).or_insert_with(|| object.clone()) == object
}
