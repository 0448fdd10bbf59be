//! The protocol by which writers take a volume over from one another, fence each other, make
//! checkpoints and remove objects, as a model that a model checker goes through, every step of every
//! writer in every order, up to bounds.
//!
//! A model says what the engine does, in its words and its order, without bytes and without time.
//! There are three, so that each stays small enough to be gone through:
//!
//! - Taking over: what a state is, and what happens between two, is in [`model`]; what an opener does in
//!   [`opening`] and [`search`], what a writer at work does in [`serving`]; what must always hold in
//!   [`properties`]. [`rules`] has the rules that a test can break.
//! - [`deletion`]: dead objects, their stamps, and the checkpoints and snapshots that need them.
//! - [`pins`]: snapshots that are deleted while clones of them are made.
//!
//! The last two are what the engine is to be built from: it collects no garbage yet, and has neither
//! snapshots nor clones. They take for granted what the first one proves. Nothing depends on this crate,
//! and it on nothing of the engine: it is a second telling of the protocol, to be held beside the first.

pub mod deletion;
pub mod history;
pub mod model;
pub mod opening;
pub mod pins;
pub mod properties;
pub mod rules;
pub mod search;
pub mod serving;
pub mod store;
pub mod tried;
