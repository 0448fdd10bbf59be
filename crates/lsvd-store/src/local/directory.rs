//! Opening the directory, and finding out what its file system can do.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsvd::doors::disk::keep_name;
use lsvd::words::name::{ObjectKind, ObjectName};
use lsvd::{Error, ErrorKind};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::create::{Creation, HIDDEN_PREFIX, LinkBy, NewFile, under_hidden_name};
use super::list::entries;
use super::lock::{Instead, LOCK_FILE, LockFile, lock, lock_file, replace_lock_file};
use super::open_files::OpenFiles;
use super::{LocalDirectory, Shared};

/// Name of the subdirectory for what belongs to this machine alone: the write log and the cache.
pub(crate) const LOCAL_STATE: &str = "cache";

/// File systems (`statfs` numbers) whose sync of an unnamed file makes its bytes and size durable
/// for the name that it gets later: ext2 to ext4, XFS, tmpfs. Not so btrfs, which logs nothing for
/// a file without names, so that a name could come back from a crash with an empty file behind it.
const UNNAMED_IS_DURABLE: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// What is done where there is no volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is refused.
    Refuse,
    /// A place for one is made, where nothing else is.
    Make,
}

/// What is done where another writer has the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// This one is refused.
    Refuse,
    /// Its locks are gone past: it will be fenced.
    TakeOver,
}

impl LocalDirectory {
    /// Opens the directory `path`, which must exist. Files that a crashed process left half written
    /// are removed. Until the last clone is dropped nobody else can open it for writing.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` where it is no directory, `InUse` where it is open for writing
    /// already, `Permission` where files cannot be created in it, `NoSpace`, and
    /// `Unavailable` for the rest.
    pub fn open(path: impl Into<PathBuf>) -> lsvd::Result<Self> {
        let path = path.into();
        let directory = open_directory(&path)?;
        lock(&path, &directory, Instead::ChooseAnother)?;
        remove_half_written(&path, &directory)?;
        let creation = probe(&path, &directory)?;
        Ok(Self::with(path, directory, Some(creation), None))
    }

    /// Opens the directory `path` for the writer of a volume that lasts: a lock file in it names this
    /// process to whoever would open it as well.
    ///
    /// The directory must hold a volume, or what is left of one. With [`Missing::Make`] it may be
    /// absent or empty, too. A directory of somebody else is refused and not touched.
    ///
    /// # Errors
    /// `NotFound` where there is no volume, `NotEmpty` where there is anything else, `InUse` where
    /// another writer has it, whom the message names, unless this one [takes
    /// over](Occupied::TakeOver); and those of [`open`](Self::open).
    pub fn open_volume(
        path: impl Into<PathBuf>,
        missing: Missing,
        occupied: Occupied,
    ) -> lsvd::Result<Self> {
        let path = path.into();
        let directory = match missing {
            Missing::Make => make_directory(&path)?,
            Missing::Refuse => open_directory(&path)?,
        };
        let instead = match missing {
            Missing::Refuse => Instead::TakeOver,
            // There is nothing yet that could be taken over.
            Missing::Make => Instead::ChooseAnother,
        };
        let locked = match (lock(&path, &directory, instead), occupied) {
            (Err(error), Occupied::TakeOver) if error.kind() == ErrorKind::InUse => false,
            (locked, _) => locked.map(|()| true)?,
        };
        check_volume(&path, &directory, missing)?;
        // What a living writer has half written is its own, so both locks come before the removal; and
        // that before the probe, or what killed probes left would grow with each that is killed.
        let (creation, lock_file) = match occupied {
            Occupied::Refuse => {
                let lock_file = lock_file(&path, &directory, instead)?;
                remove_half_written(&path, &directory)?;
                (probe(&path, &directory)?, lock_file)
            }
            // Nobody is pushed aside for a directory that is of no use.
            Occupied::TakeOver => {
                let creation = probe(&path, &directory)?;
                let lock_file = replace_lock_file(&path, &directory)?;
                if locked {
                    remove_half_written(&path, &directory)?;
                }
                (creation, lock_file)
            }
        };
        Ok(Self::with(path, directory, Some(creation), Some(lock_file)))
    }

