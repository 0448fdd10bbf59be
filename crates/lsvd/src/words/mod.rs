//! The vocabulary: units, object names, errors and limits. Imports nothing of the engine.

pub mod error;
pub mod limits;
pub mod name;
pub mod units;
