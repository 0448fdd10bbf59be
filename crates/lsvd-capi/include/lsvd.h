/* liblsvd: the C library of the log-structured virtual disk.
 *
 * Generated from the library's source; do not edit. `LSVD_UPDATE_HEADER=1 cargo test -p lsvd-capi
 * --test header` writes it anew.
 */

#ifndef LSVD_H
#define LSVD_H

#include <stddef.h>
#include <stdint.h>

/**
 * An open volume: a number, never 0, that is not used again after `lsvd_volume_close`.
 */
typedef uint64_t lsvd_volume_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Reads `len` bytes of the default volume, from byte `offset` on, into `buf`.
 *
 * `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
 * `offset`, and `buf` may then be NULL. The read sees every write that returned before it began,
 * sector by sector, never torn. What was never written reads as zeroes.
 *
 * The default volume is opened by the first call of one of its functions, as these variables say:
 * `LSVD_DIR` (the directory of its objects, made if it is absent, which must be empty:
 * `/tmp/lsvd`), `LSVD_SIZE` (`1G`), `LSVD_OBJECT_SIZE` (`8M`), `LSVD_STORE_LATENCY` (none; as in
 * `5ms..10ms`), `LSVD_WINDOW` (uploads at once: 8), `LSVD_SEAL_TIMEOUT` (`2s`), `LSVD_FLUSH`
 * (`local`, or `store`: see `lsvd_flush`), `LSVD_RETRY_TIMEOUT` (`30s`). `LSVD_LOG`, which is for
 * the program `lsvd`, is ignored; any other variable `LSVD_*` is refused. The volume is ephemeral:
 * it lasts as long as the process.
 *
 * Returns 0, or a negative errno value, and `lsvd_last_error` says why: `-EINVAL` (not a multiple
 * of 512, past the end, `buf` is NULL, a wrong variable), `-ENOTEMPTY` (the directory is not
 * empty), `-EBUSY` (another process, or a volume of this one, uses it), `-ENOENT` (its parent does
 * not exist), `-EACCES`, `-ENOSPC`, `-EIO` (the store failed, or its bytes are damaged). After an
 * error the content of `buf` is undefined.
 *
 * # Safety
 * `buf` has `len` writable bytes that nobody else uses until the call returns.
 */
int lsvd_read(uint64_t offset, size_t len, char *buf);

/**
 * Writes `len` bytes from `buf` to the default volume, from byte `offset` on.
 *
 * `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
 * `offset`, and `buf` may then be NULL. When it returns 0, every read that begins later sees the
 * data. It is stored behind the call, and durable when `lsvd_flush` says so. A
 * failed write leaves each piece of up to 1 MiB (or one object, where objects are smaller) wholly
 * old or wholly new.
 *
 * Where the store is slower than the writers, a write waits for room in memory.
 *
 * Opens the default volume and returns as `lsvd_read` does; a negative `offset` is `-EINVAL`, and
 * `-EIO` and `-ENOSPC` say that the store takes nothing, so there is no room. After `-EINVAL`
 * nothing was changed.
 *
 * # Safety
 * `buf` has `len` readable bytes that nobody changes until the call returns.
 */
int lsvd_write(int64_t offset, size_t len, char *buf);

/**
 * Makes durable what was written to the default volume.
 *
 * With `LSVD_FLUSH=store`, all that was answered before the call is in the directory when it
 * returns 0, and survives the loss of power. With `LSVD_FLUSH=local` (the default) an ephemeral
 * volume has nothing to make durable: the call answers at once.
 *
 * Opens the default volume and returns as `lsvd_read` does; `-EIO` and `-ENOSPC` say that not all
 * could be stored: it is kept in memory and tried again, and flushes fail until it is stored.
 */
int lsvd_flush(void);

/**
 * Opens the volume at `url` and puts its number into `*volume`.
 *
 * `url` is a path, `file:///absolute/path` or `memory://`. A directory that is absent is made, its
 * parent must exist; one that is not empty is refused.
 *
 * `options` is a text `ephemeral,key=value,...` (no blanks): `ephemeral` and `size` must be given,
 * the others are `object-size` (`8M`), `window` (uploads at once: `8`), `seal-timeout` (`2s`),
 * `flush` (`local`, or `store`: see `lsvd_volume_flush`), `retry-timeout` (`30s`), `store-latency`
 * (none; `5ms..10ms` lets every upload take that much longer). Sizes take K, M, G, T (powers of
 * 1024).
 *
 * Returns 0, or a negative errno value, and `lsvd_last_error` says why: `-EINVAL` (a wrong url,
 * option or NULL), `-ENOTEMPTY` (the directory is not empty), `-EBUSY` (another process, or a
 * volume of this one, uses it; one that was closed may for a moment), `-ENOENT` (the parent of the
 * directory does not exist), `-EACCES`, `-ENOSPC`, `-EIO`. After an error `*volume` is 0.
 *
 * All functions may be called from any number of threads. A process that forks may use its volumes
 * in one of the two only: the parent.
 *
 * # Safety
 * `url` and `options` are NUL-terminated, and `volume` can be written.
 */