    /// Opens the directory `path`, which must exist, and changes nothing in it: it need not be
    /// writable, and what others are writing there stays. `put` and `delete` are refused.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` where it is no directory, `Permission` where it cannot be read,
    /// and `Unavailable` for the rest.
    pub fn open_read_only(path: impl Into<PathBuf>) -> lsvd::Result<Self> {
        let path = path.into();
        let directory = open_directory(&path)?;
        Ok(Self::with(path, directory, None, None))
    }

    /// Opens the empty directory `path`, which is made if it is absent. Its parent must exist: a
    /// mistyped path would otherwise fill a disk that nobody meant.
    ///
    /// # Errors
    /// `NotEmpty` where anything is in it but half-written files, and those of [`open`](Self::open).
    pub fn create_empty(path: impl Into<PathBuf>) -> lsvd::Result<Self> {
        let path = path.into();
        let directory = make_directory(&path)?;
        // In this order: who reads that it is not empty may remove what is in it, and that must not
        // be what another is writing there.
        lock(&path, &directory, Instead::ChooseAnother)?;
        check_empty(&path, &directory)?;
        remove_half_written(&path, &directory)?;
        let creation = probe(&path, &directory)?;
        Ok(Self::with(path, directory, Some(creation), None))
    }

    fn with(
        path: PathBuf,
        directory: OwnedFd,
        creation: Option<Creation>,
        lock_file: Option<LockFile>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                path,
                directory,
                creation,
                lock_file,
                open_files: OpenFiles::new(),
            }),
        }
    }

    /// The same with files under hidden names, as on file systems that cannot do without.
    #[doc(hidden)]
    pub fn open_with_hidden_names(path: impl Into<PathBuf>) -> lsvd::Result<Self> {
        let path = path.into();
        let directory = open_directory(&path)?;
        lock(&path, &directory, Instead::ChooseAnother)?;
        remove_half_written(&path, &directory)?;
        Ok(Self::with(path, directory, Some(Creation::Hidden), None))
    }
}

/// Opens the directory, which is made where it is not there. Its name is made durable in any case: the
/// objects in it are only as durable as that, and who made it may have been killed before.
fn make_directory(path: &Path) -> lsvd::Result<OwnedFd> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::NOENT) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "cannot make directory {}: its parent directory does not exist; make that \
                     first, or choose another path",
                    path.display()
                ),
            ));
        }
        Err(errno) => return Err(failed("make", path, errno)),
    }
    let directory = open_directory(path)?;
    keep_name(&directory).map_err(|errno| failed("sync the parent of", path, errno))?;
    Ok(directory)
}

fn open_directory(path: &Path) -> lsvd::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        // It would be opened in the same way where nothing is to be written.
        Errno::ACCESS | Errno::PERM => Error::new(
            ErrorKind::Permission,
            format!(
                "cannot open directory {} (make it readable for this user, or choose another path)",
                path.display()
            ),
        )
        .because(std::io::Error::from(errno)),
        errno => failed("open", path, errno),
    })
}

/// Refuses a directory that has entries, unless they are what a crashed process left half written.
/// Changes nothing: what is refused is not ours.
fn check_empty(path: &Path, directory: &OwnedFd) -> lsvd::Result<()> {
    let mut found = entries(directory).map_err(|errno| failed("read", path, errno))?;
    found.retain(|name| !name.starts_with(HIDDEN_PREFIX.as_bytes()));
    refuse_foreign(path, &found)
}

