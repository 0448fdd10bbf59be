//! Making the directory so that a crash does not take it away again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, syncfs};
use rustix::io::{Errno, retry_on_intr};

use super::errno::disk_error;
use super::{DiskError, sync};

/// Who may look into directories made here: what is in them is the content of somebody's disk.
const OWNER_ONLY: u32 = 0o700;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Opens the directory, which is made with all that is missing above it.
pub(super) fn make_and_open(path: &Path) -> Result<OwnedFd, DiskError> {
    make(path)?;
    open(path).map_err(|errno| disk_error(errno, format!("open directory {}", path.display())))
}

/// Makes the directory where it is not there, and its name durable in any case: who made it may have
/// been killed before that. Nothing is made in a directory before its own name is durable, so that no
/// later run has to look further up.
fn make(path: &Path) -> Result<(), DiskError> {
    let failed = |errno| disk_error(errno, format!("make directory {}", path.display()));
    match rustix::fs::stat(path) {
        Ok(_) => return keep(path),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let above = path
        .parent()
        .map(|above| match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        });
    if let Some(above) = above.filter(|above| *above != path) {
        make(above)?;
    }
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(OWNER_ONLY)) {
        // Somebody else may have made it meanwhile.
        Ok(()) | Err(Errno::EXIST) => keep(path),
        Err(errno) => Err(failed(errno)),
    }
}

fn keep(path: &Path) -> Result<(), DiskError> {
    let directory = match open(path) {
        Ok(directory) => directory,
        // Who may not read it did not make it.
        Err(Errno::ACCESS) => return Ok(()),
        Err(errno) => {
            let request = format!("open directory {}", path.display());
            return Err(disk_error(errno, request));
        }
    };
    keep_name(directory).map_err(|errno| {
        let request = format!("sync the parent of directory {}", path.display());
        disk_error(errno, request)
    })
}

/// Makes the name of an open directory durable, which what is in it depends on.
///
/// # Errors
/// That of the sync: the name may go with the power then, and the directory with it.
#[doc(hidden)]
pub fn keep_name(directory: impl AsFd) -> Result<(), Errno> {
    // Not by its path, whose last part may be a link or no name at all.
    let parent = openat(&directory, c"..", DIRECTORY, Mode::empty());
    match parent.and_then(sync) {
        // Who may not read the parent may have made something in it nevertheless.
        Err(Errno::ACCESS | Errno::INVAL | Errno::ROFS | Errno::OPNOTSUPP | Errno::NOSYS) => {
            retry_on_intr(|| syncfs(&directory))
        }
        done => done,
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}
