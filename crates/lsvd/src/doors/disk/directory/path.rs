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
    make(path)?;
    open(path).map_err(|errno| disk_error(errno, format!("open directory {}", path.display())))
}

/// Makes the directory where it is not there, and its name durable in any case.
fn make(path: &Path) -> Result<(), DiskError> {
    let failed = |errno| disk_error(errno, format!("make directory {}", path.display()));
    let mode = Mode::from_raw_mode(OWNER_ONLY);
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    match rustix::fs::mkdirat(CWD, path, mode) {
        Ok(()) => {
            if let Some(above) = above {
                keep_name(above, Made::Earlier)?;
            }
            keep_name(path, Made::Now)
        }
        Err(Errno::EXIST) => keep_name(path, Made::Earlier),
        Err(Errno::NOENT) => {
            make(above.ok_or_else(|| failed(Errno::NOENT))?)?;
            match rustix::fs::mkdirat(CWD, path, mode) {
                // Somebody else made it meanwhile.
                Ok(()) | Err(Errno::EXIST) => keep_name(path, Made::Now),
                Err(errno) => Err(failed(errno)),
            }
        }
        // A directory that is there is as good, whatever is refused.
        Err(errno) => match open(path) {
            Ok(_) => keep_name(path, Made::Earlier),
            Err(_) => Err(failed(errno)),
        },
    }
}

/// When a directory was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Now,
    /// By whomever, who may have been killed before its name was synced.
    Earlier,
}

/// Makes the name of a directory durable.
fn keep_name(path: &Path, made: Made) -> Result<(), DiskError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root has none.
        None => return Ok(()),
    };
    match open(parent).and_then(sync) {
        Ok(()) => Ok(()),
        // Who may not read the parent did not make anything in it, and nobody did where nothing can be
        // made or synced.
        Err(Errno::ACCESS | Errno::INVAL | Errno::ROFS) if made == Made::Earlier => Ok(()),
        Err(errno) => {
            let request = format!("sync the parent of directory {}", path.display());
            Err(disk_error(errno, request))
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
