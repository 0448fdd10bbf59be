//! Snapshots, clones and pins as they are.

use std::time::Instant;

use lsvd_protocol::pins::Bounds;
use lsvd_protocol::pins::properties::{
    BASE_REMOVED, CLONED, CLONED_AGAIN, FENCED, MARK_LEFT, ORPHAN, Reached, SNAPSHOT_GONE, UNPINNED,
};
use lsvd_protocol::pins::rules::Broken;
use stateright::{Checker, Model};

use super::{SMALL, model};

/// Goes through all states within the bounds.
fn sound(title: &str, bounds: Bounds, reached: &'static [Reached]) {
    let started = Instant::now();
    let model = model(bounds, Broken::Nothing, reached);
    let checker = model.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "pins, {title}: {} states, up to {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

#[test]
fn a_snapshot_is_deleted_while_a_clone_is_made() {
    let bounds = Bounds {
        openings: 2,
        deletions: 2,
        crashes: 2,
        ..SMALL
    };
    let reached = &[CLONED, SNAPSHOT_GONE, ORPHAN, MARK_LEFT, FENCED];
    sound("deletion", bounds, reached);
}

#[test]
fn two_clones_want_the_same_place() {
    let bounds = Bounds { clones: 2, ..SMALL };
    sound("two clones", bounds, &[CLONED, SNAPSHOT_GONE, FENCED]);
}

#[test]
fn a_clone_gets_rid_of_its_base() {
    let bounds = Bounds {
        openings: 2,
        deletions: 2,
        snapshots: 1,
        flattenings: 2,
        ..SMALL
    };
    sound("flattening", bounds, &[UNPINNED, SNAPSHOT_GONE]);
}

#[test]
fn base_and_clone_are_removed() {
    let bounds = Bounds {
        openings: 2,
        deletions: 2,
        removals: 2,
        ..SMALL
    };
    sound("removal", bounds, &[BASE_REMOVED, CLONED, ORPHAN]);
}

#[test]
fn answers_are_lost_and_requests_arrive_twice() {
    let bounds = Bounds {
        openings: 2,
        crashes: 1,
        faults: 1,
        ..SMALL
    };
    sound("lost answers", bounds, &[CLONED, ORPHAN, SNAPSHOT_GONE]);
}

#[test]
fn a_clone_of_a_clone_is_made() {
    let bounds = Bounds {
        openings: 2,
        clones_of_clone: true,
        flattenings: 1,
        ..SMALL
    };
    sound("clone of a clone", bounds, &[CLONED_AGAIN, SNAPSHOT_GONE]);
}

#[test]
#[ignore = "minutes"]
fn far_clones() {
    let bounds = Bounds {
        openings: 2,
        clones: 2,
        crashes: 1,
        faults: 1,
        ..SMALL
    };
    sound("far, clones", bounds, &[CLONED, FENCED, SNAPSHOT_GONE]);
}

#[test]
#[ignore = "minutes"]
fn far_clones_of_a_clone() {
    let bounds = Bounds {
        openings: 2,
        clones_of_clone: true,
        deletions: 2,
        flattenings: 2,
        ..SMALL
    };
    let reached = &[CLONED_AGAIN, SNAPSHOT_GONE, UNPINNED];
    sound("far, clones of a clone", bounds, reached);
}
