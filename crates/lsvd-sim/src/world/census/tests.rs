//! Objects that nothing explains, and such that are missing, in the store of a volume that was closed.

use bytes::Bytes;
use lsvd::doors::store::ObjectStore;

use super::*;
use crate::cloud::{Contract, Mood};
use crate::executor::Executor;
use crate::points::Points;
use crate::world::{Settings, World};

/// What becomes of the store.
#[derive(Clone, Copy)]
enum Change {
    Put(&'static str),
    Delete(&'static str),
}

/// The store of a volume with an object and a checkpoint, after `change`; its openings failed where
/// `has_failed` says so.
fn census(change: Change, has_failed: bool) -> Result<Census, String> {
    let executor = Executor::new(1);
    let settings = Settings {
        contract: Contract::default(),
        unsafe_no_fencing: false,
        ..Settings::of(1)
    };
    let mut world = World::new(&executor, settings);
    let group = executor.group();
    let ran = executor.run(async move {
        assert!(world.is_there().await.unwrap());
        world.end_well().await.unwrap();
        let line = world.cloud.line(group, Mood::GOOD, 7, Points::default());
        let changed = match change {
            Change::Put(name) => line.put(name, vec![Bytes::from_static(b"x")]).await,
            Change::Delete(name) => line.delete(name).await,
        };
        changed.unwrap();
        let failed = has_failed.then_some(group);
        Census::take(world.cloud.objects(), failed.into_iter().collect())
    });
    ran.unwrap()
}

#[test]
fn what_nothing_explains_is_found() {
    for name in [
        "data.00000001",
        "data.20000000000",
        "ckpt.00000001",
        "probe.00000000000000000000000000000001",
        "precious",
    ] {
        let census = census(Change::Put(name), false).unwrap();
        let unexplained: Vec<&str> = census.unexplained().map(|(name, _)| name).collect();
        assert_eq!(unexplained, [name]);
        assert_eq!(census.strays(), usize::from(name.starts_with("data.")));
        assert_eq!(census.missing(), None);
    }
}

#[test]
fn the_probe_of_an_opening_that_failed_is_explained() {
    let name = "probe.00000000000000000000000000000001";
    let census = census(Change::Put(name), true).unwrap();
    assert_eq!(census.unexplained().count(), 0);
}

#[test]
fn what_is_missing_is_found() {
    let census_without = |name| census(Change::Delete(name), false);
    let missing = census_without("data.00000000").unwrap().missing();
    assert_eq!(missing.unwrap().to_string(), "data.00000000");
    for name in ["superblock.00000001", "ckpt.00000000"] {
        let wrong = census_without(name).unwrap_err();
        assert!(wrong.starts_with(name), "{wrong}");
    }
}
