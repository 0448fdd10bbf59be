//! The errors of the engine: few kinds that tell the caller what to do, causes inside.

use std::error::Error as StdError;
use std::fmt;

/// What a verb of the engine returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, that is: what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request breaks a rule (alignment, sign, past the end, a setting out of range): mend
    /// the request. Nothing was changed.
    InvalidArgument,
    /// The place is not what the verb needs (a directory that is not empty, a store that does not keep
    /// a second writer out): choose another.
    NotEmpty,
    /// The place is another's at the moment (another process's, or another volume's of this one):
    /// end that one, or choose another place.
    InUse,
    /// What was named is not there.
    NotFound,
    /// Access was refused: mend the permissions or credentials.
    Permission,
    /// No space is left: free some. What was acknowledged before is kept.
    NoSpace,
    /// The store fails or cannot be reached: what was acknowledged is kept in memory and retried.
    Unavailable,
    /// The local disk fails: what was flushed is kept there, and nothing more is accepted until the
    /// volume is opened again.
    LocalDisk,
    /// Bytes at rest do not check: the message names the object and the offset.
    Damaged,
    /// Another writer took the volume over: end this one. What is in its log stays there.
    Fenced,
    /// The volume was opened for reading only: open it for writing.
    ReadOnly,
    /// The volume was closed, or is closing.
    Closed,
}

impl ErrorKind {
    /// The positive errno of this kind; the C library and the NBD server both use this table.
    #[must_use]
    pub const fn errno(self) -> i32 {
        // Linux numbers, on purpose spelled out: they are part of the C ABI and of NBD.
        match self {
            Self::InvalidArgument => 22,
            Self::NotEmpty => 39,
            Self::InUse => 16,
            Self::NotFound => 2,
            Self::Permission => 13,
            Self::NoSpace => 28,
            Self::Unavailable | Self::LocalDisk | Self::Damaged => 5,
            Self::Fenced => 116,
            Self::ReadOnly => 30,
            Self::Closed => 108,
        }
    }
}

/// A failure: its kind, one line that says what, where and what to do, and its cause.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a cause of its own.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its cause, which is shown behind the message.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(std::sync::Arc::new(source));
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The positive errno of the kind.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.kind.errno()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

/// Its causes are part of what it prints, so it has no [`source`](StdError::source): one who prints
/// a chain of errors would print them twice.
impl StdError for Error {}
