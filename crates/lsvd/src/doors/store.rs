//! The object store as the engine sees it.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

use ::bytes::Bytes;

use super::BoxFuture;
use crate::words::error::ErrorKind;

/// A flat namespace of immutable objects.
///
/// The one condition asked of a store is create-if-absent: of any number of racing creations of a
/// name exactly one wins, and the others are told [`StoreErrorKind::AlreadyExists`].
///
/// Dropping a future stops the waiting, not necessarily the work: a dropped [`put`](Self::put) may
/// still create the object.
pub trait ObjectStore: fmt::Debug + Send + Sync + 'static {
    /// Creates the object `name` with the concatenation of `body`, unless the name exists.
    ///
    /// When it returns `Ok`, the object survives the loss of power (on a local directory: file and
    /// directory are synced). An object is either absent or whole: no reader ever sees a part of it
    /// under its name, not even after a crash half way.
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The whole object.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>>;

    /// Exactly the bytes `range` of the object; [`StoreErrorKind::Truncated`] where the object
    /// ends before `range` does. An empty range is a bug of the caller.
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>>;

    /// Fills `buffer` from `offset` on, if that can be answered at once without waiting for a
    /// device or a network; otherwise nothing, and the caller uses [`get_range`](Self::get_range).
    /// The content of `buffer` is undefined after anything but `Some(Ok(()))`.
    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        let _ = (name, offset, buffer);
        None
    }

    /// All objects, in no order. For people and for opening; never on the way of a write or read.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>>;

    /// Removes an object; a name that is not there is [`StoreErrorKind::NotFound`].
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Where the objects are, as people write it: a path or a URL. For messages.
    fn url(&self) -> String;
}

/// A row of [`ObjectStore::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The name, which need not be one of ours.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// What kind of store failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A definite "there is no such object".
    NotFound,
    /// The name to be created exists.
    AlreadyExists,
    /// The object ends before the range that was asked for.
    Truncated,
    /// Access was refused.
    Permission,
    /// The store is full.
    NoSpace,
    /// No answer came in the time that the request was given. Whether it was carried out, or still
    /// will be, is unknown; it may be repeated.
    TooSlow,
    /// Anything else: an I/O error, a connection that broke. Whether the request was carried out is
    /// unknown; it may be repeated.
    Unavailable,
}

impl StoreErrorKind {
    /// What it means to the user of a volume when a request that must succeed fails so.
    #[must_use]
    pub const fn for_user(self) -> ErrorKind {
        match self {
            Self::NoSpace => ErrorKind::NoSpace,
            Self::Permission => ErrorKind::Permission,
            // An object that was stored whole and is gone, shorter or another was damaged.
            Self::NotFound | Self::Truncated | Self::AlreadyExists => ErrorKind::Damaged,
            Self::TooSlow | Self::Unavailable => ErrorKind::Unavailable,
        }
    }

    /// The same where the request is made again: what is not there yet is not damaged, as the directory
    /// may come back.
    pub(crate) const fn for_user_while_retried(self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::Unavailable,
            kind => kind.for_user(),
        }
    }
}

/// A failed request to a store: what was asked of which object, where, and why it failed.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    request: &'static str,
    object: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// A failed `request` (a verb, as "create" or "read") on `object` (location and name).
    #[must_use]
    pub fn new(kind: StoreErrorKind, request: &'static str, object: impl Into<String>) -> Self {
        Self {
            kind,
            request,
            object: object.into(),
            source: None,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::NotFound => "no such object",
            StoreErrorKind::AlreadyExists => "the name exists already",
            StoreErrorKind::Truncated => "the object is shorter than it must be",
            StoreErrorKind::Permission => "access refused",
            StoreErrorKind::NoSpace => "no space left",
            StoreErrorKind::TooSlow => "the store is too slow",
            StoreErrorKind::Unavailable => "the store failed",
        };
        write!(f, "cannot {} {}: {what}", self.request, self.object)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
