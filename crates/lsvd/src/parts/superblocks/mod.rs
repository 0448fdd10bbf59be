//! The chain of superblocks as one writer sees it: finding the newest, making the next, and the
//! fence check.
//!
//! The one condition asked of the store is create-if-absent. A superblock derives from its direct
//! predecessor, so whoever finds a number taken by another has lost and looks again at what the
//! winner wrote; the same change is never tried one number higher.

mod fence;
mod own;

use std::ops::Range;
use std::time::Duration;

use ::bytes::Bytes;

use crate::bytes::object_header::{FIXED_HEADER_BYTES, ObjectError};
use crate::bytes::superblock::{Superblock, VolumeState};
use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ObjectStore, StoreError, StoreErrorKind};
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};

pub(crate) use fence::Fence;
pub(crate) use own::OwnSuperblocks;

/// The superblocks of a place in a store.
#[derive(Clone, Debug)]
pub(crate) struct Superblocks {
    store: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
}

/// How an attempt to make a superblock ended, when it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// It is ours, and the newest.
    Ours(Box<Superblock>),
    /// Somebody else made the one with this number.
    Lost(Box<Superblock>),
}

impl Superblocks {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, runtime: Arc<dyn Runtime>) -> Self {
        Self { store, runtime }
    }

    /// The superblock with the highest number, or nothing where there is none.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::Damaged`] where it cannot be read: it is never skipped, since
    /// whoever wrote it may be at work.
    pub(crate) async fn newest(&self) -> Result<Option<Superblock>> {
        let listed = within(
            &*self.runtime,
            STORE_PATIENCE,
            &*self.store,
            self.store.list(),
        );
        let listed = listed.await.map_err(|error| self.failed("list", error))?;
        let numbers = listed.iter().filter_map(|object| {
            ObjectName::parse(&object.name)
                .filter(|name| name.kind == ObjectKind::Superblock)
                .map(|name| name.id.as_u64())
        });
        let Some(listed) = numbers.max() else {
            // A list may come late; a look at the very name does not.
            return self.following(None).await;
        };
        let Some(newest) = self.get(listed).await? else {
            let message = format!(
                "{} lists {} and does not have it: superblocks are never removed, so somebody or \
                 something else has; bring it back from a copy of the store",
                self.store.url(),
                Superblock::name_of(listed)
            );
            return Err(Error::new(ErrorKind::Damaged, message));
        };
        self.following(Some(newest)).await
    }

    /// The last superblock from `newest` on.
    async fn following(&self, newest: Option<Superblock>) -> Result<Option<Superblock>> {
        let mut newest = newest;
        loop {
            let number = match &newest {
                Some(newest) => next_number(newest)?,
                None => 0,
            };
            let Some(next) = self.get(number).await? else {
                return Ok(newest);
            };
            let before = newest.map(|newest| newest.write_id);
            if next.state.predecessor != before {
                let message = format!(
                    "{} in {} does not follow the superblock that is before it: one of them is not \
                     of this place; nothing is changed",
                    next.name(),
                    self.store.url()
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            newest = Some(next);
        }
    }

    /// Superblock `number`, or nothing where there is definitely none.
    ///
    /// # Errors
    /// The store's, and [`ErrorKind::Damaged`] where it does not check.
    pub(crate) async fn get(&self, number: u64) -> Result<Option<Superblock>> {
        self.get_within(number, STORE_PATIENCE).await
    }

    /// The same with `patience` for each request.
    async fn get_within(&self, number: u64, patience: Duration) -> Result<Option<Superblock>> {
        let Some(fixed) = self
            .part(number, 0..FIXED_HEADER_BYTES as u64, patience)
            .await?
        else {
            return Ok(None);
        };
        let len = Superblock::len_of(&fixed).map_err(|error| self.unreadable(number, error))?;
        let Some(bytes) = self.part(number, 0..len as u64, patience).await? else {
            // Its header was there a moment ago, and no superblock is ever removed.
            return Err(self.unreadable(number, ObjectError::Truncated { needed: len }));
        };
        Superblock::decode(&bytes, number)
            .map(Some)
            .map_err(|error| self.unreadable(number, error))
    }

    async fn part(
        &self,
        number: u64,
        range: Range<u64>,
        patience: Duration,
    ) -> Result<Option<Bytes>> {
        let name = Superblock::name_of(number).to_string();
        let request = self.store.get_range(&name, range);
        match within(&*self.runtime, patience, &*self.store, request).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match error.kind() {
                StoreErrorKind::NotFound => Ok(None),
                StoreErrorKind::Truncated => Err(self.unreadable(number, ObjectError::Length)),
                _ => Err(self.failed("read", error)),
            },
        }
    }

    /// A superblock that is there and says nothing that this program understands.
    fn unreadable(&self, number: u64, error: ObjectError) -> Error {
        let name = Superblock::name_of(number);
        let place = self.store.url();
        let message = if let ObjectError::Version(version) = error {
            format!(
                "{name} in {place} is of format version {version}, which this program does not know: \
                 use the program that wrote it, or a later one"
            )
        } else {
            format!(
                "{name} in {place} does not check; it is the newest word on who may write, so the \
                 volume stays closed: bring it back from a copy of the store"
            )
        };
        Error::new(ErrorKind::Damaged, message).because(error)
    }

    /// Makes the superblock that follows `newest` with `state`, or the first of all.
    pub(crate) fn draft(
        &self,
        volume: VolumeUuid,
        newest: Option<&Superblock>,
        persisted: Option<ObjectId>,
        state: VolumeState,
    ) -> Result<Superblock> {
        let number = match newest {
            Some(newest) => next_number(newest)?,
            None => 0,
        };
        let wall_time_ns = u64::try_from(self.runtime.wall_clock().as_nanos()).unwrap_or(u64::MAX);
        Ok(Superblock {
            number,
            volume,
            write_id: self.runtime.random(),
            wall_time_ns,
            persisted,
            state: VolumeState {
                predecessor: newest.map(|newest| newest.write_id),
                ..state
            },
        })
    }

    /// Creates `draft`, and finds out whether it is there where the answer was lost.
    ///
    /// # Errors
    /// When that cannot be found out: the superblock may come to be there later, so this draft, and
    /// no other, has to be created again, or the fence check tells what became of it.
    pub(crate) async fn create(&self, draft: &Superblock) -> Result<Creation> {
        let name = draft.name().to_string();
        let bytes = draft.encode().map_err(|error| {
            let message = format!("cannot make {name}: this is a bug");
            Error::new(ErrorKind::InvalidArgument, message).because(error)
        })?;
        let put = self.store.put(&name, vec![Bytes::from(bytes)]);
        let put = within(&*self.runtime, STORE_PATIENCE, &*self.store, put).await;
        let error = match put {
            Ok(()) => return Ok(Creation::Ours(Box::new(draft.clone()))),
            Err(error) => error,
        };
        let known = matches!(
            error.kind(),
            StoreErrorKind::NoSpace | StoreErrorKind::Permission
        );
        if known {
            return Err(self.failed("create", error));
        }
        match self.get(draft.number).await? {
            Some(found) if found.write_id == draft.write_id => Ok(Creation::Ours(Box::new(found))),
            Some(found) => Ok(Creation::Lost(Box::new(found))),
            // Whatever the store called it: what is not there is not damaged, and may be created yet.
            None => Err(self.failed_as(ErrorKind::Unavailable, "create", error)),
        }
    }

    /// Whether nobody took over since `own`, the highest number known to be ours; `outstanding` is
    /// a creation of ours whose answer was lost. Gives what is the newest of ours now. Each request
    /// is given `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`], naming who took over; the store's where it is not known.
    pub(crate) async fn check_fence(
        &self,
        own: &Superblock,
        outstanding: Option<&Superblock>,
        patience: Duration,
    ) -> Result<Superblock> {
        let mut own = own.clone();
        loop {
            let number = next_number(&own)?;
            let next = self.get_within(number, patience).await;
            match next.map_err(|error| self.fenced_if_damaged(number, error))? {
                None => return Ok(own),
                Some(next) if outstanding.is_some_and(|ours| ours.write_id == next.write_id) => {
                    own = next;
                }
                Some(next) => return Err(fenced(&self.store.url(), &next)),
            }
        }
    }

    /// Whatever is behind a writer's own superblock fences it, also what it cannot read: a later program
    /// may have taken over.
    fn fenced_if_damaged(&self, number: u64, error: Error) -> Error {
        if error.kind() != ErrorKind::Damaged {
            return error;
        }
        let (place, name) = (self.store.url(), Superblock::name_of(number));
        let message = format!(
            "this writer of {place} is fenced: {name} is there, which it did not make or cannot read; \
             what was not persisted stays in this machine's log. Stop this server"
        );
        Error::new(ErrorKind::Fenced, message).because(error)
    }

    fn failed(&self, verb: &str, error: StoreError) -> Error {
        self.failed_as(error.kind().for_user(), verb, error)
    }

    fn failed_as(&self, kind: ErrorKind, verb: &str, error: StoreError) -> Error {
        let message = format!("cannot {verb} superblocks in {}", self.store.url());
        Error::new(kind, message).because(error)
    }
}

/// What a writer is told whose volume another one has.
pub(crate) fn fenced(place: &str, by: &Superblock) -> Error {
    let who = match &by.state.writer {
        Some(writer) => format!("machine {} (epoch {})", writer.machine, writer.epoch),
        None => "another process".to_owned(),
    };
    let name = by.name();
    let message = format!(
        "this writer of {place} is fenced: {who} took the volume over, as {name} says; what was not \
         persisted stays in this machine's log. Stop this server"
    );
    Error::new(ErrorKind::Fenced, message)
}

/// What whoever wanted the next number is told where another process got it.
pub(crate) fn overtaken(place: &str, by: &Superblock) -> Error {
    let name = by.name();
    let message = format!(
        "another process changed the volume in {place} at this moment, as {name} says, and nothing was \
         done here: see who it is with `lsvd info`, then try again"
    );
    Error::new(ErrorKind::InUse, message)
}

fn next_number(newest: &Superblock) -> Result<u64> {
    newest.number.checked_add(1).ok_or_else(|| {
        let message = "the numbers of superblocks are used up";
        Error::new(ErrorKind::NoSpace, message)
    })
}
