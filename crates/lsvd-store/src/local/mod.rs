//! Objects as files of one directory.
//!
//! A name appears in the directory only when all bytes of its file are on the disk, so a reader
//! never sees a part of an object, whatever crashes. Calls that may block run on the threads of the
//! `blocking` crate, never on the caller's, and need no particular executor.

mod create;
mod directory;
mod errno;
mod list;
mod lock;
mod open_files;
mod read;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use rustix::fs::{AtFlags, FlockOperation, flock};
use rustix::io::Errno;

pub(crate) use directory::LOCAL_STATE;
pub use directory::{Missing, Occupied};

use create::Creation;
use errno::store_error;
use lock::LockFile;
use open_files::OpenFiles;

/// A store that keeps the object `NAME` in the file `NAME` of one directory.
///
/// - **put** is durable when it returns: the file was synced before it got its name, and the
///   directory after. [`StoreErrorKind::AlreadyExists`] says that the object that is there is
///   durable as well. A put that failed left nothing behind, or the whole object: one that has got
///   its name keeps it, even where the directory could not be synced.
/// - There is one writer: the directory is locked (`flock`) for as long as it is open for writing,
///   and whoever would open it so as well is refused, unless he takes over a volume that lasts,
///   whose writers fence each other. Readers are not.
/// - **delete** is not synced: after a loss of power the object may be back.
/// - Names are those that [`put`](ObjectStore::put) accepts: 1 to 255 bytes, no `/`, no NUL, no
///   `.` in front. Any other name is [`StoreErrorKind::Permission`], whatever the request.
/// - Files are kept open for reading, at most a quarter of what `RLIMIT_NOFILE` allowed when the
///   directory was opened. Who removes or replaces files behind the store's back may be answered
///   from a file that is gone.
#[derive(Clone, Debug)]
pub struct LocalDirectory {
    shared: Arc<Shared>,
}

/// What the blocking halves of the requests need.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Locked, unless the directory was opened for reading only.
    directory: OwnedFd,
    /// How files are made; nothing where the directory was opened for reading only.
    creation: Option<Creation>,
    /// Locked as well, for the writer of a volume that lasts.
    lock_file: Option<LockFile>,
    open_files: OpenFiles,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The one that is taken last goes first, so that nobody gets the other and not this one.
        drop(self.lock_file.take());
        // Closing would not do while a child process, forked and about to become another program,
        // has the descriptor too. When there is nothing to unlock, nothing happens.
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }
}

impl Shared {
    /// The object as messages name it.
    fn object(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn check_name(&self, request: &'static str, name: &str) -> Result<(), StoreError> {
        let possible = (1..=255).contains(&name.len())
            && !name.starts_with('.')
            && !name.bytes().any(|byte| byte == b'/' || byte == 0);
        if possible {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Permission,
            request,
            format!("{:?} in {}", name, self.path.display()),
        )
        .because(
            "an object name has 1 to 255 bytes, no '/', no NUL and no '.' in front; use another \
             name",
        ))
    }

    /// Opens something; where the process has no descriptor left, those kept for reading are given
    /// up for it.
    fn with_descriptors<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.open_files.clear();
                open()
            }
            opened => opened,
        }
    }

    /// How files are made, or the refusal of a `request` that would change something.
    fn writable(&self, request: &'static str, name: &str) -> Result<Creation, StoreError> {
        self.creation.ok_or_else(|| {
            StoreError::new(StoreErrorKind::Permission, request, self.object(name))
                .because("the directory was opened for reading only; open it for writing")
        })
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.writable("delete", name)?;
        let removed = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        self.open_files.forget(name);
        removed.map_err(|errno| store_error(errno, "delete", self.object(name)))
    }
}

impl LocalDirectory {
    /// Runs `work` on a thread that may block.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { blocking::unblock(move || work(&shared)).await })
    }
}

impl ObjectStore for LocalDirectory {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        if let Err(error) = self.shared.check_name("create", name) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let name = name.to_owned();
        self.run(move |shared| shared.create(&name, &body))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        if let Err(error) = self.shared.check_name("read", name) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let name = name.to_owned();
        self.run(move |shared| shared.read_whole(&name))
    }

    /// # Panics
    /// When the range is empty or ends before it starts.
    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        assert!(
            range.start < range.end,
            "an empty range of {name} was asked for"
        );
        if let Err(error) = self.shared.check_name("read", name) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let name = name.to_owned();
        self.run(move |shared| shared.read_range(&name, range))
    }

    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        self.shared.try_read(name, offset, buffer)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        self.run(Shared::list)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        if let Err(error) = self.shared.check_name("delete", name) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let name = name.to_owned();
        self.run(move |shared| shared.delete(&name))
    }

    fn url(&self) -> String {
        self.shared.path.display().to_string()
    }
}
