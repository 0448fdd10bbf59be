//! What every function of the library goes through: no panic leaves it, errors become negative
//! errno values, and their text is kept for `lsvd_last_error`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::ErrorKind;

use crate::last_error;

/// Linux numbers, on purpose spelled out: they are part of the ABI.
const EIO: i32 = 5;
const EBADF: i32 = 9;

/// Why a call failed, as C hears it.
#[derive(Debug)]
pub(crate) struct Failure {
    errno: i32,
    message: String,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            errno: ErrorKind::InvalidArgument.errno(),
            message: message.into(),
        }
    }

    pub(crate) fn no_such_volume(volume: u64) -> Self {
        Self {
            errno: EBADF,
            message: format!("{volume} is not an open volume; it was never opened, or was closed"),
        }
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self {
            errno: EIO,
            message: message.into(),
        }
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self {
            errno: error.errno(),
            message: error.to_string(),
        }
    }
}

/// Runs the body of the function `name` and gives what it returns to C.
pub(crate) fn call(name: &str, body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    // What a panic leaves half done is the engine's to know; its locks do not poison, and nothing
    // in this crate changes state across a call that may panic.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            // Dropping it could panic again, outside of the net.
            std::mem::forget(payload);
            Failure::io(format!(
                "{name} failed by a bug of liblsvd; please report it"
            ))
        }
    };
    last_error::set(failure.message);
    -failure.errno
}

/// The memory to be written to a volume; of no length it may be anywhere.
///
/// # Safety
/// A `buf` that is not null has `len` readable bytes that nobody changes for as long as `'a`.
pub(crate) unsafe fn input<'a>(buf: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    check(buf, len)?;
    // SAFETY: not null and not too long, as just checked; the rest is the caller's word.
    Ok(unsafe { std::slice::from_raw_parts(buf.cast(), len) })
}

/// The memory to be filled from a volume; of no length it may be anywhere.
///
/// # Safety
/// A `buf` that is not null has `len` writable bytes that nobody else uses for as long as `'a`.
pub(crate) unsafe fn output<'a>(buf: *mut c_void, len: usize) -> Result<&'a mut [u8], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(buf, len)?;
    // SAFETY: not null and not too long, as just checked; the rest is the caller's word.
    Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast(), len) })
}

fn check(buf: *const c_void, len: usize) -> Result<(), Failure> {
    if buf.is_null() {
        return Err(Failure::invalid("the buffer is a null pointer"));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::invalid(format!(
            "{len} bytes are more than a buffer can have"
        )));
    }
    Ok(())
}

/// The text behind `text`; `what` names it in the message.
///
/// # Safety
/// A `text` that is not null ends with a NUL byte and does not change for as long as `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::invalid(format!("{what} is a null pointer")));
    }
    // SAFETY: not null, as just checked; the rest is the caller's word.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| Failure::invalid(format!("{what} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_a_message() {
        std::panic::set_hook(Box::new(|_| {}));
        let result = call("lsvd_test", || panic!("planted"));
        drop(std::panic::take_hook());
        assert_eq!(result, -5);
        let message = last_error::lsvd_last_error();
        // SAFETY: `lsvd_last_error` gives a string that lives until this thread's next failure.
        let message = unsafe { CStr::from_ptr(message) }.to_str().unwrap();
        assert!(
            message.starts_with("lsvd_test failed by a bug"),
            "{message}"
        );
    }
}
