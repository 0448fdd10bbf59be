//! The engine as its users see it: volumes on real and on failing stores.

mod failing_store;
mod objects;
mod order;
mod requests;
mod stress;
mod world;
