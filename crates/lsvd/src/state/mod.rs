//! The state of a volume in memory, pure of I/O: extent map, batch, objects in flight.

pub mod batch;
pub mod extent_map;
pub mod in_flight;
pub mod object_table;
pub mod progress;
