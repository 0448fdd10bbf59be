//! Reading the data stream back: its objects by exact names, in order, to where it ends.

use futures_util::future::join_all;

use crate::bytes::data_object::DataHeader;
use crate::bytes::object_header::{FIXED_HEADER_BYTES, ObjectError};
use crate::bytes::superblock::EpochEnd;
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::{Epoch, ObjectId, ObjectName, VolumeUuid};

/// Headers that are asked for at once.
const HEADERS_AT_ONCE: u64 = 16;

/// The data stream of a volume as the store has it.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) store: &'a dyn ObjectStore,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) volume: VolumeUuid,
    /// The largest span of uploads that any writer of it had under way.
    pub(crate) window: u32,
    /// What a superblock says is persisted.
    pub(crate) persisted: Option<ObjectId>,
    /// Whether it is read without a claim, beside a writer: more may be persisted meanwhile.
    pub(crate) growing: bool,
}

/// Where the stream of the store was found to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The last object of it.
    pub(crate) last: Option<ObjectId>,
    /// When that was made, where it was read: nanoseconds since the Unix epoch, for people.
    pub(crate) wall_time_ns: Option<u64>,
    /// The epochs, each with its end.
    pub(crate) epochs: Vec<EpochEnd>,
    /// The newest object that anything says is persisted.
    pub(crate) persisted: Option<ObjectId>,
}

