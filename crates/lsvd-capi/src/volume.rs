//! The functions on volumes that the caller opens.

use std::ffi::{c_char, c_int, c_void};

use crate::call::{Failure, call, input, output, text};
use crate::{settings, volumes};

/// An open volume: a number, never 0, that is not used again after `lsvd_volume_close`.
#[expect(non_camel_case_types, reason = "it is named as C names types")]
pub type lsvd_volume_t = u64;

/// Opens the volume at `url` and puts its number into `*volume`.
///
/// `url` is a path, `file:///absolute/path` or `memory://`. A directory that is absent is made, its
/// parent must exist; one that is not empty is refused.
///
/// `options` is a text `ephemeral,key=value,...` (no blanks): `ephemeral` and `size` must be given,
/// the others are `object-size` (`8M`), `window` (uploads at once: `8`), `seal-timeout` (`2s`),
/// `flush` (`local`, or `store`: see `lsvd_volume_flush`), `retry-timeout` (`30s`), `store-latency`
/// (none; `5ms..10ms` lets every upload take that much longer). Sizes take K, M, G, T (powers of
/// 1024).
///
/// Returns 0, or a negative errno value, and `lsvd_last_error` says why: `-EINVAL` (a wrong url,
/// option or NULL), `-ENOTEMPTY` (the directory is not empty), `-EBUSY` (another process, or a
/// volume of this one, uses it; one that was closed may for a moment), `-ENOENT` (the parent of the
/// directory does not exist), `-EACCES`, `-ENOSPC`, `-EIO`. After an error `*volume` is 0.
///
/// All functions may be called from any number of threads. A process that forks may use its volumes
/// in one of the two only: the parent.
///
/// # Safety
/// `url` and `options` are NUL-terminated, and `volume` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_volume_open(
    url: *const c_char,
    options: *const c_char,
    volume: *mut lsvd_volume_t,
) -> c_int {
    call("lsvd_volume_open", || {
        if volume.is_null() {
            return Err(Failure::invalid(
                "the place for the volume is a null pointer",
            ));
        }
        // SAFETY: not null, as just checked; that it can be written is the caller's word.
        unsafe { volume.write(0) };
        // SAFETY: the caller's word, as said above.
        let url = unsafe { text(url, "the url") }?;
        // SAFETY: the same.
        let options = unsafe { text(options, "the text of options") }?;
        let settings = settings::from_options(options)?;
        let number = volumes::insert(volumes::open(&url.parse()?, settings)?);
        // SAFETY: as at the first write to it.
        unsafe { volume.write(number) };
        Ok(())
    })
}

/// Reads `len` bytes of the volume, from byte `offset` on, into `buf`.
///
/// `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
/// `offset`, and `buf` may then be NULL. The read sees every write that returned before it began,
/// sector by sector, never torn. What was never written reads as zeroes.
///
/// Returns 0, or a negative errno value: `-EINVAL` (not a multiple of 512, past the end, `buf` is
/// NULL), `-EBADF` (no such volume, or closed), `-ESHUTDOWN` (being closed), `-EIO` (the store
/// failed, or its bytes are damaged). After an error the content of `buf` is undefined.
///
/// # Safety
/// `buf` has `len` writable bytes that nobody else uses until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_volume_read(
    volume: lsvd_volume_t,
    offset: u64,
    len: usize,
    buf: *mut c_void,
) -> c_int {
    call("lsvd_volume_read", || {
        let volume = volumes::get(volume)?;
        // SAFETY: the caller's word, as said above.
        let buffer = unsafe { output(buf, len) }?;
        Ok(volume.read(offset, buffer)?)
    })
}

