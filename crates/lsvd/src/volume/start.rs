//! Where an opened volume begins: map and object table, rolled forward over the objects of the store
//! and the batches of the log.

use super::checkpoint::{CheckpointOptions, Kept};
use crate::bytes::data_object::DataHeader;
use crate::bytes::entry::{Entry, EntryKind};
use crate::bytes::superblock::{EpochEnd, Superblock};
use crate::parts::checkpoint::{CheckpointObjects, Failure, Loaded};
use crate::parts::stream::{End, Stream};
use crate::parts::superblocks::OwnSuperblocks;
use crate::parts::write_log::{LogEnd, Recovered, WriteLog};
use crate::state::extent_map::{CutCount, ExtentMap};
use crate::state::object_table::ObjectTable;
use crate::state::progress::Persists;
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::{Epoch, ObjectId, ObjectName, VolumeUuid};
use crate::words::planted::{self, Fault};
use crate::words::units::{Location, ObjectSlot, SECTOR_BYTES};

/// A batch behind the last persisted object, and the slot of its object.
pub(super) type BacklogBatch = (ObjectSlot, Recovered);

/// What an opening found of checkpoints, and what it is to do about them.
pub(super) struct StartCheckpoints {
    pub(super) objects: CheckpointObjects,
    pub(super) kept: Kept,
    /// When the next ones are made.
    pub(super) options: CheckpointOptions,
}

/// Where a volume begins when it is opened.
pub(super) struct Start {
    pub(super) volume: VolumeUuid,
    pub(super) sectors: u64,
    pub(super) object_size: u64,
    /// The epoch of this opening.
    pub(super) epoch: Epoch,
    /// The last object of the epochs before that is persisted.
    pub(super) persisted: Option<ObjectId>,
    pub(super) persists: Persists,
    pub(super) map: ExtentMap,
    pub(super) objects: ObjectTable,
    /// The write log, and what goes on behind the last persisted object, each with its slot.
    pub(super) log: Option<(Arc<WriteLog>, Vec<BacklogBatch>)>,
    /// The superblocks of this writer.
    pub(super) own: Option<OwnSuperblocks>,
    /// The checkpoints to go on from.
    pub(super) checkpoints: Option<StartCheckpoints>,
}

impl Start {
    /// A volume as its newest sound checkpoint has it, or empty where there is none, and what is kept.
    pub(super) async fn load(
        superblock: &Superblock,
        epoch: Epoch,
        persists: Persists,
        objects: &CheckpointObjects,
    ) -> Result<(Self, Kept)> {
        let sectors = superblock.state.size / SECTOR_BYTES;
        let (loaded, fell_back) = newest_checkpoint(objects, superblock).await?;
        let mut kept = Kept {
            checkpoints: superblock.state.checkpoints.clone(),
            roots: Vec::new(),
            fell_back,
            first_epoch: Epoch(superblock.state.first_epoch),
            epochs_behind: 0,
        };
        let cut = loaded.as_ref().map(|loaded| loaded.root.cut.epoch().0);
        let epochs = superblock.state.epochs.iter();
        kept.epochs_behind = epochs.filter(|epoch| Some(epoch.epoch) > cut).count();
        let (map, table) = match loaded {
            Some(loaded) => {
                let newest = loaded.root.id;
                kept.checkpoints.retain(|kept| kept.object <= newest);
                kept.roots.push(loaded.root);
                (loaded.map, loaded.objects)
            }
            None => {
                kept.checkpoints.clear();
                (ExtentMap::new(sectors), ObjectTable::default())
            }
        };
        let start = Self {
            volume: superblock.volume,
            sectors,
            object_size: superblock.state.object_size,
            epoch,
            persisted: None,
            persists,
            log: None,
            own: None,
            checkpoints: None,
            map,
            objects: table,
        };
        Ok((start, kept))
    }

