//! Deletion as it is, and with rules broken that something else stands for.

use std::time::Instant;

use lsvd_protocol::deletion::Bounds;
use lsvd_protocol::deletion::properties::{
    DATA_GOES, FELL_BACK, LATE_REMOVAL, MOVED, MOVED_GOES, PENDING_FOUND, Reached, SNAPSHOT_ALONE,
};
use lsvd_protocol::deletion::rules::Broken;
use stateright::{Checker, Model};

use super::{COLLECTED, SMALL, SNAPSHOT, model};

/// Goes through all states within the bounds.
fn check(title: &str, bounds: Bounds, broken: Broken, reached: &'static [Reached]) {
    let started = Instant::now();
    let model = model(bounds, broken, reached);
    let checker = model.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "deletion, {title}: {} states, up to {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn sound(title: &str, bounds: Bounds, reached: &'static [Reached]) {
    check(title, bounds, Broken::Nothing, reached);
}

/// A rule is left out, and nothing comes of it.
fn needless(broken: Broken, bounds: Bounds, reached: &'static [Reached]) {
    check(&format!("{broken:?}"), bounds, broken, reached);
}

#[test]
fn garbage_is_collected_while_another_takes_over() {
    let bounds = Bounds {
        works_on: true,
        ..COLLECTED
    };
    let reached = &[DATA_GOES, MOVED_GOES, MOVED, LATE_REMOVAL];
    sound("take-over", bounds, reached);
}

#[test]
fn overwritten_data_goes() {
    let bounds = Bounds {
        openings: 2,
        writes: 2,
        crashes: 1,
        ..SMALL
    };
    sound("overwritten", bounds, &[DATA_GOES, LATE_REMOVAL]);
}

#[test]
fn a_snapshot_keeps_what_it_needs() {
    let bounds = Bounds {
        crashes: 1,
        works_on: true,
        ..SNAPSHOT
    };
    sound(
        "snapshot",
        bounds,
        &[SNAPSHOT_ALONE, PENDING_FOUND, DATA_GOES],
    );
}

#[test]
fn a_snapshot_keeps_what_is_collected() {
    let bounds = Bounds {
        openings: 1,
        writes: 0,
        checkpoints: 4,
        copies: 1,
        ..SNAPSHOT
    };
    sound("snapshot and garbage", bounds, &[SNAPSHOT_ALONE, MOVED]);
}

#[test]
fn a_damaged_checkpoint_is_fallen_back_from() {
    let bounds = Bounds {
        damages: 1,
        ..COLLECTED
    };
    sound("damage", bounds, &[FELL_BACK, DATA_GOES, LATE_REMOVAL]);
}

#[test]
fn a_second_checkpoint_is_damaged_after_the_first() {
    let bounds = Bounds {
        damages: 2,
        writes: 0,
        ..COLLECTED
    };
    sound("two damages", bounds, &[FELL_BACK]);
}

#[test]
fn a_fall_back_rolls_forward_over_a_snapshot() {
    let bounds = Bounds {
        damages: 1,
        ..SNAPSHOT
    };
    sound("damage and snapshot", bounds, &[FELL_BACK, PENDING_FOUND]);
}

#[test]
fn clients_read_while_objects_go() {
    let bounds = Bounds {
        reads: 1,
        openings: 1,
        ..COLLECTED
    };
    sound("readers", bounds, &[DATA_GOES, MOVED]);
}

#[test]
fn answers_of_removals_are_lost() {
    let bounds = Bounds {
        writes: 0,
        faults: 1,
        ..COLLECTED
    };
    sound("lost answers", bounds, &[MOVED, LATE_REMOVAL]);
}

/// A stamp is never before the death, so what is stamped before the older cut is before that, too.
#[test]
fn data_behind_the_older_cut_has_a_later_stamp() {
    needless(Broken::BehindOlderCut, COLLECTED, &[DATA_GOES]);
}

/// Checkpoints are made one after the other: what the running one needs dies behind its cut.
#[test]
fn a_running_checkpoint_needs_nothing_that_may_go() {
    needless(Broken::RunningDoesNotHold, COLLECTED, &[DATA_GOES]);
}

/// The pending snapshot's checkpoint is made before any other.
#[test]
fn a_pending_snapshot_needs_nothing_that_may_go() {
    needless(Broken::PendingDoesNotHold, SNAPSHOT, &[PENDING_FOUND]);
}

/// Whoever follows begins from the superblock that makes the objects needless, or a later one. It could
/// not be otherwise: a removal that was sent behind a check may arrive any time later.
#[test]
fn a_removal_without_a_fence_check_takes_nothing_that_is_needed() {
    let bounds = Bounds {
        works_on: true,
        ..COLLECTED
    };
    needless(Broken::RemovesUnchecked, bounds, &[LATE_REMOVAL]);
}

/// A claim has the number that another writer's superblock would need to name anything.
#[test]
fn strays_are_strays_from_the_claim_on() {
    needless(Broken::CleansAtOnce, COLLECTED, &[MOVED_GOES]);
}

/// Behind its own checkpoint nobody opens from what could not be read.
#[test]
fn a_writer_that_fell_back_removes_nothing_that_is_needed() {
    let bounds = Bounds {
        writes: 0,
        damages: 1,
        ..COLLECTED
    };
    needless(Broken::RemovesAfterFallback, bounds, &[FELL_BACK]);
}

/// The stamp alone keeps the source.
#[test]
fn garbage_may_be_collected_in_the_newest_objects() {
    needless(Broken::CollectsNewest, COLLECTED, &[MOVED]);
}

#[test]
#[ignore = "minutes"]
fn far_deletion() {
    let bounds = Bounds {
        openings: 3,
        crashes: 1,
        ..COLLECTED
    };
    sound("far", bounds, &[DATA_GOES, MOVED, LATE_REMOVAL]);
}

#[test]
#[ignore = "minutes"]
fn far_collections() {
    let bounds = Bounds {
        openings: 1,
        copies: 2,
        checkpoints: 4,
        ..COLLECTED
    };
    sound("far, collections", bounds, &[DATA_GOES, MOVED]);
}

#[test]
#[ignore = "minutes"]
fn far_damage() {
    let bounds = Bounds {
        damages: 2,
        ..COLLECTED
    };
    sound("far, damage", bounds, &[FELL_BACK, MOVED]);
}

#[test]
#[ignore = "minutes"]
fn far_snapshots() {
    let bounds = Bounds {
        openings: 1,
        snapshots: 2,
        checkpoints: 4,
        crashes: 1,
        ..SNAPSHOT
    };
    sound("far, snapshots", bounds, &[SNAPSHOT_ALONE, PENDING_FOUND]);
}
