//! Creating an object so that its name appears only when its bytes are on the disk.
//!
//! write -> sync the file -> link it exclusively -> sync the directory. The exclusive link is the one
//! thing that decides a race of creators.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lsvd::doors::store::StoreError;
use lsvd::words::planted::{self, Fault};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::Shared;
use super::errno::store_error;

/// What the names of files that are being written begin with. Nothing else may begin so: such
/// files are removed when the directory is opened.
pub(super) const HIDDEN_PREFIX: &str = ".lsvd-new.";

/// Bytes of one write call. The parts of a body are small and many, and gathering them into a piece
/// that stays in the processor's cache costs a third less time than giving the kernel a list of
/// them. The disk starts on each piece while the next is gathered; in smaller pieces its requests
/// get too small.
const PIECE_BYTES: usize = 512 << 10;

/// How a file exists before it has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// Without any name; the kernel removes it when the process dies.
    Unnamed(LinkBy),
    /// Under a hidden temporary name.
    Hidden,
}

/// How an unnamed file is named to the kernel when it is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkBy {
    /// By its descriptor; older kernels allow that to the superuser only.
    Descriptor,
    /// By its path in `/proc`, which must be mounted.
    Proc,
}

/// Numbers the hidden names of this process.
static HIDDEN_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Most hidden names that are tried for one file. Taken ones are of what is being written and of what
/// killed processes left, which is far less.
const HIDDEN_NAMES_MAX: u32 = 1 << 12;

/// Has `make` make a file under a hidden name, and gives the name. Processes in containers and on
/// other hosts have the same ids, so a name may be another's, who is at work or was killed.
pub(super) fn under_hidden_name<T>(
    make: impl Fn(&str) -> Result<T, Errno>,
) -> Result<(T, String), Errno> {
    for _ in 0..HIDDEN_NAMES_MAX {
        let number = HIDDEN_NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{HIDDEN_PREFIX}{}.{number}", std::process::id());
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (made, name)),
        }
    }
    // Not "it exists", which would be taken for a word on the object that is created.
    Err(Errno::BUSY)
}

/// A file that has no name as an object yet. Dropping it removes what there is of it.
#[derive(Debug)]
pub(super) struct NewFile<'a> {
    directory: &'a OwnedFd,
    file: Arc<OwnedFd>,
    hidden: Option<String>,
    link_by: LinkBy,
}

