//! The names that are being created: one creation of a name at a time.
//!
//! A put whose caller gave up waiting goes on, and its repetition starts beside it. If both ran, the
//! second could find the name that the first has linked and count the object as stored, and the
//! first then remove the name because its sync failed.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

/// Names that are claimed or in doubt.
#[derive(Debug, Default)]
pub(super) struct Claims {
    names: Mutex<Names>,
    /// Signalled when a claim ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Names {
    claimed: HashSet<Box<str>>,
    /// Names in the directory that may not survive a crash, so they are no objects.
    in_doubt: HashSet<Box<str>>,
}

impl Claims {
    /// Claims `name` until the claim is dropped; waits while another has it.
    pub(super) fn claim<'a>(&'a self, name: &'a str) -> Claim<'a> {
        let mut names = self.names.lock();
        while names.claimed.contains(name) {
            self.ended.wait(&mut names);
        }
        names.claimed.insert(name.into());
        Claim { claims: self, name }
    }
}

/// The right to create, or to withdraw, one name.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    name: &'a str,
}

impl Claim<'_> {
    pub(super) fn is_in_doubt(&self) -> bool {
        self.claims.names.lock().in_doubt.contains(self.name)
    }

    pub(super) fn set_in_doubt(&mut self, in_doubt: bool) {
        let mut names = self.claims.names.lock();
        if in_doubt {
            names.in_doubt.insert(self.name.into());
        } else {
            names.in_doubt.remove(self.name);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.names.lock().claimed.remove(self.name);
        // Those who wait may wait for different names.
        self.claims.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use lsvd::doors::store::{ObjectStore, StoreErrorKind};
    use pollster::block_on;

    use crate::LocalDirectory;

    fn body() -> Vec<Bytes> {
        vec![Bytes::from_static(b"x")]
    }

    #[test]
    fn a_put_waits_for_an_earlier_one_of_its_name_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalDirectory::open(directory.path()).unwrap();
        let shared = Arc::clone(&store.shared);
        let claim = shared.claims.claim("a");
        let (answer, answered) = std::sync::mpsc::channel();
        let other = store.clone();
        let waiting = std::thread::spawn(move || {
            let result = block_on(other.put("a", body()));
            answer.send(result).unwrap();
        });
        block_on(store.put("b", body())).unwrap();
        answered
            .recv_timeout(Duration::from_millis(200))
            .unwrap_err();
        assert!(!directory.path().join("a").exists());
        drop(claim);
        answered.recv().unwrap().unwrap();
        waiting.join().unwrap();
        let error = block_on(store.put("a", body())).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
    }

    #[test]
    fn a_name_in_doubt_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalDirectory::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("a"), "lost").unwrap();
        store.shared.claims.claim("a").set_in_doubt(true);
        block_on(store.put("a", body())).unwrap();
        assert_eq!(block_on(store.get("a")).unwrap(), "x");
        assert!(!store.shared.claims.claim("a").is_in_doubt());
    }
}
