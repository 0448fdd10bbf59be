//! Tasks, time and randomness as the engine sees them.

use std::fmt;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::BoxFuture;
use super::store::{ObjectStore, StoreError, StoreErrorKind};

mod tokio;

pub use tokio::TokioRuntime;
pub(in crate::doors) use tokio::workers_here;

/// Where background tasks run, and the only source of time and randomness.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Runs a task to its end in the background. Tasks never block a thread: what must block goes
    /// through a door that has threads of its own.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Completes when `duration` has passed. May be polled from any thread.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Time since some fixed moment; never goes backwards.
    fn now(&self) -> Duration;

    /// Time since the Unix epoch, for people: it may jump.
    fn wall_clock(&self) -> Duration;

    /// Random bits, at least 120 of them; used for identities, not for secrets.
    fn random(&self) -> u128;
}

/// Waits for a request to a store, but not longer than `patience`.
///
/// # Errors
/// The store's, or [`StoreErrorKind::TooSlow`] when no answer came in time.
pub async fn within<T>(
    runtime: &dyn Runtime,
    patience: Duration,
    store: &dyn ObjectStore,
    request: impl Future<Output = Result<T, StoreError>> + Unpin,
) -> Result<T, StoreError> {
    match select(request, runtime.sleep(patience)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => {
            let kind = StoreErrorKind::TooSlow;
            let error = StoreError::new(kind, "get an answer from", store.url());
            Err(error.because(format!("none came within {} s", patience.as_secs())))
        }
    }
}
