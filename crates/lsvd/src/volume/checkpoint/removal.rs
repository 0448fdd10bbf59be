//! Removing what no opening needs: older checkpoints, and what was stored for no stream.

use std::collections::BTreeSet;

use super::{Checkpointer, goes_on_fenced};
use crate::bytes::checkpoint::Checkpoint;
use crate::bytes::superblock::EpochEnd;
use crate::state::object_table::ObjectTable;
use crate::words::error::{ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::{ObjectId, ObjectKind, ObjectName};
use crate::words::planted::{self, Fault};

/// Whether a data object of an earlier epoch is certainly of no stream: what a writer stored that had
/// been taken over, or what lay behind an object that a crash dropped. The table has all objects of the
/// stream, also those of epochs that have been left out of the list; where the list knows the end of an
/// epoch both must say so.
fn is_stray(objects: &ObjectTable, ends: &[EpochEnd], id: ObjectId) -> bool {
    let end = ends.iter().find(|end| end.epoch == id.epoch().0);
    let is_behind = |end: &EpochEnd| end.objects.is_some_and(|objects| id.sequence() >= objects);
    end.is_none_or(is_behind) && !objects.contains(id)
}

impl Checkpointer {
    /// Removes the checkpoint objects that no kept checkpoint needs, and the data objects that are of
    /// no stream, behind a fence check. What fails is left for the next time, and all the rest with it
    /// where the store does not answer: each would be waited for as long.
    pub(super) async fn remove_unneeded(&mut self) -> Result<()> {
        // Without a root it is not known what its checkpoint needs.
        if self.kept.roots.len() < self.kept.checkpoints.len() {
            return Ok(());
        }
        if !self.is_listed && !self.kept.fell_back {
            match self.store.list().await {
                Ok(listed) => self.note_listed(&listed),
                Err(error) => tracing::warn!(%error, "old checkpoints are left until later"),
            }
        }
        let mut needed = BTreeSet::new();
        let forgotten = match planted::is(Fault::CheckpointOlder) {
            true => self.kept.roots.len().saturating_sub(1),
            false => 0,
        };
        for root in &self.kept.roots[forgotten..] {
            needed.insert(root.id);
            needed.extend(root.references());
        }
        let unneeded: Vec<ObjectId> = self.present.difference(&needed).copied().collect();
        if unneeded.is_empty() && self.strays.is_empty() {
            return Ok(());
        }
        match self.fence.own().check(STORE_PATIENCE).await {
            Ok(()) => {}
            Err(error) if goes_on_fenced(&error) => {}
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "old checkpoints are left until later");
                return Ok(());
            }
        }
        let checkpoints = unneeded.into_iter().map(Checkpoint::name_of);
        let strays: Vec<ObjectId> = self.strays.iter().copied().collect();
        for name in checkpoints.chain(strays.into_iter().map(ObjectName::data)) {
            match self.store.remove(name).await {
                Ok(()) if name.kind == ObjectKind::Data => drop(self.strays.remove(&name.id)),
                Ok(()) => drop(self.present.remove(&name.id)),
                Err(error) => {
                    tracing::warn!(%error, "an object that nobody needs is left until later");
                    if error.kind() == ErrorKind::Unavailable {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes what earlier openings left in the store.
    fn note_listed(&mut self, listed: &[ObjectName]) {
        let epochs = self.kept.first_epoch..self.next.epoch();
        let ends = self.fence.own().newest().state.epochs;
        for name in listed
            .iter()
            .filter(|name| epochs.contains(&name.id.epoch()))
        {
            match name.kind {
                ObjectKind::Checkpoint => {
                    self.present.insert(name.id);
                }
                ObjectKind::Data if is_stray(&self.objects, &ends, name.id) => {
                    self.strays.insert(name.id);
                }
                ObjectKind::Data | ObjectKind::Superblock => {}
            }
        }
        self.is_listed = true;
    }
}