/// Refuses a directory that neither has a volume nor can become one's. Changes nothing.
fn check_volume(path: &Path, directory: &OwnedFd, missing: Missing) -> lsvd::Result<()> {
    let mut found = entries(directory).map_err(|errno| failed("read", path, errno))?;
    let is_superblock = |name: &Vec<u8>| {
        let name = std::str::from_utf8(name).ok().and_then(ObjectName::parse);
        name.is_some_and(|name| name.kind == ObjectKind::Superblock)
    };
    if found.iter().any(is_superblock) {
        return Ok(());
    }
    // What is there when a creation was cut short.
    let begun = |name: &Vec<u8>| {
        let name = name.as_slice();
        name.starts_with(HIDDEN_PREFIX.as_bytes())
            || name.starts_with(b"probe.")
            || name == LOCK_FILE.as_bytes()
            || name == LOCAL_STATE.as_bytes()
    };
    found.retain(|name| !begun(name));
    match missing {
        Missing::Make => refuse_foreign(path, &found),
        Missing::Refuse => Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no volume in {}", path.display()),
        )),
    }
}

/// Refuses a directory in which something was `found`, and names that: the lock file last, which
/// tells nobody what the directory is.
fn refuse_foreign(path: &Path, found: &[Vec<u8>]) -> lsvd::Result<()> {
    let telling = |name: &&Vec<u8>| (name.as_slice() == LOCK_FILE.as_bytes(), name.to_vec());
    let Some(first) = found.iter().min_by_key(telling) else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::NotEmpty,
        format!(
            "directory {} is not empty ({} entries, one is {:?}); choose another, or remove what \
             is in it",
            path.display(),
            found.len(),
            String::from_utf8_lossy(first),
        ),
    ))
}

fn remove_half_written(path: &Path, directory: &OwnedFd) -> lsvd::Result<()> {
    for name in entries(directory).map_err(|errno| failed("read", path, errno))? {
        if !name.starts_with(HIDDEN_PREFIX.as_bytes()) {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("remove a half-written file from", path, errno)),
        }
    }
    Ok(())
}

/// The best way to create files here; tried out with a file that is gone when this returns, so a
/// directory that cannot be written to is refused now and not at the first upload.
fn probe(path: &Path, directory: &OwnedFd) -> lsvd::Result<Creation> {
    let kind = rustix::fs::fstatfs(directory).map_err(|errno| failed("examine", path, errno))?;
    let kind = u64::try_from(kind.f_type).unwrap_or(0);
    if UNNAMED_IS_DURABLE.contains(&kind) {
        for link_by in [LinkBy::Descriptor, LinkBy::Proc] {
            if try_creation(directory, Creation::Unnamed(link_by)).is_ok() {
                return Ok(Creation::Unnamed(link_by));
            }
        }
    }
    // Whatever went wrong above, what goes wrong here is what the user must know.
    match try_creation(directory, Creation::Hidden) {
        Ok(()) => Ok(Creation::Hidden),
        Err(errno) => Err(failed("create files in", path, errno)),
    }
}

fn try_creation(directory: &OwnedFd, creation: Creation) -> Result<(), Errno> {
    let new = NewFile::create(directory, creation)?;
    let ((), name) = under_hidden_name(|name| new.link(name))?;
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
}

/// A failed `step` of opening the directory, with what to do about it.
pub(super) fn failed(step: &str, path: &Path, errno: Errno) -> Error {
    let (kind, advice) = match errno {
        Errno::NOENT => (ErrorKind::NotFound, "make it, or choose another path"),
        Errno::NOTDIR => (
            ErrorKind::InvalidArgument,
            "it, or a part of its path, is not a directory; choose another path",
        ),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => (
            ErrorKind::Permission,
            "make it writable for this user on a file system with hard links, or choose another \
             path",
        ),
        Errno::NOSPC | Errno::DQUOT => (ErrorKind::NoSpace, "free some space, or choose another"),
        Errno::NAMETOOLONG | Errno::LOOP | Errno::INVAL => {
            (ErrorKind::InvalidArgument, "choose another path")
        }
        _ => (ErrorKind::Unavailable, "see what the system says"),
    };
    Error::new(
        kind,
        format!("cannot {step} directory {} ({advice})", path.display()),
    )
    .because(std::io::Error::from(errno))
}
