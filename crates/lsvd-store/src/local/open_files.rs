//! The files that stay open for reading, so that a read costs one system call.

use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// Most files kept open: 4096 objects of 8 MiB are 32 GiB of data within reach of one system call.
const OPEN_FILES_MAX: usize = 4096;

/// Fewest files kept open, however low the limit of the process is.
const OPEN_FILES_MIN: usize = 8;

/// Open files by object name, the least recently used dropped first.
pub(super) struct OpenFiles {
    inner: Mutex<Inner>,
}

struct Inner {
    files: LruCache<Box<str>, Arc<OwnedFd>>,
    forgotten: Forgotten,
}

/// How many names were forgotten so far. A file that was opened before its name was deleted must
/// not come into the cache after: the name may get another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten(u64);

impl OpenFiles {
    /// A cache of as many files as the process can spare.
    pub(super) fn new() -> Self {
        // No limit means the most that we want.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let quarter = usize::try_from(limit / 4).unwrap_or(usize::MAX);
        Self::with_capacity(quarter.clamp(OPEN_FILES_MIN, OPEN_FILES_MAX))
    }

    fn with_capacity(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self {
            inner: Mutex::new(Inner {
                files: LruCache::new(capacity),
                forgotten: Forgotten(0),
            }),
        }
    }

    /// The open file of `name`, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<Arc<OwnedFd>> {
        self.inner.lock().files.get(name).map(Arc::clone)
    }

    /// To be asked before a file is opened or gets its name, and given to [`insert`](Self::insert).
    pub(super) fn forgotten(&self) -> Forgotten {
        self.inner.lock().forgotten
    }

    /// Keeps `file`, unless a name was forgotten since `before`.
    pub(super) fn insert(&self, name: &str, file: &Arc<OwnedFd>, before: Forgotten) {
        let mut inner = self.inner.lock();
        if inner.forgotten == before {
            let dropped = inner.files.push(name.into(), Arc::clone(file));
            drop(inner);
            // The last owner closes the file, which is no work to do under the lock.
            drop(dropped);
        }
    }

    /// Drops the file of `name`; to be called after its name is gone from the directory.
    pub(super) fn forget(&self, name: &str) {
        let mut inner = self.inner.lock();
        inner.forgotten.0 += 1;
        let dropped = inner.files.pop(name);
        drop(inner);
        drop(dropped);
    }

    /// Closes all files that nobody reads, for the process has none left.
    pub(super) fn clear(&self) {
        self.inner.lock().files.clear();
    }
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = &self.inner.lock().files;
        write!(f, "OpenFiles({} of {})", files.len(), files.cap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<OwnedFd> {
        Arc::new(tempfile::tempfile().unwrap().into())
    }

    #[test]
    fn a_file_opened_before_a_delete_is_not_kept_after_it() {
        let open_files = OpenFiles::with_capacity(4);
        let before = open_files.forgotten();
        open_files.forget("a");
        open_files.insert("a", &file(), before);
        assert!(open_files.get("a").is_none());
        open_files.insert("a", &file(), open_files.forgotten());
        assert!(open_files.get("a").is_some());
    }

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        let open_files = OpenFiles::with_capacity(2);
        let now = open_files.forgotten();
        open_files.insert("a", &file(), now);
        open_files.insert("b", &file(), now);
        assert!(open_files.get("a").is_some());
        open_files.insert("c", &file(), now);
        assert!(open_files.get("a").is_some());
        assert!(open_files.get("b").is_none());
        assert!(open_files.get("c").is_some());
    }
}
