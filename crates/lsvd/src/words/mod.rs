//! The vocabulary: units, object names, errors, limits, and values as people write them. Imports
//! nothing of the engine.

pub mod error;
pub mod limits;
pub mod name;
pub mod planted;
pub mod text;
pub mod units;