impl Stream<'_> {
    /// Calls `apply` with the header of every object of `epochs` behind object `behind`, in order, up
    /// to the first that is not there. Epochs before that of `behind` are left as they are.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::Damaged`] for an object that does not check.
    pub(crate) async fn read(
        &self,
        epochs: &[EpochEnd],
        behind: Option<ObjectId>,
        mut apply: impl FnMut(&DataHeader) -> Result<()>,
    ) -> Result<End> {
        let from = behind.map_or(0, |behind| behind.epoch().0);
        let (before, epochs) = epochs.split_at(epochs.partition_point(|epoch| epoch.epoch < from));
        let mut end = End {
            last: behind,
            wall_time_ns: None,
            epochs: before.to_vec(),
            persisted: self.persisted,
        };
        let mut epochs = epochs.iter();
        'stream: for epoch in epochs.by_ref() {
            let bound = epoch.objects.unwrap_or(ObjectId::SEQUENCE_MAX + 1);
            let mut objects = first_behind(behind, epoch.epoch);
            if objects > bound {
                return Err(self.damaged(
                    id_of(epoch.epoch, bound)?,
                    "a checkpoint has it, and a superblock says that it is not of the stream",
                ));
            }
            while objects < bound {
                let some = objects..bound.min(objects + HEADERS_AT_ONCE);
                for header in self.headers(epoch.epoch, some).await? {
                    let Some(header) = header? else {
                        end.epochs.push(end_of(epoch, objects));
                        break 'stream;
                    };
                    self.check_order(&header, end.last)?;
                    apply(&header)?;
                    end.persisted = end.persisted.max(header.persisted);
                    end.last = Some(header.id);
                    end.wall_time_ns = Some(header.wall_time_ns);
                    objects += 1;
                }
            }
            end.epochs.push(end_of(epoch, objects));
        }
        end.epochs.extend(epochs.map(|epoch| end_of(epoch, 0)));
        Ok(end)
    }

    /// The header of one object, which must follow `predecessor`; nothing where it is definitely not
    /// there.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::Damaged`] for one that does not check.
    pub(crate) async fn object(
        &self,
        id: ObjectId,
        predecessor: Option<ObjectId>,
    ) -> Result<Option<DataHeader>> {
        let Some(header) = self.header(id).await? else {
            return Ok(None);
        };
        self.check_order(&header, predecessor)?;
        Ok(Some(header))
    }

    fn check_order(&self, header: &DataHeader, should: Option<ObjectId>) -> Result<()> {
        let is = header.predecessor;
        if is == should {
            return Ok(());
        }
        let what = format!("it follows {is:?} and should follow {should:?}");
        Err(self.damaged(header.id, &what))
    }

    /// Whether the stream may end where `end` says, log included: nothing was persisted behind it,
    /// and nothing is so far behind it that it cannot have been under way at once. `claimed` are the
    /// same epochs as they were known before.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::Damaged`].
    pub(crate) async fn refuse_damage(&self, end: &End, claimed: &[EpochEnd]) -> Result<()> {
        if let Some(persisted) = end
            .persisted
            .filter(|persisted| Some(*persisted) > end.last)
        {
            let first = claimed.first().map_or(0, |epoch| epoch.epoch);
            let missing = match end.last {
                Some(last) => last.next().unwrap_or(persisted),
                None => id_of(first, 0)?,
            };
            let what = if persisted == missing {
                "it is missing, and was persisted".to_owned()
            } else {
                let name = ObjectName::data(persisted);
                format!("it is missing, and {name}, which is behind it, was persisted")
            };
            return self.refuse_persisted(missing, &what).await;
        }
        let window = u64::from(self.window);
        let mut missing = None;
        let mut distance = 0;
        for (found, claimed) in end.epochs.iter().zip(claimed) {
            let from = found.objects.unwrap_or_default();
            let bound = claimed.objects.unwrap_or(ObjectId::SEQUENCE_MAX + 1);
            let bound = bound.min(from + 2 * window - distance);
            // Behind the end of the stream all epochs are empty, and before it all are full.
            let is_behind = end.last.is_none_or(|last| last.epoch().0 <= found.epoch);
            if !is_behind || from >= bound {
                continue;
            }
            let first = *missing.get_or_insert(id_of(found.epoch, from)?);
            for header in self.headers(found.epoch, from..bound).await? {
                if let Some(header) = header? {
                    let name = ObjectName::data(header.id);
                    if header.persisted >= Some(first) {
                        let what = format!("it is missing, and was persisted, as {name} says");
                        return self.refuse_persisted(first, &what).await;
                    }
                    if distance >= window {
                        let what = format!("it is missing, and {name} is there");
                        return self.refuse_unless_filled(first, &what).await;
                    }
                }
                distance += 1;
            }
        }
        Ok(())
    }

    /// Damage, unless nobody has claimed the stream for this reader. Behind a claim nothing more is
    /// persisted, so what is missing there is lost, even if it comes back later.
    async fn refuse_persisted(&self, missing: ObjectId, what: &str) -> Result<()> {
        match self.growing {
            true => self.refuse_unless_filled(missing, what).await,
            false => Err(self.damaged(missing, what)),
        }
    }

    /// Damage, unless the object that was missing at the first look was only not there yet: a writer
    /// that does not know of a take-over, or is read beside, may fill the gap meanwhile and go on far
    /// behind it. The end is then where it was missing.
    async fn refuse_unless_filled(&self, missing: ObjectId, what: &str) -> Result<()> {
        if self.header(missing).await?.is_some() {
            return Ok(());
        }
        Err(self.damaged(missing, what))
    }

    /// The headers of some objects of an epoch; nothing for one that is definitely not there.
    async fn headers(
        &self,
        epoch: u32,
        sequences: std::ops::Range<u64>,
    ) -> Result<Vec<Result<Option<DataHeader>>>> {
        let ids: Vec<ObjectId> = sequences
            .map(|sequence| id_of(epoch, sequence))
            .collect::<Result<_>>()?;
        Ok(join_all(ids.into_iter().map(|id| self.header(id))).await)
    }

    async fn header(&self, id: ObjectId) -> Result<Option<DataHeader>> {
        let name = ObjectName::data(id);
        let text = name.to_string();
        let Some(fixed) = self.part(&text, 0..FIXED_HEADER_BYTES as u64).await? else {
            return Ok(None);
        };
        let wrong =
            |error: ObjectError| self.damaged(id, "its header does not check").because(error);
        let header_len = DataHeader::len_of(&fixed).map_err(wrong)?;
        let Some(bytes) = self.part(&text, 0..header_len as u64).await? else {
            return Err(self.damaged(id, "it went away while it was read"));
        };
        let header = DataHeader::decode(&bytes).map_err(wrong)?;
        header.check_identity(self.volume, name).map_err(wrong)?;
        Ok(Some(header))
    }

    async fn part(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Option<::bytes::Bytes>> {
        let request = self.store.get_range(name, range);
        match within(self.runtime, STORE_PATIENCE, self.store, request).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn failed(&self, name: &str, error: StoreError) -> Error {
        let message = format!("cannot read the header of {name} in {}", self.store.url());
        Error::new(error.kind().for_user(), message).because(error)
    }

    fn damaged(&self, id: ObjectId, what: &str) -> Error {
        let message = format!(
            "object {} in {} is damaged: {what}; nothing that is stored was changed",
            ObjectName::data(id),
            self.store.url()
        );
        Error::new(ErrorKind::Damaged, message)
    }
}

fn end_of(epoch: &EpochEnd, objects: u64) -> EpochEnd {
    EpochEnd {
        epoch: epoch.epoch,
        objects: Some(objects),
    }
}

pub(crate) fn id_of(epoch: u32, sequence: u64) -> Result<ObjectId> {
    ObjectId::new(Epoch(epoch), sequence).ok_or_else(|| {
        let message = format!("epoch {epoch} has no object {sequence}");
        Error::new(ErrorKind::Damaged, message)
    })
}

/// The first sequence number of `epoch` that is behind an object.
fn first_behind(behind: Option<ObjectId>, epoch: u32) -> u64 {
    let in_epoch = behind.filter(|behind| behind.epoch().0 == epoch);
    in_epoch.map_or(0, |behind| behind.sequence() + 1)
}
