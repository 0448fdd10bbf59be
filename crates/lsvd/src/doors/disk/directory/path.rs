//! Making the directory so that a crash does not take it away again.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::errno::disk_error;
use super::{DiskError, sync};

/// Who may look into directories made here: what is in them is the content of somebody's disk.
const OWNER_ONLY: u32 = 0o700;

/// Opens the directory, which is made with all that is missing above it.
pub(super) fn make_and_open(path: &Path) -> Result<OwnedFd, DiskError> {
    let made = make(path)?;
    // Also where it was there: whoever made it may not have come to the sync.
    match sync_parent(path) {
        Ok(()) => {}
        // Who may not read the parent did not make anything in it.
        Err(Errno::ACCESS) if made == Made::No => {}
        Err(errno) => {
            let request = format!("sync the parent of directory {}", path.display());
            return Err(disk_error(errno, request));
        }
    }
    open(path).map_err(|errno| disk_error(errno, format!("open directory {}", path.display())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Yes,
    No,
}

fn make(path: &Path) -> Result<Made, DiskError> {
    let failed = |errno| disk_error(errno, format!("make directory {}", path.display()));
    let mode = Mode::from_raw_mode(OWNER_ONLY);
    match rustix::fs::mkdirat(CWD, path, mode) {
        Ok(()) => return Ok(Made::Yes),
        Err(Errno::EXIST) => return Ok(Made::No),
        Err(Errno::NOENT) => {}
        // A directory that is there is as good, whatever is refused.
        Err(errno) => return open(path).map(|_| Made::No).map_err(|_| failed(errno)),
    }
    let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) else {
        return Err(failed(Errno::NOENT));
    };
    if make(above)? == Made::Yes {
        sync_parent(above).map_err(failed)?;
    }
    match rustix::fs::mkdirat(CWD, path, mode) {
        // Somebody else made it meanwhile, and may not have synced it.
        Ok(()) | Err(Errno::EXIST) => Ok(Made::Yes),
        Err(errno) => Err(failed(errno)),
    }
}

fn sync_parent(path: &Path) -> Result<(), Errno> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root has none.
        None => return Ok(()),
    };
    sync(open(parent)?)
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
