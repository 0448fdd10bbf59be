//! The engine as its users see it: volumes on real and on failing stores.

#![expect(
    clippy::unwrap_used,
    reason = "a failure anywhere in a test is the test's failure"
)]

mod failing_store;
mod objects;
mod order;
mod requests;
mod stress;
mod world;
