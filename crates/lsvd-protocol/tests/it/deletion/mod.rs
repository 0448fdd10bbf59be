//! Deletion: as it is, and with each of its rules broken.

mod broken;
mod sound;

use lsvd_protocol::deletion::rules::Broken;
use lsvd_protocol::deletion::{Bounds, Deletion, properties};
use lsvd_protocol::tried::Tried;

/// One host opens the volume once, and nothing fails.
const SMALL: Bounds = Bounds {
    openings: 1,
    writes: 1,
    checkpoints: 3,
    copies: 0,
    snapshots: 0,
    reads: 0,
    crashes: 0,
    damages: 0,
    faults: 0,
    works_on: false,
};

/// Garbage is collected, and another one takes over.
const COLLECTED: Bounds = Bounds {
    openings: 2,
    copies: 1,
    ..SMALL
};

/// A snapshot is taken and deleted, and another one takes over.
const SNAPSHOT: Bounds = Bounds {
    openings: 2,
    snapshots: 1,
    ..SMALL
};

fn model(bounds: Bounds, broken: Broken, reached: &'static [properties::Reached]) -> Deletion {
    let tried = Tried::default();
    Deletion {
        bounds,
        broken,
        reached,
        tried,
    }
}
