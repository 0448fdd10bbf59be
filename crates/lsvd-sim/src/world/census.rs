//! What is in the store, object by object, and what explains that it is there: the newest superblock,
//! and what that and its checkpoints name.

use std::collections::{BTreeMap, BTreeSet};

use lsvd::bytes::checkpoint::Checkpoint;
use lsvd::bytes::superblock::{CloseState, Superblock};
use lsvd::words::name::{Epoch, ObjectId, ObjectKind, ObjectName};

use crate::cloud::Stored;
use crate::executor::Group;

/// The objects of a store, and what its newest superblock needs of them.
#[derive(Debug)]
pub(super) struct Census {
    objects: BTreeMap<String, Stored>,
    /// Processes whose openings ended or failed.
    failed: BTreeSet<Group>,
    newest: Superblock,
    /// Checkpoints that the newest superblock names, and what those name.
    needed: BTreeSet<ObjectId>,
}

impl Census {
    /// Looks at all that is there. The openings of the processes `failed` ended or failed.
    ///
    /// # Errors
    /// Where a superblock is missing, or does not check, or a checkpoint that is named.
    pub(super) fn take(
        objects: BTreeMap<String, Stored>,
        failed: BTreeSet<Group>,
    ) -> Result<Self, String> {
        let numbers = objects.keys().filter_map(|name| ObjectName::parse(name));
        let numbers = numbers.filter(|name| name.kind == ObjectKind::Superblock);
        let numbers: BTreeSet<u64> = numbers.map(|name| name.id.as_u64()).collect();
        let newest = numbers.last().copied().ok_or("there is no superblock")?;
        if let Some(missing) = (0..newest).find(|number| !numbers.contains(number)) {
            let name = Superblock::name_of(missing);
            return Err(format!("{name} is missing, which is never removed"));
        }
        let bytes = |name: ObjectName| {
            let stored = objects.get(&name.to_string());
            let stored = stored.ok_or_else(|| format!("{name} is missing, which is needed"))?;
            Ok::<_, String>(&stored.bytes)
        };
        let wrong = |name: ObjectName| move |error| format!("{name} does not check: {error}");
        let name = Superblock::name_of(newest);
        let newest = Superblock::decode(bytes(name)?, newest).map_err(wrong(name))?;
        let mut needed = BTreeSet::new();
        for kept in &newest.state.checkpoints {
            let name = Checkpoint::name_of(kept.object);
            let root = Checkpoint::decode(bytes(name)?, newest.volume, kept.object);
            let root = root.map_err(wrong(name))?;
            needed.insert(root.id);
            needed.extend(root.references());
        }
        Ok(Self {
            objects,
            failed,
            newest,
            needed,
        })
    }

    /// The objects that nothing explains, and how they came to be.
    pub(super) fn unexplained(&self) -> impl Iterator<Item = (&str, &Stored)> {
        let objects = self.objects.iter();
        let objects = objects.filter(|(name, stored)| !self.is_explained(name, stored.by));
        objects.map(|(name, stored)| (name.as_str(), stored))
    }

    /// Those of them that are data objects.
    pub(super) fn strays(&self) -> usize {
        let names = self
            .unexplained()
            .filter_map(|(name, _)| ObjectName::parse(name));
        names.filter(|name| name.kind == ObjectKind::Data).count()
    }

    fn is_explained(&self, name: &str, by: Group) -> bool {
        let Some(name) = ObjectName::parse(name) else {
            // What tries the store is removed again by who made it, or with the volume.
            return name.starts_with("probe.") && self.failed.contains(&by);
        };
        match name.kind {
            ObjectKind::Superblock => true,
            ObjectKind::Checkpoint => self.needed.contains(&name.id),
            ObjectKind::Data => self.is_of_stream(name.id),
        }
    }

    fn is_of_stream(&self, id: ObjectId) -> bool {
        let state = &self.newest.state;
        let mut epochs = state.epochs.iter();
        let epoch = epochs.find(|epoch| epoch.epoch == id.epoch().0);
        let closed = state.writer.as_ref().and_then(|writer| writer.close);
        match epoch {
            Some(epoch) => match epoch.objects {
                Some(objects) => id.sequence() < objects,
                None if closed == Some(CloseState::Clean) => Some(id) <= self.newest.persisted,
                // Its writer may be at work.
                None => true,
            },
            None => false,
        }
    }

    /// An object that every opening needs from now on, and that is not there.
    pub(super) fn missing(&self) -> Option<ObjectName> {
        let state = &self.newest.state;
        let cut = state.checkpoints.last().map(|newest| newest.cut);
        let persisted = self.newest.persisted.max(cut);
        let of_stream = state.epochs.iter().flat_map(|epoch| {
            let ids = (0..epoch.objects.unwrap_or(u64::MAX))
                .map_while(|sequence| ObjectId::new(Epoch(epoch.epoch), sequence));
            ids.take_while(|id| Some(*id) <= persisted)
        });
        let needed = self.needed.iter().copied().map(Checkpoint::name_of);
        let mut names = of_stream.map(ObjectName::data).chain(needed);
        names.find(|name| !self.objects.contains_key(&name.to_string()))
    }
}

#[cfg(test)]
mod tests;
