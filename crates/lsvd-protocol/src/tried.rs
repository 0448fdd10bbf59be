//! Stores that were tried: how it ends when someone goes on alone depends on the store, and many states
//! have the same.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// The tries of one run of the checker, by the hash of what was tried, and how they ended.
#[derive(Clone, Debug, Default)]
pub struct Tried(Arc<Mutex<HashMap<u64, bool>>>);

impl Tried {
    /// How it ends: as it did, or, the first time, as `end` says.
    pub fn once(&self, what: &impl Hash, end: impl FnOnce() -> bool) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let key = hasher.finish();
        let tried = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tried().get(&key).copied();
        known.unwrap_or_else(|| {
            let ended = end();
            tried().insert(key, ended);
            ended
        })
    }
}
