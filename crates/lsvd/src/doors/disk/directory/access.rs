//! How a file is accessed: past the page cache or through it, and in what units.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, statx};
use rustix::io::{Errno, retry_on_intr};

use super::DirectoryOptions;
use super::aligned::AlignedBuffer;

/// Units of writing, the one of old disks first.
const UNITS: [usize; 2] = [512, 4096];

/// Alignment of memory that every file system takes.
const MEMORY_ALIGNMENT_MAX: usize = 4096;

/// Least alignment of memory that is written as it is. Many disks take less, but their drivers are
/// rarely used so, and a copy of what is not even aligned to a sector costs little.
const MEMORY_ALIGNMENT_MIN: usize = 512;

/// How a file takes reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// What offsets and lengths are multiples of, in bytes.
    pub(super) unit: usize,
    /// What addresses are multiples of, in bytes.
    pub(super) memory: usize,
}

impl Access {
    /// Through the page cache. It writes whole pages, and of a page that is torn by a crash each
    /// sector is old or new; what shares the page is written back as it was. So a sector is the
    /// unit, whatever the disk's is.
    const BUFFERED: Self = Self {
        unit: 512,
        memory: 1,
    };
}

/// What the kernel says about direct I/O on a file.
enum Stated {
    Takes(Access),
    Refuses,
    Unknown,
}

/// Chooses the best way into the file, which has at least one unit of content or none at all.
pub(super) fn choose(file: &OwnedFd, options: &DirectoryOptions) -> Result<Access, Errno> {
    choose_by(file, options, &read_first_unit)
}

/// The same for a new file, where writing zeroes does no harm. Of space that was reserved but not
/// written nothing is read, so there reading finds nothing out.
pub(super) fn choose_for_new(file: &OwnedFd, options: &DirectoryOptions) -> Result<Access, Errno> {
    choose_by(file, options, &write_first_unit)
}

fn choose_by(
    file: &OwnedFd,
    options: &DirectoryOptions,
    trial: &dyn Fn(&OwnedFd, &mut AlignedBuffer) -> Result<(), Errno>,
) -> Result<Access, Errno> {
    let stated = if options.direct_io {
        stated(file)
    } else {
        Stated::Refuses
    };
    let mut access = match stated {
        Stated::Refuses => Access::BUFFERED,
        Stated::Takes(access) => match set_direct(file, true) {
            Ok(()) => access,
            Err(Errno::INVAL) => Access::BUFFERED,
            Err(errno) => return Err(errno),
        },
        Stated::Unknown => try_out(file, trial)?,
    };
    access.unit = access.unit.max(options.unit_min);
    Ok(access)
}

fn stated(file: &OwnedFd) -> Stated {
    let Ok(stat) = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Stated::Unknown;
    };
    if !StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN) {
        return Stated::Unknown;
    }
    let offset = usize::try_from(stat.stx_dio_offset_align).unwrap_or(usize::MAX);
    let memory = usize::try_from(stat.stx_dio_mem_align).unwrap_or(usize::MAX);
    let unit = UNITS.into_iter().find(|unit| offset <= *unit);
    match unit {
        Some(unit) if offset > 0 && memory > 0 && memory <= MEMORY_ALIGNMENT_MAX => {
            Stated::Takes(Access {
                unit,
                memory: memory.max(MEMORY_ALIGNMENT_MIN),
            })
        }
        _ => Stated::Refuses,
    }
}

/// Finds out by doing it, as kernels before 6.1 and some file systems say nothing.
pub(super) fn try_out(
    file: &OwnedFd,
    trial: &dyn Fn(&OwnedFd, &mut AlignedBuffer) -> Result<(), Errno>,
) -> Result<Access, Errno> {
    match set_direct(file, true) {
        Ok(()) => {}
        Err(Errno::INVAL) => return Ok(Access::BUFFERED),
        Err(errno) => return Err(errno),
    }
    for unit in UNITS {
        let mut buffer = AlignedBuffer::zeroed(unit, MEMORY_ALIGNMENT_MAX);
        match trial(file, &mut buffer) {
            Ok(()) => {
                let memory = MEMORY_ALIGNMENT_MAX;
                return Ok(Access { unit, memory });
            }
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    set_direct(file, false)?;
    Ok(Access::BUFFERED)
}

fn read_first_unit(file: &OwnedFd, buffer: &mut AlignedBuffer) -> Result<(), Errno> {
    retry_on_intr(|| rustix::io::pread(file, buffer.bytes_mut(), 0)).map(|_| ())
}

pub(super) fn write_first_unit(file: &OwnedFd, buffer: &mut AlignedBuffer) -> Result<(), Errno> {
    retry_on_intr(|| rustix::io::pwrite(file, buffer.bytes(), 0)).map(|_| ())
}

fn set_direct(file: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(file, flags)
}
