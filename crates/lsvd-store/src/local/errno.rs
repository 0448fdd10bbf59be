//! The one table from the operating system's errors to the store's.

use lsvd::doors::store::{StoreError, StoreErrorKind};
use rustix::io::Errno;

/// A failed `request` on `object` for which the system gave `errno`.
pub(super) fn store_error(errno: Errno, request: &'static str, object: String) -> StoreError {
    StoreError::new(kind(errno), request, object).because(std::io::Error::from(errno))
}

fn kind(errno: Errno) -> StoreErrorKind {
    match errno {
        Errno::NOENT => StoreErrorKind::NotFound,
        Errno::EXIST => StoreErrorKind::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreErrorKind::Permission,
        // EFBIG is the file-size limit of the process: to its user the store is full.
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreErrorKind::NoSpace,
        // The operating system has hundreds of errors, and the rest may pass when repeated.
        _ => StoreErrorKind::Unavailable,
    }
}
