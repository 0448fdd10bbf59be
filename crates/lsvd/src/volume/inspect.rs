//! What a place in a store holds, read from its objects and nothing else: for people, and changing
//! nothing.

mod headers;

use futures_util::stream::{self, StreamExt};

use super::Volume;
use crate::bytes::superblock::{Change, Superblock};
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ListedObject, ObjectStore};
use crate::parts::superblocks::Superblocks;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{INSPECTED_AT_ONCE, STORE_PATIENCE};
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};
use headers::{Headers, Seen};

/// What all objects of a place together show.
#[derive(Clone, Debug)]
pub struct VolumeInfo {
    /// Where it was read.
    pub location: String,
    /// The volume. Without a superblock, that of the first object that checks.
    pub volume: Option<VolumeUuid>,
    /// The newest superblock; nothing where there is none, as with an ephemeral volume.
    pub superblock: Option<Superblock>,
    /// The last data object that any object says is persisted, and when that object was made, in
    /// nanoseconds since the Unix epoch, where it could be read.
    pub persisted: Option<(ObjectId, Option<u64>)>,
    /// Data objects that check.
    pub data: KindTotals,
    /// Checkpoints whose headers check.
    pub checkpoints: KindTotals,
    /// Superblocks that check.
    pub superblocks: KindTotals,
    /// Bytes of the data areas.
    pub data_bytes: u64,
    /// What clients did, in all data objects.
    pub entries: u64,
    /// The data object with the lowest number, and the one with the highest.
    pub range: Option<(ObjectId, ObjectId)>,
    /// When the newest data object was made: nanoseconds since the Unix epoch.
    pub newest_ns: u64,
    /// Numbers of data objects that are absent between the first and the last of an epoch.
    pub missing: u64,
    /// Objects of a volume that was at this place before and is removed.
    pub left_over: u64,
    /// What is no object by its name.
    pub foreign: u64,
    /// Objects that do not check.
    pub damaged: Vec<DamagedObject>,
}

/// How many objects of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotals {
    /// Their number.
    pub objects: u64,
    /// Their bytes, headers and checksums included.
    pub bytes: u64,
}

/// An object that does not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedObject {
    /// Its name.
    pub name: ObjectName,
    /// What is wrong with it.
    pub reason: String,
}

impl Volume {
    /// The newest superblock in `store`, which may be a tombstone; nothing where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where it cannot be read, and what the store says.
    pub fn newest_superblock(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Option<Superblock>> {
        block_on(Self::newest_superblock_async(store, runtime))
    }

    /// [`newest_superblock`](Self::newest_superblock) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn newest_superblock_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Option<Superblock>> {
        Superblocks::new(store, runtime).newest().await
    }

    /// What is in `store`: all headers are read and checked, the data is not. Changes nothing, and
    /// may run beside a writer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is neither a volume nor any object of one,
    /// [`ErrorKind::Damaged`] where the newest superblock cannot be read, and what the store says.
    pub fn inspect(store: Arc<dyn ObjectStore>, runtime: Arc<dyn Runtime>) -> Result<VolumeInfo> {
        block_on(Self::inspect_async(store, runtime))
    }

    /// [`inspect`](Self::inspect) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn inspect_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<VolumeInfo> {
        let superblocks = Superblocks::new(Arc::clone(&store), Arc::clone(&runtime));
        let newest = superblocks.newest().await?;
        let removed = newest
            .as_ref()
            .is_some_and(|newest| newest.state.change == Change::Tombstone);
        let listed = within(&*runtime, STORE_PATIENCE, &*store, store.list()).await;
        let listed = listed.map_err(|error| {
            let message = format!("cannot see what is in {}", store.url());
            Error::new(error.kind().for_user(), message).because(error)
        })?;
        let mut info = VolumeInfo::new(store.url(), newest);
        let objects = info.sort(listed);
        if removed || (info.superblock.is_none() && objects.is_empty()) {
            let message = format!("{} holds no volume", info.location);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let headers = Headers {
            store: &*store,
            runtime: &*runtime,
        };
        let seen = objects
            .iter()
            .map(|(name, bytes)| headers.read(*name, *bytes));
        let mut seen = stream::iter(seen).buffered(INSPECTED_AT_ONCE);
        let mut objects = objects.iter();
        while let (Some(seen), Some((name, bytes))) = (seen.next().await, objects.next()) {
            match seen? {
                // It went away since it was listed, as old objects do.
                Seen::Gone => {}
                Seen::Header(header) => info.add(*name, *bytes, &header),
                Seen::Damaged(reason) => info.damaged.push(DamagedObject {
                    name: *name,
                    reason,
                }),
            }
        }
        info.find_persisted_time(&headers).await?;
        Ok(info)
    }
}

