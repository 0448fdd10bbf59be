//! Snapshots, clones and their pins: as they are, and with each of their rules broken.

mod broken;
mod sound;

use lsvd_protocol::pins::rules::Broken;
use lsvd_protocol::pins::{Bounds, Pins, properties};
use lsvd_protocol::tried::Tried;

/// Somebody deletes a snapshot while another one makes a clone of it.
const SMALL: Bounds = Bounds {
    openings: 1,
    clones: 1,
    clones_of_clone: false,
    deletions: 1,
    snapshots: 0,
    flattenings: 0,
    removals: 0,
    crashes: 0,
    faults: 0,
};

fn model(bounds: Bounds, broken: Broken, reached: &'static [properties::Reached]) -> Pins {
    let tried = Tried::default();
    Pins {
        bounds,
        broken,
        reached,
        tried,
    }
}
