//! Reading objects, waiting for the device or not.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use lsvd::doors::store::{StoreError, StoreErrorKind};
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};

use super::Shared;
use super::errno::store_error;

/// Largest buffer that is allocated on the word of the caller alone. For more the file is asked for
/// its size first, so that a range far past the end is an error and not all of the memory.
const UNCHECKED_BYTES_MAX: u64 = 1 << 20;

impl Shared {
    /// The file of `name`, open for reading.
    fn open_object(&self, name: &str) -> Result<Arc<OwnedFd>, StoreError> {
        if let Some(file) = self.open_files.get(name) {
            return Ok(file);
        }
        let before = self.open_files.forgotten();
        let open = || {
            // A FIFO would let whoever opens it wait for one who writes to it.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            rustix::fs::openat(&self.directory, name, flags, Mode::empty())
        };
        let failed = |errno| store_error(errno, "read", self.object(name));
        let file = Arc::new(self.with_descriptors(open).map_err(failed)?);
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            let error = StoreError::new(StoreErrorKind::Permission, "read", self.object(name));
            return Err(error.because("it is no regular file, so no object; move it away"));
        }
        self.open_files.insert(name, &file, before);
        Ok(file)
    }

    pub(super) fn read_whole(&self, name: &str) -> Result<Bytes, StoreError> {
        let file = self.open_object(name)?;
        let size = self.size(&file, name)?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.read(&file, name, 0..size)
    }

    pub(super) fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let file = self.open_object(name)?;
        if range.end - range.start > UNCHECKED_BYTES_MAX && self.size(&file, name)? < range.end {
            return Err(self.truncated(name, &range));
        }
        self.read(&file, name, range)
    }

    fn size(&self, file: &OwnedFd, name: &str) -> Result<u64, StoreError> {
        let stat = rustix::fs::fstat(file)
            .map_err(|errno| store_error(errno, "read", self.object(name)))?;
        // The kernel knows no negative sizes.
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read(&self, file: &OwnedFd, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let failed = |errno| store_error(errno, "read", self.object(name));
        let len = usize::try_from(range.end - range.start).map_err(|_| failed(Errno::NOMEM))?;
        let mut content: Vec<u8> = Vec::new();
        content
            .try_reserve_exact(len)
            .map_err(|_| failed(Errno::NOMEM))?;
        while content.len() < len {
            let offset = range.start + content.len() as u64;
            match rustix::io::pread(file, spare_capacity(&mut content), offset) {
                Ok(0) => return Err(self.truncated(name, &range)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        // An allocator may give more room than was asked for.
        content.truncate(len);
        Ok(Bytes::from(content))
    }

    fn truncated(&self, name: &str, range: &Range<u64>) -> StoreError {
        StoreError::new(StoreErrorKind::Truncated, "read", self.object(name)).because(format!(
            "bytes {}..{} were asked for",
            range.start, range.end
        ))
    }

    /// Reads what the page cache has; whatever stands in the way is left to the read that waits.
    pub(super) fn try_read(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        let file = self.open_files.get(name)?;
        let wanted = buffer.len();
        let read = rustix::io::preadv2(
            &file,
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        matches!(read, Ok(count) if count == wanted).then_some(Ok(()))
    }
}
