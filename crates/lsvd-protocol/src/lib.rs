//! The protocol by which writers take a volume over from one another, fence each other, make
//! checkpoints and remove objects, as a model that a model checker goes through, every step of every
//! writer in every order, up to bounds.
//!
//! The model says what the engine does, in its words and its order, without bytes and without time.
//! What a state is, and what happens between two, is in [`model`]; what an opener does in [`opening`]
//! and [`search`], what a writer at work does in [`serving`]; what must always hold in [`properties`].
//! [`rules`] has the rules that a test can break. Nothing depends on this crate, and it on nothing of
//! the engine: it is a second telling of the protocol, to be held beside the first.
//!
//! Objects that garbage collection moves, deletion stamps, and pins of clones are not in it: the engine
//! has none of them. Their place is [`serving`], where objects are removed, and
//! [`properties::needed_is_there`], which would have to know of them.

pub mod history;
pub mod model;
pub mod opening;
pub mod properties;
pub mod rules;
pub mod search;
pub mod serving;
pub mod store;
