//! A file of the directory: writing, syncing, reading.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};

use super::access::{self, Access};
use super::aligned::AlignedBuffer;
use super::errno::{disk_error, read_error};
use super::gather::Gathered;
use super::{DiskError, DiskErrorKind, Place};
use crate::doors::BoxFuture;
use crate::doors::disk::{DiskFile, DiskWrite, WriteDurability};
use crate::sync::{Arc, Mutex};

/// Most pieces that the kernel takes in one call.
const PIECES_MAX: usize = 1024;

/// A file of a directory.
#[derive(Debug)]
pub(super) struct DirectoryFile {
    pub(super) shared: Arc<OpenFile>,
}

/// What the blocking halves of the requests need.
#[derive(Debug)]
pub(super) struct OpenFile {
    place: Arc<Place>,
    name: String,
    file: OwnedFd,
    bytes: u64,
    access: Access,
    pub(super) syncs: Mutex<Syncs>,
}

/// The syncs of a file, one at a time. The kernel tells of what it could not write back to one sync
/// only; the others, also those whose data it was, would hear that all is well.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    pub(super) failed: u64,
}

impl OpenFile {
    fn failed(&self, errno: Errno, verb: &str, offset: u64, len: u64) -> DiskError {
        disk_error(errno, self.request(verb, offset, len))
    }

    /// What was asked, as messages say it.
    fn request(&self, verb: &str, offset: u64, len: u64) -> String {
        let file = self.place.file(&self.name);
        format!("{verb} bytes {offset}..{} of {file}", offset + len)
    }

    /// Refuses what is not in whole units inside the file.
    fn check(&self, verb: &str, offset: u64, len: u64) -> Result<(), DiskError> {
        let unit = self.access.unit as u64;
        let end = offset.checked_add(len);
        let inside = end.is_some_and(|end| end <= self.bytes);
        if inside && offset.is_multiple_of(unit) && len.is_multiple_of(unit) {
            return Ok(());
        }
        let message = format!(
            "cannot {verb} {len} bytes at {offset} of {}: it has {} bytes, in units of {unit} (a \
             mistake of this program; report it)",
            self.place.file(&self.name),
            self.bytes
        );
        Err(DiskError::new(DiskErrorKind::Failed, message))
    }

    fn write(&self, writes: &[DiskWrite], durability: WriteDurability) -> Result<(), DiskError> {
        let failed_before = self.syncs.lock().failed;
        for write in writes {
            let len = write.parts.iter().map(|part| part.len() as u64).sum();
            self.check("write", write.offset, len)?;
            self.write_one(write)
                .map_err(|errno| self.failed(errno, "write", write.offset, len))?;
        }
        match durability {
            WriteDurability::Unsynced => Ok(()),
            WriteDurability::Synced => self.sync(failed_before),
        }
    }

    fn write_one(&self, write: &DiskWrite) -> Result<(), Errno> {
        let gathered = Gathered::new(write, self.access);
        let pwritev = |slices: &[IoSlice<'_>], offset| {
            retry_on_intr(|| rustix::io::pwritev(&self.file, slices, offset))
        };
        write_all(
            &mut gathered.slices(),
            write.offset,
            self.access.unit,
            pwritev,
        )
    }

    /// Makes durable all that was written; `failed_before` is how many syncs had failed when the
    /// first of it was.
    pub(super) fn sync(&self, failed_before: u64) -> Result<(), DiskError> {
        let mut syncs = self.syncs.lock();
        let synced = retry_on_intr(|| rustix::fs::fdatasync(&self.file));
        if synced.is_err() {
            syncs.failed += 1;
        }
        match synced {
            Ok(()) if syncs.failed == failed_before => Ok(()),
            // Another sync was told, perhaps of this one's data.
            Ok(()) => Err(self.failed(Errno::IO, "sync", 0, self.bytes)),
            Err(errno) => Err(self.failed(errno, "sync", 0, self.bytes)),
        }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.check("read", offset, len as u64)?;
        let failed = |errno| read_error(errno, self.request("read", offset, len as u64));
        let mut buffer = AlignedBuffer::zeroed(len, self.access.memory);
        let pread = |rest: &mut [u8], offset| {
            retry_on_intr(|| rustix::io::pread(&self.file, &mut *rest, offset))
        };
        let filled = read_all(buffer.bytes_mut(), offset, self.access.unit, pread);
        if filled.map_err(failed)? < len {
            let message = format!(
                "cannot read bytes {offset}..{} of {}: it had {} bytes when it was opened, and now \
                 has less (another program cut it)",
                offset + len as u64,
                self.place.file(&self.name),
                self.bytes
            );
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        Ok(buffer.freeze())
    }
}

/// Writes all slices, one behind the other from `offset` on, with as many calls of `pwritev` as it
/// takes.
pub(super) fn write_all(
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
    unit: usize,
    pwritev: impl Fn(&[IoSlice<'_>], u64) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    while !slices.is_empty() {
        let batch = slices.get(..PIECES_MAX).unwrap_or(slices);
        let count = pwritev(batch, offset)?;
        // Where a unit was written in part it is written again, from its start.
        let whole = count - count % unit;
        if whole == 0 {
            return Err(Errno::IO);
        }
        IoSlice::advance_slices(&mut slices, whole);
        offset += whole as u64;
    }
    Ok(())
}

/// Fills the buffer from `offset` on, with as many calls of `pread` as it takes, and gives how many
/// bytes there were before the end of the file.
pub(super) fn read_all(
    buffer: &mut [u8],
    offset: u64,
    unit: usize,
    pread: impl Fn(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        let count = pread(&mut buffer[filled..], offset + filled as u64)?;
        // Where a unit was read in part it is read again, from its start.
        let whole = count - count % unit;
        if whole == 0 {
            break;
        }
        filled += whole;
    }
    Ok(filled)
}

impl DirectoryFile {
    /// A file of `bytes` bytes.
    pub(super) fn new(
        place: &Arc<Place>,
        name: &str,
        file: OwnedFd,
        bytes: u64,
        access: Access,
    ) -> Self {
        let shared = Arc::new(OpenFile {
            place: Arc::clone(place),
            name: name.to_owned(),
            file,
            bytes,
            access,
            syncs: Mutex::new(Syncs::default()),
        });
        Self { shared }
    }

    /// A file that was found.
    pub(super) fn existing(
        place: &Arc<Place>,
        name: &str,
        file: OwnedFd,
    ) -> Result<Self, DiskError> {
        let failed = |errno| disk_error(errno, format!("examine {}", place.file(name)));
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            let message = format!("{} is not a file; move it away", place.file(name));
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        // The kernel knows no negative sizes.
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let access = access::choose(&file, &place.options).map_err(failed)?;
        Ok(Self::new(place, name, file, bytes, access))
    }
}

impl DiskFile for DirectoryFile {
    fn block_bytes(&self) -> usize {
        self.shared.access.unit
    }

    fn len(&self) -> u64 {
        self.shared.bytes
    }

    fn write(
        &self,
        writes: Vec<DiskWrite>,
        durability: WriteDurability,
    ) -> BoxFuture<'_, Result<(), DiskError>> {
        let file = Arc::clone(&self.shared);
        let work = move || file.write(&writes, durability);
        Box::pin(self.shared.place.threads.run_in_place(work))
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        // Never in place: of the parts of one read, all in one task, each would wait for the last.
        let file = Arc::clone(&self.shared);
        let work = move || file.read(offset, len);
        Box::pin(self.shared.place.threads.run(work))
    }
}