/// Writes `len` bytes from `buf` to the volume, from byte `offset` on.
///
/// `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
/// `offset`, and `buf` may then be NULL. When it returns 0, every read that begins later sees the
/// data; it is durable when `lsvd_volume_flush` says so. A failed write leaves each piece of up to
/// 1 MiB (or one object, where objects are smaller) wholly old or wholly new. Where the store is
/// slower than the writers, a write waits for room in memory.
///
/// Returns 0, or a negative errno value: those of `lsvd_volume_read`, and `-ENOSPC`; `-EIO` and
/// `-ENOSPC` say that the store takes nothing, so there is no room. After `-EINVAL`, `-EBADF` and
/// `-ESHUTDOWN` nothing was changed.
///
/// # Safety
/// `buf` has `len` readable bytes that nobody changes until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_volume_write(
    volume: lsvd_volume_t,
    offset: u64,
    len: usize,
    buf: *const c_void,
) -> c_int {
    call("lsvd_volume_write", || {
        let volume = volumes::get(volume)?;
        // SAFETY: the caller's word, as said above.
        let data = unsafe { input(buf, len) }?;
        Ok(volume.write(offset, data)?)
    })
}

/// Makes durable what was written.
///
/// With `flush=store`, all that was answered before the call is in the store when it returns 0, and
/// in a directory it survives the loss of power. With `flush=local` (the default) an ephemeral
/// volume has nothing to make durable: the call answers at once.
///
/// Returns 0, or a negative errno value: `-EBADF`, `-ESHUTDOWN`, `-EIO` and `-ENOSPC` (what was
/// written is kept in memory and tried again; flushes fail until it is stored).
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_volume_flush(volume: lsvd_volume_t) -> c_int {
    call("lsvd_volume_flush", || Ok(volumes::get(volume)?.flush()?))
}

/// Gives up the content of `len` bytes from byte `offset` on: they read as zeroes from then on.
///
/// `offset` and `len` are multiples of 512; `len` may be the whole volume, and 0 does nothing but
/// check `offset`. It takes its place among the writes as they do, and is durable when they are.
///
/// Returns what `lsvd_volume_write` returns.
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_volume_discard(volume: lsvd_volume_t, offset: u64, len: u64) -> c_int {
    call("lsvd_volume_discard", || {
        let volume = volumes::get(volume)?;
        Ok(volume.discard(offset, len)?)
    })
}

/// Writes zeroes to `len` bytes from byte `offset` on, without sending any.
///
/// Otherwise as `lsvd_volume_discard`.
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_volume_write_zeroes(volume: lsvd_volume_t, offset: u64, len: u64) -> c_int {
    call("lsvd_volume_write_zeroes", || {
        let volume = volumes::get(volume)?;
        Ok(volume.write_zeroes(offset, len)?)
    })
}

/// Puts the size of the volume, in bytes, into `*size`.
///
/// Returns 0, or `-EBADF`, or `-EINVAL` where `size` is NULL.
///
/// # Safety
/// `size` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lsvd_volume_size(volume: lsvd_volume_t, size: *mut u64) -> c_int {
    call("lsvd_volume_size", || {
        if size.is_null() {
            return Err(Failure::invalid("the place for the size is a null pointer"));
        }
        let bytes = volumes::get(volume)?.size();
        // SAFETY: not null, as just checked; that it can be written is the caller's word.
        unsafe { size.write(bytes) };
        Ok(())
    })
}

/// Closes the volume: refuses new requests, and waits until all that was written is in the store.
///
/// When it returns 0 the number names nothing any more: every function answers `-EBADF`, this one
/// included, so closing twice is an error and no harm. Requests of other threads that are under way
/// end as they would, or with `-ESHUTDOWN`.
///
/// Returns 0, or a negative errno value: `-EBADF`; `-EIO`, `-ENOSPC` or another error of the store
/// when not all could be stored. The volume then refuses everything else with `-ESHUTDOWN`, goes on
/// trying, and `lsvd_volume_close` may be called again to wait for it. An ephemeral volume leaves
/// its objects in the directory.
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_volume_close(volume: lsvd_volume_t) -> c_int {
    call("lsvd_volume_close", || {
        volumes::get(volume)?.close()?;
        volumes::remove(volume);
        Ok(())
    })
}
