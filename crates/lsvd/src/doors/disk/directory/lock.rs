//! The lock of the directory: one process has it, and who is refused is told which.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate};
use rustix::io::Errno;

use super::errno::disk_error;
use super::{DiskError, DiskErrorKind};

/// The file that is locked. It stays when the lock is given up: removed, it could be locked by one
/// who opened it before, while the next one locks a new file of that name.
pub(super) const FILE_NAME: &str = "lock";

/// Longest description of a holder that is read, in bytes.
const HOLDER_BYTES_MAX: usize = 256;

/// The lock, until it is dropped. The kernel gives it up when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: OwnedFd,
}

impl Lock {
    pub(super) fn take(path: &Path, directory: &OwnedFd) -> Result<Self, DiskError> {
        let request = |verb: &str| format!("{verb} {}", path.join(FILE_NAME).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(directory, FILE_NAME, flags, mode)
            .map_err(|errno| disk_error(errno, request("open")))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(path, &file)),
            Err(errno) => return Err(disk_error(errno, request("lock"))),
        }
        // From here on dropping it gives the lock up.
        let lock = Self { file };
        match lock.name_holder() {
            // The log has its space already, and a volume opens on a full disk too: who is refused is
            // told less.
            Ok(()) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(lock),
            Err(errno) => Err(disk_error(errno, request("write"))),
        }
    }

    fn name_holder(&self) -> Result<(), Errno> {
        let holder = format!("{} {}\n", std::process::id(), command_name());
        ftruncate(&self.file, 0)?;
        let written = rustix::io::pwrite(&self.file, holder.as_bytes(), 0)?;
        // So few bytes are written whole or not at all, for want of space.
        if written == holder.len() {
            Ok(())
        } else {
            Err(Errno::NOSPC)
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody is to be told of a holder that is gone. Where this fails the next holder, who
        // overwrites it, is at most named a moment late.
        let _ = ftruncate(&self.file, 0);
        // Closing would not do while a child process, forked and about to become another program,
        // has the descriptor too.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// The program's name as the system shows it in its list of processes.
fn command_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    match name.trim() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

fn in_use(path: &Path, file: &OwnedFd) -> DiskError {
    let mut holder = [0; HOLDER_BYTES_MAX];
    let read = rustix::io::pread(file, &mut holder, 0).unwrap_or(0);
    let holder = String::from_utf8_lossy(holder.get(..read).unwrap_or_default());
    let mut words = holder.split_whitespace();
    let who = match (words.next().map(str::parse::<u32>), words.next()) {
        (Some(Ok(id)), _) if id == std::process::id() => {
            "another volume of this process; close that one".to_owned()
        }
        (Some(Ok(id)), name) => {
            let name = name.unwrap_or("unknown");
            format!("process {id} ({name}); end that process")
        }
        // Its name is not written yet, or the disk is full.
        _ => "another process, which has just started; end that process".to_owned(),
    };
    let message = format!(
        "directory {} is in use by {who}, or choose another directory",
        path.display()
    );
    DiskError::new(DiskErrorKind::InUse, message)
}
