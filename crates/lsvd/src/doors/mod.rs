//! The doors: the narrow traits through which storage, time, randomness and tasks come in.
//!
//! Whatever the engine does to the world passes here, so that a test can put a world of its own
//! behind them.

pub(crate) mod backoff;
pub(crate) mod creation;
pub mod disk;
pub mod runtime;
pub mod store;

use std::future::Future;
use std::pin::Pin;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