    /// Brings map and object table to the end of the store's stream. The whole of it from the older
    /// kept checkpoint on is walked, and what is behind the one that was loaded is applied. Where two
    /// are kept and neither could be loaded, it is walked from its very beginning; that the first
    /// object there follows none proves that it is the beginning.
    pub(super) async fn roll_forward(
        &mut self,
        stream: &Stream<'_>,
        superblock: &Superblock,
        epochs: &[EpochEnd],
        kept: &Kept,
    ) -> Result<End> {
        let is_loaded = !kept.roots.is_empty();
        let older = match superblock.state.checkpoints[..] {
            [older, _newest] if is_loaded => Some(older.cut),
            _ => None,
        };
        let cut = kept.roots.last().map(|root| root.cut);
        let behind_cut = |header: &DataHeader| match cut {
            Some(cut) if header.id <= cut => Ok(()),
            _ => self.apply(header).map(drop),
        };
        let end = stream.read(epochs, older, behind_cut).await;
        let end = end.map_err(|error| {
            if is_loaded || superblock.state.checkpoints.is_empty() {
                return error;
            }
            let message = format!(
                "the checkpoints in {} are damaged, and the stream cannot be read from its beginning \
                 in their place: bring one of them back ({}); nothing that is stored was changed",
                stream.store.url(),
                superblock.state.checkpoint_names()
            );
            Error::new(error.kind(), message).because(error)
        })?;
        if end.last < cut {
            let message = format!(
                "the stream of {} ends before the cut of its checkpoint: nothing that is stored was changed",
                stream.store.url()
            );
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        self.persisted = end.last;
        Ok(end)
    }

    /// Rolls map and object table forward over an object of the store.
    fn apply(&self, header: &DataHeader) -> Result<ObjectSlot> {
        let layout = header.layout().map_err(|error| {
            let message = format!("object {} has no layout", header.name());
            Error::new(ErrorKind::Damaged, message).because(error)
        })?;
        let slot = self.slot_of(header)?;
        self.objects
            .set_stored(slot, layout.header_len(), header.data_sectors());
        self.map_entries(header, slot, &header.entries)?;
        Ok(slot)
    }

    /// Moves the end of the stream behind what the log has. `claimed` are the same epochs as they were
    /// known before: an end that was fixed is not passed, since the stream goes on elsewhere from there.
    pub(super) fn extend(end: &mut End, claimed: &[EpochEnd], log: &LogEnd) -> Result<()> {
        end.persisted = end.persisted.max(log.persisted());
        let stored = end.last;
        for id in log.batches().filter(|id| Some(*id) > stored) {
            let found = end.epochs.iter_mut();
            let Some(epoch) = found.rev().find(|epoch| epoch.epoch == id.epoch().0) else {
                let message = format!(
                    "batch {} of the write log is of an epoch that the volume does not have",
                    ObjectName::data(id)
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            };
            let fixed = claimed.iter().find(|epoch| epoch.epoch == id.epoch().0);
            let fixed = fixed.and_then(|epoch| epoch.objects);
            if fixed.is_some_and(|fixed| id.sequence() >= fixed) {
                let message = format!(
                    "batch {} of the write log is behind the end of its epoch: the volume went on without \
                     it, so this log is a copy, or came back from one. Use the log that the volume went \
                     on with (--cache-dir), or, where that is gone for good, move this one away and take \
                     the volume over without (--take-over)",
                    ObjectName::data(id)
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            epoch.objects = Some(id.sequence() + 1);
            end.last = Some(id);
        }
        Ok(())
    }

    /// Replays what log and store have behind the end of the store's stream.
    pub(super) fn replay(&mut self, recovered: Vec<Recovered>) -> Result<Vec<BacklogBatch>> {
        let mut backlog = Vec::with_capacity(recovered.len());
        for recovered in recovered {
            let batch = match recovered {
                Recovered::Logged(batch) => batch,
                Recovered::Stored(segment, header) => {
                    let slot = self.apply(&header)?;
                    backlog.push((slot, Recovered::Stored(segment, header)));
                    continue;
                }
            };
            if planted::is(Fault::StaleReplay) && Some(batch.header.id) <= self.persisted {
                self.apply(&batch.header)?;
                continue;
            }
            let slot = self.slot_of(&batch.header)?;
            self.map_entries(&batch.header, slot, &batch.header.entries)?;
            backlog.push((slot, Recovered::Logged(batch)));
        }
        Ok(backlog)
    }

    fn slot_of(&self, header: &DataHeader) -> Result<ObjectSlot> {
        self.objects.insert(header.id).ok_or_else(|| {
            let message = format!("object {} is one more than the table holds", header.name());
            Error::new(ErrorKind::NoSpace, message)
        })
    }

    fn map_entries(&self, header: &DataHeader, slot: ObjectSlot, entries: &[Entry]) -> Result<()> {
        for entry in entries {
            if entry.range.end.0 > self.sectors {
                let message = format!("object {} has an entry behind the end", header.name());
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            let mut locked = self.map.lock(entry.range);
            match entry.kind {
                EntryKind::Write(offset) => {
                    let location = Location {
                        object: slot,
                        offset,
                    };
                    locked.insert(entry.range, location, CutCount::default(), |_displaced| {});
                }
                EntryKind::Discard | EntryKind::WriteZeroes
                    if planted::is(Fault::ReplayDiscard) => {}
                EntryKind::Discard | EntryKind::WriteZeroes => {
                    drop(locked.detach(entry.range, CutCount::default()));
                }
            }
        }
        Ok(())
    }
}

/// The newest checkpoint that checks, if any does, and whether something older than the newest has to
/// serve. Only damage makes it serve: one that cannot be read now may well be whole.
async fn newest_checkpoint(
    store: &CheckpointObjects,
    superblock: &Superblock,
) -> Result<(Option<Loaded>, bool)> {
    let sectors = superblock.state.size / SECTOR_BYTES;
    let mut fell_back = false;
    for kept in superblock.state.checkpoints.iter().rev() {
        match store.load(*kept, sectors).await {
            Ok(loaded) => return Ok((Some(loaded), fell_back)),
            Err(Failure::Unknown(error)) => return Err(error),
            Err(Failure::Damaged(error)) => {
                tracing::error!(%error, "a checkpoint is damaged: what is older is used");
                fell_back = true;
            }
        }
    }
    if fell_back {
        tracing::error!(
            "no checkpoint is left: all data objects are read from the first one on, which may take \
             long"
        );
    }
    Ok((None, fell_back))
}
