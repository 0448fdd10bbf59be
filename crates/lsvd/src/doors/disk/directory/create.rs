//! Creating a file so that overwriting it later changes no metadata.
//!
//! Space that is reserved but was never written is marked so by the file system; the first write to
//! it changes that mark, and a sync then waits for the file system's journal as well as for the
//! data. Written once with zeroes, the file is overwritten in place from then on.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, ftruncate};
use rustix::io::{Errno, retry_on_intr};

use super::access::{self, Access};
use super::aligned::AlignedBuffer;
use super::errno::disk_error;
use super::file::DirectoryFile;
use super::{DiskError, DiskErrorKind, Place, sync};
use crate::doors::disk::LENGTH_MULTIPLE;
use crate::sync::Arc;

/// Zeroes of one write call.
const PIECE_BYTES: usize = 1 << 20;

impl Place {
    pub(super) fn create_file(
        self: &Arc<Self>,
        name: &str,
        bytes: u64,
    ) -> Result<DirectoryFile, DiskError> {
        self.check_name(name)?;
        if !bytes.is_multiple_of(LENGTH_MULTIPLE) {
            let message = format!(
                "cannot create {} with {bytes} bytes: that is no multiple of {LENGTH_MULTIPLE} (a \
                 mistake of this program; report it)",
                self.file(name)
            );
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        let failed = |errno| {
            disk_error(
                errno,
                format!("create {} with {bytes} bytes", self.file(name)),
            )
        };
        let directory = self.directory_for_change().map_err(failed)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Its content is that of somebody's disk.
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&directory, name, flags, mode).map_err(failed)?;
        let filled = self.fill(&file, bytes).and_then(|access| {
            sync(&file)?;
            sync(&directory)?;
            Ok(access)
        });
        match filled {
            Ok(access) => Ok(DirectoryFile::new(self, name, file, bytes, access)),
            Err(errno) => Err(self.take_back(name, &directory, failed(errno))),
        }
    }

    /// Gives the file its size, its space and its zeroes.
    fn fill(&self, file: &OwnedFd, bytes: u64) -> Result<Access, Errno> {
        if bytes == 0 || !self.options.fill_new_files {
            retry_on_intr(|| ftruncate(file, bytes))?;
            return access::choose(file, &self.options);
        }
        match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
            // Not every file system can do this; the zeroes take the space then.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(errno),
        }
        let access = access::choose_for_new(file, &self.options)?;
        write_zeroes(file, bytes, access)?;
        Ok(access)
    }

    /// Removes what there is of a file that could not be created, and gives the error for it.
    fn take_back(&self, name: &str, directory: &OwnedFd, error: DiskError) -> DiskError {
        let removed =
            rustix::fs::unlinkat(directory, name, AtFlags::empty()).and_then(|()| sync(directory));
        match removed {
            Ok(()) => error,
            Err(errno) => DiskError::new(
                error.kind(),
                format!(
                    "{error}; what there is of it could not be removed: {} (remove {} by hand)",
                    std::io::Error::from(errno),
                    self.file(name)
                ),
            )
            .because(error),
        }
    }
}

fn write_zeroes(file: &OwnedFd, bytes: u64, access: Access) -> Result<(), Errno> {
    let zeroes = AlignedBuffer::zeroed(PIECE_BYTES, access.memory);
    let mut written = 0;
    while written < bytes {
        let piece =
            usize::try_from(bytes - written).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        let piece = zeroes.bytes().get(..piece).unwrap_or_default();
        let count = retry_on_intr(|| rustix::io::pwrite(file, piece, written))?;
        // Where a unit was written in part it is written again, from its start.
        let whole = count - count % access.unit;
        if whole == 0 {
            return Err(Errno::IO);
        }
        written += whole as u64;
    }
    Ok(())
}
