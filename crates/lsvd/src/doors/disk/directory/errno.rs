//! The one table from the operating system's errors to the local disk's.

use rustix::io::Errno;

use super::{DiskError, DiskErrorKind};

/// What to do about an I/O error.
const FAILING: &str = "the disk may be failing; see the system's log";

/// A failed `request`, such as "open /var/lib/x", for which the system gave `errno`.
pub(super) fn disk_error(errno: Errno, request: String) -> DiskError {
    let (kind, advice) = match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => (
            DiskErrorKind::Permission,
            "make it writable for this user, or choose another directory",
        ),
        // EFBIG is the file-size limit of the process: to its user the disk is full.
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (
            DiskErrorKind::NoSpace,
            "free some space, ask for less, or choose a directory on another disk",
        ),
        Errno::NOTDIR => (
            DiskErrorKind::Failed,
            "it, or a part of its path, is not a directory; choose another path",
        ),
        Errno::NAMETOOLONG | Errno::LOOP => (DiskErrorKind::Failed, "choose another path"),
        Errno::MFILE | Errno::NFILE => (DiskErrorKind::Failed, "raise the limit of open files"),
        Errno::IO => (DiskErrorKind::Failed, FAILING),
        // The operating system has hundreds of errors; its own words must do.
        _ => (DiskErrorKind::Failed, "see what the system says"),
    };
    DiskError::new(kind, format!("cannot {request} ({advice})"))
        .because(std::io::Error::from(errno))
}

/// The same for a read of a file that is open. Of what the medium does not give the system says `EIO`
/// or, past the page cache, what the block layer calls a medium error (`ENODATA`) or one of
/// protection (`EILSEQ`).
pub(super) fn read_error(errno: Errno, request: String) -> DiskError {
    match errno {
        Errno::IO | Errno::NODATA | Errno::ILSEQ => {
            let message = format!("cannot {request} ({FAILING})");
            DiskError::new(DiskErrorKind::Unreadable, message).because(std::io::Error::from(errno))
        }
        errno => disk_error(errno, request),
    }
}
