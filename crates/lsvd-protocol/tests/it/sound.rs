//! The protocol as it is: all states within bounds that fit every run of the tests, and, in the tests
//! that are left out unless they are asked for, far beyond them.

use std::time::Instant;

use lsvd_protocol::model::{Bounds, Protocol};
use lsvd_protocol::properties::{
    BATCHES_GIVEN_UP, CLAIM_BEHIND_CHECKPOINT, LEFT_THE_LIST, LOG_REPLAYED, MADE_AGAIN,
    OVERTAKEN_MISSES, REMOVES, REMOVES_UNLISTED, REOPENED, Reached, SECOND_PERSISTS, STRAY,
    TWO_AT_WORK,
};
use lsvd_protocol::rules::Broken;
use stateright::{Checker, Model};

/// Two hosts, two uploads at once, nothing written and nothing that fails.
const SMALL: Bounds = Bounds {
    hosts: 2,
    openings: 3,
    batches: 2,
    window: 2,
    checkpoints: 0,
    crashes: 0,
    disk_losses: 0,
    faults: 0,
    removals: 0,
    epochs_kept: usize::MAX,
};

/// Goes through all states within the bounds.
fn check(title: &str, bounds: Bounds, broken: Broken, reached: &'static [Reached]) {
    let started = Instant::now();
    let protocol = Protocol {
        bounds,
        broken,
        reached,
    };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    eprintln!(
        "{title}: {} states, {} steps, up to {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn sound(title: &str, bounds: Bounds, reached: &'static [Reached]) {
    check(title, bounds, Broken::Nothing, reached);
}

#[test]
fn a_volume_is_taken_over_and_opened_with_its_log() {
    let bounds = Bounds {
        batches: 3,
        crashes: 1,
        disk_losses: 1,
        ..SMALL
    };
    let reached = &[
        SECOND_PERSISTS,
        TWO_AT_WORK,
        BATCHES_GIVEN_UP,
        LOG_REPLAYED,
        STRAY,
    ];
    sound("take-over", bounds, reached);
}

#[test]
fn four_openings_follow_one_another() {
    let bounds = Bounds {
        openings: 4,
        crashes: 1,
        batches: 1,
        ..SMALL
    };
    sound("four openings", bounds, &[LOG_REPLAYED, TWO_AT_WORK]);
}

#[test]
fn three_hosts_take_over_from_one_another() {
    let bounds = Bounds { hosts: 3, ..SMALL };
    sound(
        "three hosts",
        bounds,
        &[SECOND_PERSISTS, TWO_AT_WORK, STRAY],
    );
}

#[test]
fn answers_are_lost_and_requests_arrive_twice() {
    let bounds = Bounds {
        crashes: 1,
        faults: 1,
        ..SMALL
    };
    let reached = &[SECOND_PERSISTS, BATCHES_GIVEN_UP, LOG_REPLAYED];
    sound("lost answers", bounds, reached);
}

#[test]
fn checkpoints_are_made_while_another_takes_over() {
    let bounds = Bounds {
        checkpoints: 2,
        crashes: 1,
        ..SMALL
    };
    let reached = &[
        CLAIM_BEHIND_CHECKPOINT,
        REMOVES,
        REMOVES_UNLISTED,
        REOPENED,
        LOG_REPLAYED,
    ];
    sound("checkpoints", bounds, reached);
}

#[test]
fn old_checkpoints_are_removed_while_another_takes_over() {
    let reached = &[CLAIM_BEHIND_CHECKPOINT, REMOVES, OVERTAKEN_MISSES];
    sound("three checkpoints", THREE_CHECKPOINTS, reached);
}

const THREE_CHECKPOINTS: Bounds = Bounds {
    batches: 3,
    checkpoints: 3,
    ..SMALL
};

/// What the list does not name any more is known by the line alone, which a third writer goes by.
#[test]
fn epochs_of_the_stream_leave_the_list() {
    let bounds = Bounds {
        hosts: 1,
        batches: 4,
        checkpoints: 3,
        epochs_kept: 1,
        ..SMALL
    };
    let reached = &[LEFT_THE_LIST, REMOVES, REOPENED];
    sound("shortened lists", bounds, reached);
}

#[test]
fn a_volume_is_removed_and_made_again() {
    let bounds = Bounds {
        openings: 4,
        checkpoints: 1,
        removals: 1,
        ..SMALL
    };
    sound("removal", bounds, &[MADE_AGAIN, REMOVES]);
}

/// The fence check before a removal guards nothing that is not guarded twice, as long as only what
/// no superblock behind the own one can ever name is removed. Who lets a writer remove more has to
/// find this test failing.
#[test]
fn a_removal_without_a_look_takes_nothing_that_is_needed() {
    let bounds = Bounds {
        checkpoints: 2,
        crashes: 1,
        ..SMALL
    };
    check(
        "removal without a look",
        bounds,
        Broken::RemovesUnchecked,
        &[REMOVES],
    );
}

#[test]
#[ignore = "minutes"]
fn far_take_overs() {
    let bounds = Bounds {
        openings: 4,
        batches: 3,
        crashes: 2,
        disk_losses: 1,
        ..SMALL
    };
    sound("far, take-overs", bounds, &[LOG_REPLAYED, STRAY]);
}

#[test]
#[ignore = "minutes"]
fn far_faults() {
    let bounds = Bounds {
        batches: 3,
        crashes: 1,
        faults: 2,
        ..SMALL
    };
    sound("far, faults", bounds, &[LOG_REPLAYED, STRAY]);
}

#[test]
#[ignore = "minutes"]
fn far_checkpoints() {
    let bounds = Bounds {
        batches: 3,
        checkpoints: 3,
        crashes: 1,
        ..SMALL
    };
    sound("far, checkpoints", bounds, &[OVERTAKEN_MISSES, REOPENED]);
}

#[test]
#[ignore = "minutes"]
fn far_all_at_once() {
    let bounds = Bounds {
        checkpoints: 2,
        crashes: 1,
        disk_losses: 1,
        faults: 1,
        ..SMALL
    };
    sound("far, all at once", bounds, &[LOG_REPLAYED, REOPENED]);
}

#[test]
#[ignore = "minutes"]
fn far_removals() {
    let bounds = Bounds {
        openings: 5,
        checkpoints: 1,
        removals: 2,
        ..SMALL
    };
    sound("far, removals", bounds, &[MADE_AGAIN, REMOVES]);
}