int lsvd_volume_open(const char *url, const char *options, lsvd_volume_t *volume);

/**
 * Reads `len` bytes of the volume, from byte `offset` on, into `buf`.
 *
 * `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
 * `offset`, and `buf` may then be NULL. The read sees every write that returned before it began,
 * sector by sector, never torn. What was never written reads as zeroes.
 *
 * Returns 0, or a negative errno value: `-EINVAL` (not a multiple of 512, past the end, `buf` is
 * NULL), `-EBADF` (no such volume, or closed), `-ESHUTDOWN` (being closed), `-EIO` (the store
 * failed, or its bytes are damaged). After an error the content of `buf` is undefined.
 *
 * # Safety
 * `buf` has `len` writable bytes that nobody else uses until the call returns.
 */
int lsvd_volume_read(lsvd_volume_t volume, uint64_t offset, size_t len, void *buf);

/**
 * Writes `len` bytes from `buf` to the volume, from byte `offset` on.
 *
 * `offset` and `len` are multiples of 512. `len` may be of any size; 0 does nothing but check
 * `offset`, and `buf` may then be NULL. When it returns 0, every read that begins later sees the
 * data; it is durable when `lsvd_volume_flush` says so. A failed write leaves each piece of up to
 * 1 MiB (or one object, where objects are smaller) wholly old or wholly new. Where the store is
 * slower than the writers, a write waits for room in memory.
 *
 * Returns 0, or a negative errno value: those of `lsvd_volume_read`, and `-ENOSPC`; `-EIO` and
 * `-ENOSPC` say that the store takes nothing, so there is no room. After `-EINVAL`, `-EBADF` and
 * `-ESHUTDOWN` nothing was changed.
 *
 * # Safety
 * `buf` has `len` readable bytes that nobody changes until the call returns.
 */
int lsvd_volume_write(lsvd_volume_t volume, uint64_t offset, size_t len, const void *buf);

/**
 * Makes durable what was written.
 *
 * With `flush=store`, all that was answered before the call is in the store when it returns 0, and
 * in a directory it survives the loss of power. With `flush=local` (the default) an ephemeral
 * volume has nothing to make durable: the call answers at once.
 *
 * Returns 0, or a negative errno value: `-EBADF`, `-ESHUTDOWN`, `-EIO` and `-ENOSPC` (what was
 * written is kept in memory and tried again; flushes fail until it is stored).
 */
int lsvd_volume_flush(lsvd_volume_t volume);

/**
 * Gives up the content of `len` bytes from byte `offset` on: they read as zeroes from then on.
 *
 * `offset` and `len` are multiples of 512; `len` may be the whole volume, and 0 does nothing but
 * check `offset`. It takes its place among the writes as they do, and is durable when they are.
 *
 * Returns what `lsvd_volume_write` returns.
 */
int lsvd_volume_discard(lsvd_volume_t volume, uint64_t offset, uint64_t len);

/**
 * Writes zeroes to `len` bytes from byte `offset` on, without sending any.
 *
 * Otherwise as `lsvd_volume_discard`.
 */
int lsvd_volume_write_zeroes(lsvd_volume_t volume, uint64_t offset, uint64_t len);

/**
 * Puts the size of the volume, in bytes, into `*size`.
 *
 * Returns 0, or `-EBADF`, or `-EINVAL` where `size` is NULL.
 *
 * # Safety
 * `size` can be written.
 */
int lsvd_volume_size(lsvd_volume_t volume, uint64_t *size);

/**
 * Closes the volume: refuses new requests, and waits until all that was written is in the store.
 *
 * When it returns 0 the number names nothing any more: every function answers `-EBADF`, this one
 * included, so closing twice is an error and no harm. Requests of other threads that are under way
 * end as they would, or with `-ESHUTDOWN`.
 *
 * Returns 0, or a negative errno value: `-EBADF`; `-EIO`, `-ENOSPC` or another error of the store
 * when not all could be stored. The volume then refuses everything else with `-ESHUTDOWN`, goes on
 * trying, and `lsvd_volume_close` may be called again to wait for it. An ephemeral volume leaves
 * its objects in the directory.
 */
int lsvd_volume_close(lsvd_volume_t volume);

/**
 * Why the last failed call of this thread failed: one line that says what, where and what to do.
 *
 * Never NULL; empty when no call of this thread failed yet. A call that succeeds leaves it as it
 * is, so look at it only after a negative result. The text belongs to the library, may be read
 * until the next failed call of the same thread, and must not be freed.
 */
const char *lsvd_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LSVD_H */
