//! The local disk of real programs: a directory of a Linux file system.
//!
//! One process has it at a time (`lock`). Its files are written and read past the page cache where
//! the file system allows that (`access`), and otherwise through it. All that may block runs on
//! threads that may (`threads`); a future only waits for the answer, so dropping it stops nothing.

mod access;
mod aligned;
mod create;
mod errno;
mod file;
mod gather;
mod lock;
mod path;
mod threads;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use tokio::runtime::Handle;

use super::{BoxFuture, DiskError, DiskErrorKind, DiskFile, LocalDisk};
use crate::sync::Arc;
use errno::disk_error;
use file::DirectoryFile;
use lock::Lock;
pub use path::keep_name;
use threads::Threads;

/// How a [`Directory`] works; the defaults are right for all but tests.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DirectoryOptions {
    /// Whether files go past the page cache where the file system allows it.
    pub direct_io: bool,
    /// Whether new files get their space, reserved and written full of zeroes. Where they do not,
    /// overwriting them changes metadata, and may find the disk full.
    pub fill_new_files: bool,
    /// Least unit of writing, 512 or 4096 bytes: what a disk with larger sectors would ask for.
    pub unit_min: usize,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            direct_io: true,
            fill_new_files: true,
            unit_min: 512,
        }
    }
}

/// A directory of a file system, locked for as long as this value or a file of it is there.
#[derive(Debug)]
pub struct Directory {
    place: Arc<Place>,
}

/// What the blocking halves of the requests need. Files have it too, and with it the lock.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: OwnedFd,
    options: DirectoryOptions,
    threads: Threads,
    _lock: Lock,
}

impl Directory {
    /// Opens the directory `path`, which is made, durably, where it is absent, with what is missing
    /// above it. Requests run on the threads that `runtime` has for work that blocks; but a write
    /// that a task asks for which the engine spawned on a multi-threaded runtime is carried out there
    /// and then, as the worker's other tasks can move away, unless the one before took longer than 2 ms;
    /// so such writes of one task never overlap.
    /// This call itself blocks.
    ///
    /// # Errors
    /// `InUse` where another has it, with a message that names who; `Permission` and `NoSpace`
    /// where it cannot be made or its lock not be written, and `Failed` for the rest.
    pub fn open(path: impl Into<PathBuf>, runtime: Handle) -> Result<Arc<Self>, DiskError> {
        Self::open_with(path, runtime, DirectoryOptions::default())
    }

    /// The same with other than the usual options.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(
        path: impl Into<PathBuf>,
        runtime: Handle,
        options: DirectoryOptions,
    ) -> Result<Arc<Self>, DiskError> {
        let path = path.into();
        let directory = path::make_and_open(&path)?;
        let lock = Lock::take(&path, &directory)?;
        Ok(Arc::new(Self {
            place: Arc::new(Place {
                path,
                directory,
                options,
                threads: Threads::new(runtime),
                _lock: lock,
            }),
        }))
    }

    /// Runs `work` where it may block.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Place>) -> Result<T, DiskError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DiskError>> {
        let place = Arc::clone(&self.place);
        Box::pin(self.place.threads.run(move || work(&place)))
    }
}

/// Whether a file of a local disk may have this name: 1 to 255 bytes, no `/`, no NUL, no `.` in
/// front, not `lock`. Whatever else a directory has is neither listed nor opened.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.bytes().any(|byte| byte == b'/' || byte == 0)
        && name != lock::FILE_NAME
}

/// Makes a file or a directory durable with all that belongs to it.
fn sync(file: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::fsync(&file))
}

impl Place {
    /// A file, as messages name it.
    fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn check_name(&self, name: &str) -> Result<(), DiskError> {
        if is_file_name(name) {
            return Ok(());
        }
        let message = format!(
            "{name:?} is no name for a file in {} (1 to 255 bytes, no '/', no NUL, no '.' in \
             front, not \"lock\"); use another name",
            self.path.display()
        );
        Err(DiskError::new(DiskErrorKind::Failed, message))
    }

    /// A descriptor of the directory for one change of it. The kernel tells of a failed write-back
    /// once to every descriptor: on one that all changes share, the first to sync would hear of it
    /// and the others that all is well. Opened before the change, this one hears of all of it.
    fn directory_for_change(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, ".", flags, Mode::empty())
    }

    fn open_file(self: &Arc<Self>, name: &str) -> Result<Option<DirectoryFile>, DiskError> {
        self.check_name(name)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(disk_error(errno, format!("open {}", self.file(name)))),
        };
        DirectoryFile::existing(self, name, file).map(Some)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.check_name(from)?;
        self.check_name(to)?;
        let renamed = self.directory_for_change().and_then(|directory| {
            rustix::fs::renameat(&directory, from, &directory, to)?;
            sync(&directory)
        });
        renamed.map_err(|errno| disk_error(errno, format!("rename {} to {to}", self.file(from))))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.check_name(name)?;
        let removed = self.directory_for_change().and_then(|directory| {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                // Synced all the same: who removed it may not have come to that.
                Ok(()) | Err(Errno::NOENT) => sync(&directory),
                Err(errno) => Err(errno),
            }
        });
        removed.map_err(|errno| disk_error(errno, format!("remove {}", self.file(name))))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let failed = |errno| disk_error(errno, format!("list {}", self.path.display()));
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                // What is no text was not made here and cannot be asked for.
                continue;
            };
            if !is_file_name(name) {
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::statat(&self.directory, name, flags) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                    names.push(name.to_owned());
                }
                // Not a file, or removed since its name was read.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(names)
    }
}

impl LocalDisk for Directory {
    fn open<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn DiskFile>>, DiskError>> {
        let name = name.to_owned();
        self.run(move |place| {
            let file = place.open_file(&name)?;
            Ok(file.map(|file| Arc::new(file) as Arc<dyn DiskFile>))
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn DiskFile>, DiskError>> {
        let name = name.to_owned();
        self.run(move |place| {
            let file = place.create_file(&name, bytes)?;
            Ok(Arc::new(file) as Arc<dyn DiskFile>)
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.run(move |place| place.rename(&from, &to))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        let name = name.to_owned();
        self.run(move |place| place.remove(&name))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<String>, DiskError>> {
        self.run(|place| place.list())
    }

    fn path(&self) -> String {
        self.place.path.display().to_string()
    }
}