impl VolumeInfo {
    fn new(location: String, superblock: Option<Superblock>) -> Self {
        Self {
            location,
            volume: superblock.as_ref().map(|newest| newest.volume),
            persisted: superblock
                .as_ref()
                .and_then(|newest| newest.persisted)
                .map(|id| (id, None)),
            superblock,
            data: KindTotals::default(),
            checkpoints: KindTotals::default(),
            superblocks: KindTotals::default(),
            data_bytes: 0,
            entries: 0,
            range: None,
            newest_ns: 0,
            missing: 0,
            left_over: 0,
            foreign: 0,
            damaged: Vec::new(),
        }
    }

    /// The objects of this volume with their sizes, by kind and number; the others are counted.
    fn sort(&mut self, listed: Vec<ListedObject>) -> Vec<(ObjectName, u64)> {
        let first_epoch = self
            .superblock
            .as_ref()
            .map(|newest| newest.state.first_epoch);
        let mut objects = Vec::new();
        for object in listed {
            match ObjectName::parse(&object.name) {
                None => self.foreign += 1,
                // Superblocks count on from volume to volume.
                Some(name)
                    if name.kind != ObjectKind::Superblock
                        && Some(name.id.epoch().0) < first_epoch =>
                {
                    self.left_over += 1;
                }
                Some(name) => objects.push((name, object.bytes)),
            }
        }
        // Names never sort as text.
        objects.sort_unstable_by_key(|(name, _)| (name.kind, name.id));
        objects
    }

    /// Takes one object in; they come in the order of their kinds and numbers.
    fn add(&mut self, name: ObjectName, bytes: u64, header: &headers::Header) {
        if name.kind != ObjectKind::Superblock {
            let volume = *self.volume.get_or_insert(header.volume);
            if header.volume != volume {
                let reason = format!("it is object {name} of volume {}", header.volume);
                return self.damaged.push(DamagedObject { name, reason });
            }
        }
        let totals = match name.kind {
            ObjectKind::Data => &mut self.data,
            ObjectKind::Checkpoint => &mut self.checkpoints,
            ObjectKind::Superblock => &mut self.superblocks,
        };
        totals.objects += 1;
        totals.bytes += bytes;
        if Some(header.volume) == self.volume {
            let known = self.persisted.map(|(id, _)| id);
            if header.persisted > known {
                self.persisted = header.persisted.map(|id| (id, None));
            }
        }
        if name.kind == ObjectKind::Data {
            self.add_data(name.id, header);
        }
    }

    fn add_data(&mut self, id: ObjectId, header: &headers::Header) {
        let (first, last) = self.range.unwrap_or((id, id));
        if last.epoch() == id.epoch() {
            self.missing += (id.sequence() - last.sequence()).saturating_sub(1);
        }
        self.range = Some((first, id));
        self.data_bytes += header.data_len;
        self.entries += u64::from(header.entry_count);
        self.newest_ns = self.newest_ns.max(header.wall_time_ns);
    }

    async fn find_persisted_time(&mut self, headers: &Headers<'_>) -> Result<()> {
        let Some((id, when)) = &mut self.persisted else {
            return Ok(());
        };
        let found = headers.read_data(ObjectName::data(*id)).await?;
        if let Seen::Header(header) = found {
            *when = Some(header.wall_time_ns);
        }
        Ok(())
    }
}
