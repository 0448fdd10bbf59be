//! Stores that do not keep a second writer out: they are found out before a volume is made there, and
//! before the first opening.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError, StoreErrorKind};
use lsvd::{CreateOptions, ErrorKind, OpenOptions, Volume};
use lsvd_store::MemoryStore;

use crate::host::open_fresh;
use crate::world::{MIB, runtime};

/// How a store breaks the condition.
#[derive(Clone, Copy, Debug)]
enum Breach {
    /// It does not.
    None,
    /// It ignores the condition: whoever comes later overwrites.
    Overwrites,
    /// It looks and then creates: who comes in between is told that he won as well.
    TwoWin,
    /// It says that one won, and keeps what another sent.
    WrongWinner,
}

#[derive(Debug)]
struct Lax {
    inner: Arc<MemoryStore>,
    breach: Breach,
    lost: AtomicU32,
}

impl Lax {
    async fn create(&self, name: &str, body: Vec<Bytes>) -> Result<(), StoreError> {
        let Err(error) = self.inner.put(name, body.clone()).await else {
            return Ok(());
        };
        assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
        let is_first = self.lost.fetch_add(1, Ordering::SeqCst) == 0;
        match self.breach {
            Breach::Overwrites => {
                self.inner.delete(name).await?;
                self.inner.put(name, body).await
            }
            Breach::TwoWin if is_first => Ok(()),
            Breach::WrongWinner if is_first => {
                self.inner.delete(name).await?;
                self.inner.put(name, body).await?;
                Err(error)
            }
            _ => Err(error),
        }
    }
}

impl ObjectStore for Lax {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.create(name, body))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get(name)
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.inner.get_range(name, range)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        self.inner.list()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(name)
    }

    fn url(&self) -> String {
        "a lax store".to_owned()
    }
}

fn lax(inner: &Arc<MemoryStore>, breach: Breach) -> Arc<Lax> {
    Arc::new(Lax {
        inner: inner.clone(),
        breach,
        lost: AtomicU32::new(0),
    })
}

fn create(store: Arc<dyn ObjectStore>, unsafe_no_fencing: bool) -> lsvd::Result<()> {
    let options = CreateOptions {
        object_size: MIB,
        unsafe_no_fencing,
        ..CreateOptions::new(16 * MIB)
    };
    Volume::create(store, runtime(), options).map(|_| ())
}

fn open(store: Arc<dyn ObjectStore>, unsafe_no_fencing: bool) -> lsvd::Result<Volume> {
    let options = OpenOptions {
        unsafe_no_fencing,
        take_over: true,
        ..OpenOptions::new("this machine")
    };
    open_fresh(store, runtime(), options)
}

#[test]
fn a_store_in_which_not_exactly_one_creator_wins_is_refused() {
    for breach in [Breach::Overwrites, Breach::TwoWin, Breach::WrongWinner] {
        let inner = Arc::new(MemoryStore::new());
        let refused = create(lax(&inner, breach), false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotEmpty, "{breach:?}");
        assert!(
            refused.to_string().contains("--unsafe-no-fencing"),
            "{refused}"
        );
        let listed = pollster::block_on(inner.list()).unwrap();
        assert_eq!(listed, [], "{breach:?}: something was left");

        // Made elsewhere, or copied: the first opening looks again.
        create(lax(&inner, Breach::None), false).unwrap();
        let refused = open(lax(&inner, breach), false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotEmpty, "{breach:?}");
        let volume = open(lax(&inner, breach), true).unwrap();
        volume.write(0, &[1; 512]).unwrap();
        volume.close().unwrap();
    }
}

#[test]
fn on_ones_own_risk_such_a_store_is_used() {
    let inner = Arc::new(MemoryStore::new());
    create(lax(&inner, Breach::Overwrites), true).unwrap();
    let volume = open(lax(&inner, Breach::Overwrites), true).unwrap();
    volume.write(0, &[1; 512]).unwrap();
    volume.close().unwrap();
}
