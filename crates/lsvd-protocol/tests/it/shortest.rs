//! The shortest way to a state in which something does not hold.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// More steps than any of the ways has.
const STEPS_MAX: usize = 40;

/// Looks for a state in which `property` does not hold, and prints the shortest way to it. The checker
/// gives any that it comes across, so it is asked for one step more at a time.
pub(crate) fn breaks<M>(model: &M, broken: impl Debug, property: &'static str)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    for steps in 1..=STEPS_MAX {
        let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        // A path of so many steps has one state more, and that at the bound is not looked at.
        let checker = model.clone().checker().target_max_depth(steps + 2);
        let checker = checker.finish_when(found).spawn_bfs().join();
        let Some(way) = checker.discovery(property) else {
            continue;
        };
        eprintln!("{broken:?}: \"{property}\" fails after {steps} steps:");
        for step in way.into_actions() {
            eprintln!("  {step:?}");
        }
        return;
    }
    panic!("{broken:?}: \"{property}\" holds within {STEPS_MAX} steps");
}
