//! Each rule of deletion, broken: the checker has to find what comes of it.

use lsvd_protocol::deletion::Bounds;
use lsvd_protocol::deletion::properties::{
    DEAD_GOES, DELETED_STAYS_AWAY, KEPT_READS, OPENS, SERVES, SNAPSHOT_READS, SNAPSHOT_STAYS,
};
use lsvd_protocol::deletion::rules::Broken;

use super::{COLLECTED, SMALL, SNAPSHOT, model};

fn breaks(broken: Broken, bounds: Bounds, property: &'static str) {
    crate::shortest::breaks(&model(bounds, broken, &[]), broken, property);
}

/// Without writes two cuts are at one place of the stream, and garbage was collected in between.
#[test]
fn a_stamp_that_is_a_place_is_before_its_death() {
    let bounds = Bounds {
        openings: 1,
        writes: 0,
        ..COLLECTED
    };
    breaks(Broken::StampIsPlace, bounds, OPENS);
}

#[test]
fn what_dies_behind_a_running_cut_is_in_its_checkpoint() {
    breaks(Broken::StampOfRunningCut, SMALL, KEPT_READS);
}

#[test]
fn what_is_dead_at_open_is_in_a_kept_checkpoint() {
    let bounds = Bounds {
        openings: 2,
        ..SMALL
    };
    breaks(Broken::UnstampedAtOpen, bounds, KEPT_READS);
}

#[test]
fn what_a_snapshot_held_is_in_a_kept_checkpoint() {
    breaks(Broken::UnstampedBehindSnapshot, SNAPSHOT, KEPT_READS);
}

#[test]
fn a_victim_is_in_a_kept_checkpoint() {
    breaks(Broken::UnstampedVictim, COLLECTED, OPENS);
}

#[test]
fn the_older_checkpoint_needs_what_the_newest_does_not() {
    breaks(Broken::NewestAlone, COLLECTED, OPENS);
}

#[test]
fn a_checkpoint_that_is_not_named_is_none() {
    breaks(Broken::CountsUnnamed, COLLECTED, OPENS);
}

#[test]
fn a_snapshot_that_does_not_hold_misses_data() {
    breaks(Broken::SnapshotDoesNotHold, SNAPSHOT, SNAPSHOT_READS);
}

#[test]
fn a_reader_that_does_not_hold_misses_data() {
    let bounds = Bounds { reads: 1, ..SMALL };
    breaks(Broken::ReaderDoesNotHold, bounds, SERVES);
}

#[test]
fn a_pending_snapshot_that_is_overtaken_is_forgotten() {
    breaks(Broken::SnapshotOvertaken, SNAPSHOT, SNAPSHOT_STAYS);
}

#[test]
fn a_deleted_snapshot_passes_for_a_pending_one() {
    let bounds = Bounds {
        openings: 1,
        ..SNAPSHOT
    };
    breaks(Broken::PendingByAbsence, bounds, DELETED_STAYS_AWAY);
}

#[test]
fn moved_data_that_replaces_newer_shows_the_past() {
    breaks(Broken::RemapsNewer, COLLECTED, SERVES);
}

#[test]
fn a_checkpoint_of_the_living_forgets_the_dead() {
    breaks(Broken::DeadUnlisted, SMALL, DEAD_GOES);
}

#[test]
fn what_is_forgotten_when_its_removal_is_sent_stays() {
    let bounds = Bounds {
        checkpoints: 4,
        ..SMALL
    };
    breaks(Broken::ForgottenWhenSent, bounds, DEAD_GOES);
}

#[test]
fn strays_are_not_known_after_a_fall_back() {
    let bounds = Bounds {
        checkpoints: 2,
        damages: 1,
        ..COLLECTED
    };
    breaks(Broken::CleansAtOnceAfterFallback, bounds, OPENS);
}

#[test]
fn what_the_map_does_not_need_is_no_stray() {
    let bounds = Bounds {
        writes: 2,
        checkpoints: 2,
        ..COLLECTED
    };
    breaks(Broken::CleansByMapAlone, bounds, KEPT_READS);
}

#[test]
fn what_a_later_writer_moved_is_no_stray() {
    breaks(Broken::CleansNewer, COLLECTED, OPENS);
}

#[test]
fn a_damaged_checkpoint_is_no_second_one() {
    let bounds = Bounds {
        openings: 2,
        writes: 0,
        damages: 2,
        ..SMALL
    };
    breaks(Broken::DamagedCounts, bounds, OPENS);
}
