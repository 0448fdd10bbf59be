//! Listing the directory.

use std::os::fd::OwnedFd;

use lsvd::doors::store::{ListedObject, StoreError};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::Shared;
use super::errno::store_error;
use super::lock::LOCK_FILE;

impl Shared {
    /// All regular files but hidden ones and the lock file: those are no objects.
    pub(super) fn list(&self) -> Result<Vec<ListedObject>, StoreError> {
        let failed = |errno| store_error(errno, "list", self.path.display().to_string());
        let mut objects = Vec::new();
        for name in entries(&self.directory).map_err(failed)? {
            // A name that is no text cannot be asked for, so it is no object either.
            let Ok(name) = String::from_utf8(name) else {
                continue;
            };
            if name.starts_with('.') || name == LOCK_FILE {
                continue;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::statat(&self.directory, name.as_str(), flags) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                    objects.push(ListedObject { name, bytes });
                }
                // Not a file, or deleted since its name was read.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(objects)
    }
}

/// The names of all entries of a directory but `.` and `..`.
pub(super) fn entries(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
