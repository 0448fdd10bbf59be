//! The engine as its users see it: volumes on real and on failing stores.

#![expect(
    clippy::unwrap_used,
    reason = "a failure anywhere in a test is the test's failure"
)]

mod checkpoints;
mod closed_log;
mod crash;
mod epochs;
mod exclusive;
mod failing_store;
mod fence;
mod filled_log;
mod found_log;
mod host;
mod inspect;
mod large_log;
mod lasting;
mod late;
mod mortal;
mod objects;
mod order;
mod outage;
mod process;
mod read_only;
mod remove;
mod requests;
mod runtime;
mod simulated;
mod stalled;
mod stress;
mod superblocks;
mod torn_log;
mod unreadable_log;
mod world;
