//! Tasks, time and randomness as the engine sees them.

use std::fmt;
use std::time::Duration;

use super::BoxFuture;

mod tokio;

pub use tokio::TokioRuntime;

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

    /// Uniformly random bits; used for identities, not for secrets.
    fn random(&self) -> u128;
}
