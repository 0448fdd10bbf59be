//! The functions on the default volume, which is opened when it is first used.

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use engine::Volume;
use parking_lot::Mutex;

use crate::call::{Failure, call, input, output};
use crate::{settings, volumes};

static DEFAULT: OnceLock<Volume> = OnceLock::new();

/// Held by the thread that opens the default volume, so that it is opened once.
static OPENING: Mutex<()> = Mutex::new(());

/// The default volume. Where it could not be opened the next call tries again.
fn default_volume() -> Result<&'static Volume, Failure> {
    if let Some(volume) = DEFAULT.get() {
        return Ok(volume);
    }
    let _opening = OPENING.lock();
    if let Some(volume) = DEFAULT.get() {
        return Ok(volume);
    }
    let (place, settings) = settings::from_variables(std::env::vars_os())?;
    let volume = volumes::open(&place, settings)?;
    Ok(DEFAULT.get_or_init(|| volume))
}

/// Reads `len` bytes of the default volume, from byte `offset` on, into `buf`.
///
/// `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
/// `offset`, and `buf` may then be NULL. The read sees every write that returned before it began,
/// sector by sector, never torn. What was never written reads as zeroes.
///
/// The default volume is opened by the first call of one of its functions, as these variables say:
/// `LSVD_DIR` (the directory of its objects, made if it is absent, which must be empty:
/// `/tmp/lsvd`), `LSVD_SIZE` (`1G`), `LSVD_OBJECT_SIZE` (`8M`), `LSVD_STORE_LATENCY` (none; as in
/// `5ms..10ms`), `LSVD_WINDOW` (uploads at once: 8), `LSVD_SEAL_TIMEOUT` (`2s`), `LSVD_FLUSH`
/// (`local`, or `store`: see `lsvd_flush`), `LSVD_RETRY_TIMEOUT` (`30s`). `LSVD_LOG`, which is for
/// the program `lsvd`, is ignored; any other variable `LSVD_*` is refused. The volume is ephemeral:
/// it lasts as long as the process.
///
/// Returns 0, or a negative errno value, and `lsvd_last_error` says why: `-EINVAL` (not a multiple
/// of 512, past the end, `buf` is NULL, a wrong variable), `-ENOTEMPTY` (the directory is not
/// empty), `-EBUSY` (another process, or a volume of this one, uses it), `-ENOENT` (its parent does
/// not exist), `-EACCES`, `-ENOSPC`, `-EIO` (the store failed, or its bytes are damaged). After an
/// error the content of `buf` is undefined.
///
/// # Safety
/// `buf` has `len` writable bytes that nobody else uses until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_read(offset: u64, len: usize, buf: *mut c_char) -> c_int {
    call("lsvd_read", || {
        // SAFETY: the caller's word, as said above.
        let buffer = unsafe { output(buf.cast(), len) }?;
        Ok(default_volume()?.read(offset, buffer)?)
    })
}

/// Writes `len` bytes from `buf` to the default volume, from byte `offset` on.
///
/// `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
/// `offset`, and `buf` may then be NULL. When it returns 0, every read that begins later sees the
/// data. It is stored behind the call, and durable when `lsvd_flush` says so. A
/// failed write leaves each piece of up to 1 MiB (or one object, where objects are smaller) wholly
/// old or wholly new.
///
/// Where the store is slower than the writers, a write waits for room in memory.
///
/// Opens the default volume and returns as `lsvd_read` does; a negative `offset` is `-EINVAL`, and
/// `-EIO` and `-ENOSPC` say that the store takes nothing, so there is no room. After `-EINVAL`
/// nothing was changed.
///
/// # Safety
/// `buf` has `len` readable bytes that nobody changes until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_write(offset: i64, len: usize, buf: *mut c_char) -> c_int {
    call("lsvd_write", || {
        let offset = u64::try_from(offset).map_err(|_| {
            Failure::invalid(format!("cannot write at the negative offset {offset}"))
        })?;
        // SAFETY: the caller's word, as said above.
        let data = unsafe { input(buf.cast_const().cast(), len) }?;
        Ok(default_volume()?.write(offset, data)?)
    })
}

/// Makes durable what was written to the default volume.
///
/// With `LSVD_FLUSH=store`, all that was answered before the call is in the directory when it
/// returns 0, and survives the loss of power. With `LSVD_FLUSH=local` (the default) an ephemeral
/// volume has nothing to make durable: the call answers at once.
///
/// Opens the default volume and returns as `lsvd_read` does; `-EIO` and `-ENOSPC` say that not all
/// could be stored: it is kept in memory and tried again, and flushes fail until it is stored.
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_flush() -> c_int {
    call("lsvd_flush", || Ok(default_volume()?.flush()?))
}
