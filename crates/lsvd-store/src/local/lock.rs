//! Who may write to the directory: a lock on the directory itself, and for the writer of a volume
//! that lasts a lock file as well, which says who it is.
//!
//! The locks spare people a mistake on one machine; what protects the volume is fencing. So whoever
//! takes a volume over may go past them, and a lock file that was removed by hand harms nobody.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use lsvd::{Error, ErrorKind};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::create::under_hidden_name;
use super::directory::failed;

/// Name of the lock file. It is no object.
pub(super) const LOCK_FILE: &str = "lsvd.lock";

/// Longest content of a lock file that is looked at.
const CONTENT_BYTES_MAX: usize = 512;

/// How often the lock file may be replaced by another while it is being locked.
const ATTEMPTS: u32 = 16;

/// What whoever is refused may do instead.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instead {
    ChooseAnother,
    TakeOver,
}

/// The lock file, locked until this is dropped.
#[derive(Debug)]
pub(super) struct LockFile(OwnedFd);

impl Drop for LockFile {
    fn drop(&mut self) {
        // It names nobody any more. Where that fails it names a process that is gone, which is told
        // apart by the lock. Closing would not unlock while a child process has the descriptor, too.
        let _ = rustix::fs::ftruncate(&self.0, 0);
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes this the one writer of the directory, until the descriptor is closed: two would create
/// the same names, and each would take the other's objects for its own.
///
/// The lock is on the directory itself, so it needs no file and a crash leaves none.
pub(super) fn lock(path: &Path, directory: &OwnedFd, instead: Instead) -> lsvd::Result<()> {
    match flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(in_use(path, directory, instead)),
        // So it is with NFS, which locks nothing that is not open for writing.
        Err(errno @ (Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)) => {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "cannot lock directory {} against a second writer (choose one on a file system \
                     that locks directories, as ext4 or XFS)",
                    path.display()
                ),
            )
            .because(std::io::Error::from(errno)))
        }
        Err(errno) => Err(failed("lock", path, errno)),
    }
}

/// Locks the lock file, which is made where there is none.
pub(super) fn lock_file(
    path: &Path,
    directory: &OwnedFd,
    instead: Instead,
) -> lsvd::Result<LockFile> {
    for _ in 0..ATTEMPTS {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = open(directory, flags).map_err(|errno| not_locked(path, errno))?;
        check_ours(path, &file)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(path, directory, instead)),
            Err(errno) => return Err(not_locked(path, errno)),
        }
        // Whoever took over meanwhile has put a file of its own there.
        if is_named(directory, &file).map_err(|errno| not_locked(path, errno))? {
            sign(&file).map_err(|errno| not_locked(path, errno))?;
            return Ok(LockFile(file));
        }
    }
    Err(not_locked(path, Errno::AGAIN))
}

/// Puts a new lock file, locked, in the place of the one that is there, whoever has that locked.
pub(super) fn replace_lock_file(path: &Path, directory: &OwnedFd) -> lsvd::Result<LockFile> {
    match open(
        directory,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
    ) {
        Ok(file) => check_ours(path, &file)?,
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(not_locked(path, errno)),
    }
    let replace = || {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let open = |name: &str| rustix::fs::openat(directory, name, flags, mode);
        let (file, name) = under_hidden_name(open)?;
        let renamed = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| sign(&file))
            .and_then(|()| rustix::fs::renameat(directory, name.as_str(), directory, LOCK_FILE));
        if renamed.is_err() {
            // The error is what counts; a file with a hidden name is removed at the next opening.
            let _ = rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty());
        }
        renamed.map(|()| LockFile(file))
    };
    replace().map_err(|errno| not_locked(path, errno))
}

fn open(directory: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::openat(directory, LOCK_FILE, flags | OFlags::CLOEXEC, mode)
}

/// Refuses a file that somebody else keeps under this name.
fn check_ours(path: &Path, file: &OwnedFd) -> lsvd::Result<()> {
    let stat = rustix::fs::fstat(file).map_err(|errno| not_locked(path, errno))?;
    let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
    let ours = is_file && {
        let content = content(file).map_err(|errno| not_locked(path, errno))?;
        content.is_empty() || Holder::parse(&content).is_some()
    };
    if ours {
        return Ok(());
    }
    let file = path.join(LOCK_FILE);
    let message = format!(
        "{} is needed as a lock and is something else: move it away, or choose another directory",
        file.display()
    );
    Err(Error::new(ErrorKind::NotEmpty, message))
}

/// Whether the lock file's name leads to `file`.
fn is_named(directory: &OwnedFd, file: &OwnedFd) -> Result<bool, Errno> {
    let ours = rustix::fs::fstat(file)?;
    match rustix::fs::statat(directory, LOCK_FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Writes down who holds the lock.
fn sign(file: &OwnedFd) -> Result<(), Errno> {
    let line = format!("{}\n", Holder::this());
    rustix::fs::ftruncate(file, 0)?;
    let written = rustix::io::pwrite(file, line.as_bytes(), 0)?;
    if written == line.len() {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}

fn content(file: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = [0; CONTENT_BYTES_MAX];
    let len = rustix::io::pread(file, &mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// The process that holds a lock.
struct Holder {
    pid: String,
    host: String,
}

impl Holder {
    fn this() -> Self {
        let host = rustix::system::uname();
        Self {
            pid: std::process::id().to_string(),
            host: host.nodename().to_string_lossy().into_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        match [(); 5].map(|()| words.next()) {
            [Some("pid"), Some(pid), Some("host"), host, None] => Some(Self {
                pid: pid
                    .bytes()
                    .all(|b| b.is_ascii_digit())
                    .then(|| pid.to_owned())?,
                host: host.unwrap_or_default().to_owned(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} host {}", self.pid, self.host)
    }
}

/// The directory has a writer; the lock file tells who, if one is there.
fn in_use(path: &Path, directory: &OwnedFd, instead: Instead) -> Error {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let line = open(directory, flags).and_then(|file| content(&file));
    let who = match line.ok().as_deref().and_then(Holder::parse) {
        Some(Holder { pid, host }) => format!("process {pid} on host {host}"),
        None => "another process, or by another volume of this one".to_owned(),
    };
    let instead = match instead {
        Instead::ChooseAnother => "choose another directory",
        Instead::TakeOver => "take the volume over from it (--take-over)",
    };
    let path = path.display();
    let message = format!("directory {path} is in use by {who}; stop that one, or {instead}");
    Error::new(ErrorKind::InUse, message)
}

fn not_locked(path: &Path, errno: Errno) -> Error {
    failed("use the lock file in", path, errno)
}