impl<'a> NewFile<'a> {
    pub(super) fn create(directory: &'a OwnedFd, creation: Creation) -> Result<Self, Errno> {
        // Readable as well: it stays open to be read back. Nobody writes to an object again.
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        match creation {
            Creation::Unnamed(link_by) => {
                let file = rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode)?;
                Ok(Self {
                    directory,
                    file: Arc::new(file),
                    hidden: None,
                    link_by,
                })
            }
            Creation::Hidden => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                let open = |name: &str| rustix::fs::openat(directory, name, flags, mode);
                let (file, name) = under_hidden_name(open)?;
                Ok(Self {
                    directory,
                    file: Arc::new(file),
                    hidden: Some(name),
                    link_by: LinkBy::Descriptor,
                })
            }
        }
    }

    pub(super) fn write_all(&self, body: &[Bytes]) -> Result<(), Errno> {
        self.reserve(body.iter().map(|part| part.len() as u64).sum())?;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut written = 0;
        for part in body {
            let mut rest = part.as_ref();
            while !rest.is_empty() {
                let (fits, behind) = rest.split_at(rest.len().min(PIECE_BYTES - piece.len()));
                piece.extend_from_slice(fits);
                rest = behind;
                if piece.len() == PIECE_BYTES {
                    self.write_piece(&piece)?;
                    self.start_writing(written);
                    written += PIECE_BYTES;
                    piece.clear();
                }
            }
        }
        self.write_piece(&piece)
    }

    /// Has the file system find `bytes` of space now: in one piece, and before anything is copied
    /// to a disk that is full.
    fn reserve(&self, bytes: u64) -> Result<(), Errno> {
        if bytes <= PIECE_BYTES as u64 {
            return Ok(());
        }
        let reserve = || fallocate(&self.file, FallocateFlags::empty(), 0, bytes);
        match retry_on_intr(reserve) {
            // A file system that cannot do this does without.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            reserved => reserved,
        }
    }

    fn write_piece(&self, mut piece: &[u8]) -> Result<(), Errno> {
        while !piece.is_empty() {
            let written = retry_on_intr(|| rustix::io::write(&self.file, piece))?;
            // Who takes nothing would be asked for ever, and nobody takes more than there is.
            piece = piece.get(written..).ok_or(Errno::IO)?;
            if written == 0 {
                return Err(Errno::IO);
            }
        }
        Ok(())
    }

    /// Has the disk start on the bytes before the file's end that it was not told of yet, so that it
    /// does not lie idle while the rest is copied. Only a hint: whether they got there is what the
    /// sync says, and starting the work does not swallow its error.
    #[expect(unsafe_code, reason = "no crate in use wraps this call")]
    fn start_writing(&self, offset: usize) {
        let Ok(offset) = libc::off64_t::try_from(offset) else {
            return;
        };
        let len = PIECE_BYTES as libc::off64_t;
        let flags = libc::SYNC_FILE_RANGE_WRITE;
        // SAFETY: the call takes numbers alone, and the descriptor is open while `self` lives.
        let _ = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, len, flags) };
    }

    /// Gives the file its name; of any number of racing creators one wins.
    pub(super) fn link(&self, name: &str) -> Result<(), Errno> {
        let directory = self.directory;
        match (&self.hidden, self.link_by) {
            (Some(hidden), _) => {
                let hidden = hidden.as_str();
                rustix::fs::linkat(directory, hidden, directory, name, AtFlags::empty())
            }
            (None, LinkBy::Descriptor) => {
                rustix::fs::linkat(&self.file, "", directory, name, AtFlags::EMPTY_PATH)
            }
            (None, LinkBy::Proc) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
            }
        }
    }

    /// Removes the hidden name, if there is one.
    fn remove_hidden(&mut self) -> Result<(), Errno> {
        let Some(hidden) = self.hidden.take() else {
            return Ok(());
        };
        match rustix::fs::unlinkat(self.directory, hidden, AtFlags::empty()) {
            // Someone who opened the directory took it for a leftover.
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the directory is opened the next time.
        let _ = self.remove_hidden();
    }
}

/// Makes the names in a directory durable.
fn sync_names(directory: &OwnedFd) -> Result<(), Errno> {
    if planted::is(Fault::DirectorySync) {
        return Ok(());
    }
    rustix::fs::fsync(directory)
}

impl Shared {
    pub(super) fn create(&self, name: &str, body: &[Bytes]) -> Result<(), StoreError> {
        let creation = self.writable("create", name)?;
        let failed = |errno| store_error(errno, "create", self.object(name));
        // The kernel tells of a failed write-back once to every open descriptor: on one that all
        // creations share, the first to sync would hear of it and the others that all is well.
        // Opened before the link, this one hears of all that happens to it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.directory, ".", flags, Mode::empty());
        let directory = self.with_descriptors(open).map_err(failed)?;
        let mut new = self
            .with_descriptors(|| NewFile::create(&self.directory, creation))
            .map_err(failed)?;
        new.write_all(body).map_err(failed)?;
        rustix::fs::fdatasync(&new.file).map_err(failed)?;
        let before = self.open_files.forgotten();
        match new.link(name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // Who hears "exists" may read the object back, find that it is his own, and rely on
                // it: its name must be as durable as if this call had made it.
                sync_names(&directory).map_err(failed)?;
                return Err(failed(Errno::EXIST));
            }
            Err(errno) => return Err(failed(errno)),
        }
        // Where this fails the name stays: others may have seen it and rely on it. It may not survive
        // a crash, so nobody is told that the object is there before a sync went well; who repeats
        // the creation comes to the one above. File systems that cannot write what they know of their
        // directories end for good, so none that goes well later hides what this one lost.
        new.remove_hidden()
            .and_then(|()| sync_names(&directory))
            .map_err(failed)?;
        self.open_files.insert(name, &new.file, before);
        Ok(())
    }
}
