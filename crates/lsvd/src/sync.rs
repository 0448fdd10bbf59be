//! The locks of the engine, in one place, so that a model checker's can stand in for them.
//!
//! Built with `--cfg shuttle` they are those of the `shuttle` crate, which runs threads one at a
//! time and decides at every lock and atomic who goes on.

mod signal;

pub use signal::Signal;

#[cfg(not(shuttle))]
mod real {
    pub use parking_lot::{Mutex, MutexGuard, RwLock};
    pub use std::sync::{Arc, atomic};

    /// Runs a future on this thread, which sleeps while the future waits.
    pub fn block_on<F: Future>(future: F) -> F::Output {
        pollster::block_on(future)
    }
}

#[cfg(shuttle)]
mod checked;

#[cfg(shuttle)]
pub use checked::*;
#[cfg(not(shuttle))]
pub use real::*;
