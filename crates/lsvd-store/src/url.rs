//! Where objects are kept, as people write it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use lsvd::doors::store::ObjectStore;
use lsvd::{Error, ErrorKind};
use percent_encoding::percent_decode_str;

use crate::local::LOCAL_STATE;
use crate::{LocalDirectory, MemoryStore, Missing, Occupied};

/// The kinds that exist, for messages.
const KINDS: &str = "a path, file:///absolute/path, or memory://";

/// A place for objects: a path, `file:///dir/vol` or `memory://`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A directory of this machine.
    LocalDirectory(PathBuf),
    /// The memory of this process.
    Memory,
}

impl StoreUrl {
    /// Opens the store, which must exist, for reading only: nothing in it is changed.
    ///
    /// # Errors
    /// Those of [`LocalDirectory::open_read_only`]; and `InvalidArgument` for `memory://`, where
    /// nothing exists before it is created.
    pub fn open_read_only(&self) -> lsvd::Result<Arc<dyn ObjectStore>> {
        match self {
            Self::LocalDirectory(path) => Ok(Arc::new(LocalDirectory::open_read_only(path)?)),
            Self::Memory => Err(nothing_in_memory()),
        }
    }

    /// Opens the store for the writer of a volume that lasts.
    ///
    /// # Errors
    /// Those of [`LocalDirectory::open_volume`]; and `InvalidArgument` for `memory://`, where nothing
    /// lasts.
    pub fn open_volume(
        &self,
        missing: Missing,
        occupied: Occupied,
    ) -> lsvd::Result<Arc<dyn ObjectStore>> {
        match self {
            Self::LocalDirectory(path) => Ok(Arc::new(LocalDirectory::open_volume(
                path, missing, occupied,
            )?)),
            Self::Memory => Err(Error::new(
                ErrorKind::InvalidArgument,
                "nothing lasts in memory://: add --ephemeral for a scratch disk, or name a directory",
            )),
        }
    }

    /// Where the write log and the cache of a volume in this store lie, if the store itself has a
    /// place for them.
    #[must_use]
    pub fn local_state(&self) -> Option<PathBuf> {
        match self {
            Self::LocalDirectory(path) => Some(path.join(LOCAL_STATE)),
            Self::Memory => None,
        }
    }

    /// Opens the store, which must be empty or absent.
    ///
    /// # Errors
    /// Those of [`LocalDirectory::create_empty`].
    pub fn create_empty(&self) -> lsvd::Result<Arc<dyn ObjectStore>> {
        match self {
            Self::LocalDirectory(path) => Ok(Arc::new(LocalDirectory::create_empty(path)?)),
            Self::Memory => Ok(Arc::new(MemoryStore::new())),
        }
    }
}

fn nothing_in_memory() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "memory:// holds nothing that was there before; create a volume in it, or name a directory",
    )
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{url:?} names no store: {why}; give {KINDS}"),
            )
        };
        if url.is_empty() {
            return Err(wrong("it is empty"));
        }
        if url.contains('\0') {
            return Err(wrong("it contains a NUL character"));
        }
        let Some((scheme, rest)) = split_scheme(url) else {
            return Ok(Self::LocalDirectory(PathBuf::from(url)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                // The part before the first slash is a host.
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(wrong("file:// needs three slashes and an absolute path"));
                }
                let path: Vec<u8> = percent_decode_str(path).collect();
                if path.contains(&0) {
                    return Err(wrong("it contains a NUL character"));
                }
                Ok(Self::LocalDirectory(PathBuf::from(OsStr::from_bytes(
                    &path,
                ))))
            }
            "memory" if rest.is_empty() || rest == "/" => Ok(Self::Memory),
            "memory" => Err(wrong("memory:// takes no path")),
            _ => Err(wrong(&format!(
                "stores of the kind {scheme:?} do not exist here"
            ))),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalDirectory(path) => path.display().fmt(f),
            Self::Memory => f.write_str("memory://"),
        }
    }
}

/// The scheme and what follows `://`, if it looks like one.
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let begins = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (begins && scheme.bytes().all(allowed)).then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> StoreUrl {
        StoreUrl::LocalDirectory(PathBuf::from(path))
    }

    #[test]
    fn every_kind_of_url_is_understood() {
        for (url, meant) in [
            ("/tmp/lsvd", directory("/tmp/lsvd")),
            ("vol", directory("vol")),
            ("./a b", directory("./a b")),
            ("./s3://x", directory("./s3://x")),
            ("file:///dir/vol", directory("/dir/vol")),
            ("FILE://localhost/dir/a%20b", directory("/dir/a b")),
            ("memory://", StoreUrl::Memory),
        ] {
            assert_eq!(url.parse::<StoreUrl>().unwrap(), meant, "{url}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_what_exists() {
        for url in [
            "",
            "s3://bucket/x",
            "http://x",
            "file://",
            "file://host/x",
            "file://rel",
            "memory://x",
            "a\0b",
            "file:///a%00b",
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(KINDS), "{error}");
        }
        let error = "s3://bucket".parse::<StoreUrl>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"s3://bucket\" names no store: stores of the kind \"s3\" do not exist here; give a \
             path, file:///absolute/path, or memory://"
        );
    }
}
