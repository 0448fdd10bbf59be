//! Each rule, broken: the checker has to find what comes of it, and so the property can fail.

use std::collections::BTreeSet;

use lsvd_protocol::model::{Bounds, Protocol};
use lsvd_protocol::properties::{
    A_PREFIX, ENDS_NEVER_RISE, FLUSHED_STAYS, NEEDED_IS_THERE, NO_DAMAGE, ONE_WRITER,
    PERSISTED_STAYS,
};
use lsvd_protocol::rules::Broken;
use stateright::{Checker, HasDiscoveries, Model};

/// A first writer, and one that takes over.
const BOUNDS: Bounds = Bounds {
    hosts: 2,
    openings: 2,
    batches: 2,
    window: 2,
    checkpoints: 0,
    crashes: 0,
    disk_losses: 0,
    faults: 0,
    removals: 0,
    epochs_kept: usize::MAX,
};

const THREE_OPENINGS: Bounds = Bounds {
    openings: 3,
    ..BOUNDS
};

const CHECKPOINTS: Bounds = Bounds {
    batches: 3,
    checkpoints: 3,
    ..BOUNDS
};

/// Looks for a state in which `property` does not hold, and prints how it is reached.
fn breaks(broken: Broken, bounds: Bounds, property: &'static str) {
    let protocol = Protocol {
        bounds,
        broken,
        reached: &[],
    };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = protocol.checker().threads(2).finish_when(found);
    let checker = checker.spawn_bfs().join();
    let steps = checker.assert_any_discovery(property).into_actions();
    let states = checker.unique_state_count();
    eprintln!(
        "{broken:?}: \"{property}\" fails after {} steps, found in {states} states:",
        steps.len()
    );
    for step in steps {
        eprintln!("  {step:?}");
    }
}

#[test]
fn a_search_before_the_claim_loses_what_is_persisted_meanwhile() {
    breaks(Broken::SearchBeforeClaim, BOUNDS, PERSISTED_STAYS);
}

#[test]
fn who_serves_without_fixing_the_ends_is_forgotten() {
    breaks(Broken::EndsNotFixed, BOUNDS, PERSISTED_STAYS);
}

#[test]
fn an_opener_that_reads_on_behind_a_fixed_end_takes_what_was_given_up() {
    breaks(Broken::FixedEndIgnored, THREE_OPENINGS, ENDS_NEVER_RISE);
}

#[test]
fn a_gap_that_is_skipped_gives_a_state_that_never_was() {
    breaks(Broken::GapSkipped, BOUNDS, A_PREFIX);
}

#[test]
fn a_gap_that_is_not_looked_at_again_passes_for_damage() {
    let bounds = Bounds {
        batches: 3,
        ..BOUNDS
    };
    breaks(Broken::GapNotLookedAtAgain, bounds, NO_DAMAGE);
}

#[test]
fn an_epoch_that_is_left_out_too_early_is_lost() {
    breaks(Broken::EpochForgotten, BOUNDS, PERSISTED_STAYS);
}

#[test]
fn a_claim_one_higher_gives_an_epoch_two_writers() {
    breaks(Broken::ClaimOneHigher, BOUNDS, ONE_WRITER);
}

#[test]
fn without_a_fence_check_a_report_is_broken() {
    breaks(Broken::NoFenceCheck, BOUNDS, PERSISTED_STAYS);
}

#[test]
fn a_check_that_covers_later_answers_reports_too_much() {
    breaks(Broken::CheckCoversItsEnd, BOUNDS, PERSISTED_STAYS);
}

#[test]
fn two_outstanding_superblocks_leave_a_hole_in_the_chain() {
    let bounds = Bounds {
        checkpoints: 1,
        ..THREE_OPENINGS
    };
    breaks(Broken::TwoOutstanding, bounds, NO_DAMAGE);
}

#[test]
fn a_checkpoint_that_is_named_too_early_names_what_is_not_there() {
    breaks(Broken::CheckpointTooEarly, CHECKPOINTS, NEEDED_IS_THERE);
}

#[test]
fn a_removal_before_the_superblock_takes_what_is_still_named() {
    breaks(Broken::RemovesBeforeNamed, CHECKPOINTS, NEEDED_IS_THERE);
}

#[test]
fn a_fenced_writer_that_removes_takes_what_its_successor_needs() {
    breaks(Broken::FencedRemoves, CHECKPOINTS, NEEDED_IS_THERE);
}

#[test]
fn a_checkpoint_with_pieces_of_a_kept_one_is_needed() {
    breaks(Broken::RemovesReferenced, CHECKPOINTS, NEEDED_IS_THERE);
}

#[test]
fn a_stalled_writer_that_removes_what_is_newer_takes_what_was_persisted() {
    let bounds = Bounds {
        checkpoints: 1,
        faults: 1,
        ..BOUNDS
    };
    breaks(Broken::RemovesNewer, bounds, NEEDED_IS_THERE);
}

/// Two writers, each with a checkpoint of its own, so that the first one's epoch leaves the list; the
/// third lists the store.
#[test]
fn an_epoch_that_left_the_list_has_objects_of_the_stream() {
    let bounds = Bounds {
        hosts: 1,
        batches: 4,
        checkpoints: 3,
        epochs_kept: 1,
        ..THREE_OPENINGS
    };
    breaks(Broken::StraysByListAlone, bounds, NEEDED_IS_THERE);
}

#[test]
fn a_foreign_log_brings_back_what_was_given_up() {
    let bounds = Bounds {
        crashes: 1,
        ..THREE_OPENINGS
    };
    breaks(Broken::ForeignLogReplayed, bounds, ENDS_NEVER_RISE);
}

#[test]
fn a_segment_that_is_freed_at_the_answer_loses_what_was_flushed() {
    let bounds = Bounds {
        crashes: 1,
        ..THREE_OPENINGS
    };
    breaks(Broken::SegmentFreedWhenAnswered, bounds, FLUSHED_STAYS);
}

#[test]
fn a_volume_called_clean_too_early_loses_its_log() {
    breaks(Broken::CleanTooEarly, BOUNDS, FLUSHED_STAYS);
}

#[test]
fn uploads_beyond_the_window_pass_for_damage() {
    let bounds = Bounds {
        window: 1,
        ..BOUNDS
    };
    breaks(Broken::WindowExceeded, bounds, NO_DAMAGE);
}

#[test]
fn without_its_tombstone_a_removed_volume_is_served() {
    let bounds = Bounds {
        openings: 3,
        removals: 1,
        ..BOUNDS
    };
    breaks(Broken::TombstoneRemoved, bounds, NEEDED_IS_THERE);
}

#[test]
fn epochs_that_are_used_again_meet_objects_of_the_volume_before() {
    let bounds = Bounds {
        openings: 4,
        removals: 1,
        ..BOUNDS
    };
    breaks(Broken::EpochsUsedAgain, bounds, NO_DAMAGE);
}

#[test]
fn a_store_that_ignores_the_condition_is_no_store() {
    breaks(Broken::ConditionIgnored, BOUNDS, PERSISTED_STAYS);
}
