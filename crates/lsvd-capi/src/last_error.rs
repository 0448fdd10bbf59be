//! The message of a thread's last failed call.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

pub(crate) fn set(message: String) {
    let mut bytes = message.into_bytes();
    bytes.retain(|byte| *byte != 0);
    let message = CString::new(bytes).unwrap_or_default();
    // A thread that is ending has no place for it any more, and nobody to read it.
    let _ = MESSAGE.try_with(|slot| slot.replace(message));
}

/// Why the last failed call of this thread failed: one line that says what, where and what to do.
///
/// Never NULL; empty when no call of this thread failed yet. A call that succeeds leaves it as it
/// is, so look at it only after a negative result. The text belongs to the library, may be read
/// until the next failed call of the same thread, and must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn lsvd_last_error() -> *const c_char {
    MESSAGE
        .try_with(|slot| slot.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}
