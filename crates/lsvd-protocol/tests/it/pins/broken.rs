//! Each rule of pins, broken: the checker has to find what comes of it.

use std::collections::BTreeSet;

use lsvd_protocol::pins::Bounds;
use lsvd_protocol::pins::properties::{ALL_GOES, CLONE_IS_PINNED, CLONE_READS, SNAPSHOT_GOES};
use lsvd_protocol::pins::rules::Broken;

use stateright::{Checker, HasDiscoveries, Model};

use super::{SMALL, model};

const TWO_OPENINGS: Bounds = Bounds {
    openings: 2,
    ..SMALL
};

fn breaks(broken: Broken, bounds: Bounds, property: &'static str) {
    crate::shortest::breaks(&model(bounds, broken, &[]), broken, property);
}

#[test]
fn a_clone_that_does_not_look_again_comes_too_late() {
    breaks(Broken::NotLookedAgain, SMALL, CLONE_READS);
}

#[test]
fn a_clone_that_looks_before_its_pins_are_there_comes_too_late() {
    breaks(Broken::LookedAgainTooEarly, SMALL, CLONE_READS);
}

#[test]
fn a_marked_snapshot_is_no_base() {
    breaks(Broken::MarkIgnored, SMALL, CLONE_READS);
}

#[test]
fn another_snapshot_of_the_same_name_is_another() {
    let bounds = Bounds {
        snapshots: 1,
        ..SMALL
    };
    breaks(Broken::KnownByName, bounds, CLONE_READS);
}

#[test]
fn a_look_before_the_mark_misses_a_pin() {
    breaks(Broken::LooksBeforeMark, SMALL, CLONE_READS);
}

#[test]
fn the_look_of_a_writer_that_is_gone_is_too_old() {
    breaks(Broken::OldLookTrusted, TWO_OPENINGS, CLONE_READS);
}

/// Everything else finds objects by exact names; pins are found by a list alone.
#[test]
fn a_list_that_is_late_misses_a_pin() {
    breaks(Broken::ListIsLate, SMALL, CLONE_READS);
}

#[test]
fn a_clone_that_gives_up_too_late_is_there_without_pins() {
    breaks(Broken::GivesUpTooLate, SMALL, CLONE_READS);
}

#[test]
fn the_removal_of_an_earlier_pin_takes_that_of_the_same_name() {
    let bounds = Bounds { clones: 2, ..SMALL };
    breaks(Broken::UuidUsedAgain, bounds, CLONE_READS);
}

#[test]
fn a_pin_without_a_clone_is_that_of_one_to_come() {
    breaks(Broken::OrphanUnfenced, SMALL, CLONE_READS);
}

#[test]
fn a_pin_that_nobody_takes_away_blocks_the_base() {
    let bounds = Bounds {
        crashes: 1,
        ..SMALL
    };
    breaks(Broken::OrphanStays, bounds, SNAPSHOT_GOES);
}

#[test]
fn a_clone_of_a_clone_needs_the_first_base() {
    let bounds = Bounds {
        clones_of_clone: true,
        ..SMALL
    };
    breaks(Broken::BaseAlonePinned, bounds, CLONE_IS_PINNED);
}

/// What comes of that: the clone in the middle gets rid of its base, and the base of its snapshot. It
/// takes 30 steps and a million states, too many to look for the shortest way.
#[test]
#[ignore = "a minute"]
fn far_a_clone_of_a_clone_misses_the_first_base() {
    let bounds = Bounds {
        openings: 3,
        clones_of_clone: true,
        deletions: 2,
        flattenings: 4,
        ..SMALL
    };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([CLONE_READS]));
    let checker = model(bounds, Broken::BaseAlonePinned, &[]).checker();
    let checker = checker.threads(2).finish_when(found).spawn_bfs().join();
    for step in checker.assert_any_discovery(CLONE_READS).into_actions() {
        eprintln!("  {step:?}");
    }
}

#[test]
fn the_older_checkpoint_needs_the_base() {
    let bounds = Bounds {
        flattenings: 1,
        ..TWO_OPENINGS
    };
    breaks(Broken::UnpinsWithNewest, bounds, CLONE_READS);
}

#[test]
fn a_snapshot_of_the_clone_needs_the_base() {
    let bounds = Bounds {
        snapshots: 1,
        flattenings: 2,
        ..TWO_OPENINGS
    };
    breaks(Broken::UnpinsUnderSnapshot, bounds, CLONE_READS);
}

#[test]
fn a_clone_without_its_tombstone_needs_the_base() {
    let bounds = Bounds {
        removals: 1,
        ..TWO_OPENINGS
    };
    breaks(Broken::UnpinsBeforeTombstone, bounds, CLONE_READS);
}

#[test]
fn a_tombstone_over_a_snapshot_misses_a_pin() {
    let bounds = Bounds {
        removals: 1,
        ..SMALL
    };
    breaks(Broken::TombstoneOverSnapshot, bounds, CLONE_READS);
}

/// A pin that arrives when the snapshot is gone is in nobody's way: whom it is of looks again, and
/// finds no base. Nothing takes it away any more but the volume's removal. All other properties hold
/// in all states.
#[test]
fn a_removal_that_waits_for_pins_waits_for_ever() {
    let broken = Broken::RemovalAwaitsPins;
    breaks(broken, SMALL, ALL_GOES);
    let checker = model(SMALL, broken, &[]).checker();
    let discoveries = checker.threads(2).spawn_bfs().join().discoveries();
    let failing: Vec<_> = discoveries.into_keys().collect();
    assert_eq!(failing, [ALL_GOES]);
}
