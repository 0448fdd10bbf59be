//! Removing a volume for good: a tombstone first, then all but the superblocks.
//!
//! The tombstone is a claim of the next epoch, so whoever had the volume is fenced before the first
//! object goes. The superblocks stay, all of them: whoever was stalled for all that time before he
//! made one, an opener before its claim as well as a writer, finds its number taken; and the next
//! volume at this place counts on from the tombstone, so no name is ever used twice.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Volume;
use crate::bytes::superblock::{Change, EpochEnd, Superblock, VolumeState, Writer};
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use crate::parts::probe;
use crate::parts::superblocks::{Creation, Superblocks, overtaken};
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{DELETES_AT_ONCE, STORE_PATIENCE};
use crate::words::name::{ObjectKind, ObjectName, VolumeUuid};

/// Settings of a removal.
#[derive(Clone, Debug)]
pub struct RemoveOptions {
    /// Identity of this machine, for whoever has the volume.
    pub machine: String,
    /// Whether to remove a volume that another writer did not close; it is fenced then.
    pub take_over: bool,
}

/// What was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The volume.
    pub volume: VolumeUuid,
    /// Objects that are gone.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Volume {
    /// Removes the volume in `store` for good. From the first change on nobody can open it any more;
    /// where a removal was cut short, the next one goes on with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none and nothing is left of one, [`ErrorKind::InUse`]
    /// where another writer did not close it or changed it in this moment, and what the store says:
    /// the volume may be half gone then.
    pub fn remove(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: RemoveOptions,
    ) -> Result<Removed> {
        block_on(Self::remove_async(store, runtime, options))
    }

    /// [`remove`](Self::remove) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn remove_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
        options: RemoveOptions,
    ) -> Result<Removed> {
        let superblocks = Superblocks::new(Arc::clone(&store), Arc::clone(&runtime));
        let newest = superblocks.newest().await?;
        let newest = newest.ok_or_else(|| nothing_there(&*store))?;
        let (tombstone, begun_before) = if newest.state.change == Change::Tombstone {
            (newest, true)
        } else {
            refuse_unclosed(&newest, &options, &*store)?;
            (bury(&superblocks, &newest, &options, &*store).await?, false)
        };
        let removal = Removal {
            store: &*store,
            runtime: &*runtime,
            tombstone: &tombstone,
        };
        let removed = removal.clear().await?;
        if begun_before && removed.objects == 0 {
            return Err(nothing_there(&*store));
        }
        Ok(removed)
    }
}

fn nothing_there(store: &dyn ObjectStore) -> Error {
    let message = format!("there is no volume in {}: nothing to remove", store.url());
    Error::new(ErrorKind::NotFound, message)
}

/// All refusals come before the tombstone.
fn refuse_unclosed(
    newest: &Superblock,
    options: &RemoveOptions,
    store: &dyn ObjectStore,
) -> Result<()> {
    let Some(writer) = &newest.state.writer else {
        return Ok(());
    };
    if options.take_over || newest.state.is_closed() {
        return Ok(());
    }
    let message = format!(
        "the volume in {} was not closed by machine {} (epoch {}): end that server, or, where it is \
         gone for good, remove the volume all the same (--take-over)",
        store.url(),
        writer.machine,
        writer.epoch
    );
    Err(Error::new(ErrorKind::InUse, message))
}

/// Makes the tombstone: from now on whoever had the volume is fenced.
async fn bury(
    superblocks: &Superblocks,
    newest: &Superblock,
    options: &RemoveOptions,
    store: &dyn ObjectStore,
) -> Result<Superblock> {
    let epoch = newest.state.next_epoch().ok_or_else(|| {
        let message = format!("the epochs of the volume in {} are used up", store.url());
        Error::new(ErrorKind::NoSpace, message)
    })?;
    // What the volume was made of is of no interest any more; so it always fits.
    let state = VolumeState {
        change: Change::Tombstone,
        epochs: vec![EpochEnd {
            epoch: epoch.0,
            objects: Some(0),
        }],
        checkpoints: Vec::new(),
        writer: Some(Writer {
            epoch: epoch.0,
            machine: options.machine.clone(),
            log: None,
            window: 1,
            close: None,
            given_up: None,
        }),
        ..newest.state.clone()
    };
    let draft = superblocks.draft(newest.volume, Some(newest), newest.persisted, state)?;
    match superblocks.create(&draft).await? {
        Creation::Ours(tombstone) => Ok(*tombstone),
        Creation::Lost(winner) => Err(overtaken(&store.url(), &winner)),
    }
}

/// The objects of a volume that has a tombstone.
struct Removal<'a> {
    store: &'a dyn ObjectStore,
    runtime: &'a dyn Runtime,
    tombstone: &'a Superblock,
}

impl Removal<'_> {
    /// Removes what the tombstone stands behind. Another volume may be made at this place meanwhile:
    /// its names are all higher.
    async fn clear(&self) -> Result<Removed> {
        let listed = within(self.runtime, STORE_PATIENCE, self.store, self.store.list());
        let listed = listed.await.map_err(|error| self.failed(error))?;
        let doomed = listed.iter().filter(|object| self.is_doomed(object));
        let removed = Removed {
            volume: self.tombstone.volume,
            objects: 0,
            bytes: 0,
        };
        stream::iter(doomed.map(|object| self.delete(object)))
            .buffer_unordered(DELETES_AT_ONCE)
            .try_fold(removed, async |removed, bytes| {
                Ok(Removed {
                    objects: removed.objects + u64::from(bytes.is_some()),
                    bytes: removed.bytes + bytes.unwrap_or_default(),
                    ..removed
                })
            })
            .await
    }

    fn is_doomed(&self, object: &ListedObject) -> bool {
        let Some(name) = ObjectName::parse(&object.name) else {
            return probe::is_probe(&object.name);
        };
        match name.kind {
            ObjectKind::Superblock => false,
            ObjectKind::Data | ObjectKind::Checkpoint => {
                let last = self.tombstone.state.epochs.last();
                last.is_some_and(|last| name.id.epoch().0 <= last.epoch)
            }
        }
    }

    /// Removes one object and says how many bytes that were; nothing where it was gone.
    async fn delete(&self, object: &ListedObject) -> Result<Option<u64>> {
        let request = self.store.delete(&object.name);
        match within(self.runtime, STORE_PATIENCE, self.store, request).await {
            Ok(()) => Ok(Some(object.bytes)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: StoreError) -> Error {
        let message = format!(
            "the volume in {} is removed, and some of its objects are still there: remove it once \
             more to go on",
            self.store.url()
        );
        Error::new(error.kind().for_user(), message).because(error)
    }
}
