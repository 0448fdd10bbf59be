//! The requests to the store: what each asks for, and what it is answered.

use std::ops::Range;

use bytes::Bytes;
use lsvd::doors::store::{ListedObject, StoreErrorKind};

use super::contents::{Asked, Contents};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It makes an object.
    Create,
    /// It reads one, or a part of it.
    Read,
    /// It asks for all names.
    List,
    /// It removes an object.
    Delete,
}

impl Verb {
    /// As messages have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// Whether the store is another one afterwards.
    pub(super) const fn is_change(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }
}

/// A request of which the store knows what it is answered.
pub(super) trait Request: Clone + Send + 'static {
    const VERB: Verb;

    type Answer: Send + 'static;

    /// Name of the object that it is about, if it is about one.
    fn object(&self) -> &str;

    /// What it creates, if it does.
    fn body(&self) -> Option<&Bytes> {
        None
    }

    fn carry_out(
        &self,
        contents: &mut Contents,
        asked: Asked,
    ) -> Result<Self::Answer, StoreErrorKind>;
}

/// Creates an object.
#[derive(Clone)]
pub(super) struct Put {
    pub(super) name: String,
    pub(super) body: Bytes,
}

impl Request for Put {
    const VERB: Verb = Verb::Create;

    type Answer = ();

    fn object(&self) -> &str {
        &self.name
    }

    fn body(&self) -> Option<&Bytes> {
        Some(&self.body)
    }

    fn carry_out(&self, contents: &mut Contents, asked: Asked) -> Result<(), StoreErrorKind> {
        contents.create(&self.name, &self.body, asked)
    }
}

/// Reads an object, or a part of it.
#[derive(Clone)]
pub(super) struct Get {
    pub(super) name: String,
    pub(super) range: Option<Range<u64>>,
}

impl Request for Get {
    const VERB: Verb = Verb::Read;

    type Answer = Bytes;

    fn object(&self) -> &str {
        &self.name
    }

    fn carry_out(&self, contents: &mut Contents, asked: Asked) -> Result<Bytes, StoreErrorKind> {
        let object = contents.read(&self.name, asked)?;
        let Some(range) = &self.range else {
            return Ok(object);
        };
        let end = usize::try_from(range.end).unwrap_or(usize::MAX);
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        if end > object.len() || start > end {
            return Err(StoreErrorKind::Truncated);
        }
        Ok(object.slice(start..end))
    }
}

/// Asks for all names.
#[derive(Clone)]
pub(super) struct List;

impl Request for List {
    const VERB: Verb = Verb::List;

    type Answer = Vec<ListedObject>;

    fn object(&self) -> &'static str {
        ""
    }

    fn carry_out(
        &self,
        contents: &mut Contents,
        asked: Asked,
    ) -> Result<Vec<ListedObject>, StoreErrorKind> {
        Ok(contents.list(asked))
    }
}

/// Removes an object.
#[derive(Clone)]
pub(super) struct Delete {
    pub(super) name: String,
}

impl Request for Delete {
    const VERB: Verb = Verb::Delete;

    type Answer = ();

    fn object(&self) -> &str {
        &self.name
    }

    fn carry_out(&self, contents: &mut Contents, asked: Asked) -> Result<(), StoreErrorKind> {
        contents.delete(&self.name, asked)
    }
}
