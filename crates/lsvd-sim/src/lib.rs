//! A simulated world for tests of LSVD: what the engine's doors open on, and the disk of a machine
//! whose power is cut, with every mishap at the test's command. Nothing here is shipped, and nothing
//! depends on time or chance but by a seed.

pub mod cloud;
pub mod disk;
pub mod disk_conformance;
pub mod executor;
pub mod history;
pub mod points;
pub mod random;
pub mod seeds;
pub mod volatile;
pub mod world;
