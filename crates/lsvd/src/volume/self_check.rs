//! Asking a volume whether what it knows is consistent.

use super::{Shared, Volume};
use crate::bytes::superblock::{KeptCheckpoint, Superblock};
use crate::state::self_check::Parts;

impl Volume {
    /// Says what is wrong with the state of the volume in memory, if anything: the extent map, the
    /// object table and the batches that are not stored must fit each other, and the points up to
    /// which all is persisted, stored, durable and entered must be in this order. Reads nothing from
    /// store or disk, and takes a time in proportion to the extents.
    ///
    /// For tests: the parts are looked at one after the other, so nothing else may use the volume
    /// meanwhile, no request and no task of its own. On a runtime of one thread that is so between
    /// any two steps.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[doc(hidden)]
    pub fn self_check(&self) -> Result<(), String> {
        let shared = &*self.shared;
        let log = shared.log.as_ref();
        let parts = Parts {
            map: &shared.map,
            objects: &shared.objects,
            in_flight: &shared.in_flight,
            batcher: &shared.batcher,
            uploads: &shared.uploads,
            progress: &shared.progress,
            window: shared.window,
            log: log.map(|log| (&*log.durable, &*log.segments)),
        };
        parts.self_check()?;
        match &shared.fence {
            Some(fence) => shared.check_own(&fence.own().newest()),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// The newest superblock of this writer says nothing that is not so.
    fn check_own(&self, own: &Superblock) -> Result<(), String> {
        let (name, state) = (own.name(), &own.state);
        let persisted = self.progress.persisted();
        if own.persisted > persisted {
            let said = own.persisted;
            return Err(format!(
                "{name} says that {said:?} is persisted, {persisted:?} is"
            ));
        }
        let epoch = state.epochs.last().map(|last| (last.epoch, last.objects));
        if epoch != Some((self.epoch.0, None)) {
            return Err(format!(
                "{name} ends with epoch {epoch:?}, of {:?}",
                self.epoch
            ));
        }
        let kept = &state.checkpoints;
        let ascend =
            |pair: &[KeptCheckpoint]| pair[0].object < pair[1].object && pair[0].cut <= pair[1].cut;
        let cut = kept.last().map(|newest| newest.cut);
        if !kept.windows(2).all(ascend) || cut > persisted {
            return Err(format!(
                "{name} names {kept:?}, and {persisted:?} is persisted"
            ));
        }
        Ok(())
    }
}
