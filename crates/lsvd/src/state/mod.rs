//! The state of a volume in memory, pure of I/O: extent map, batch, objects in flight.

pub mod batch;
pub mod checkpoint_requests;
pub mod durable;
pub mod extent_map;
pub mod in_flight;
pub mod logged;
pub mod object_table;
pub mod pace;
pub mod progress;
pub mod segments;
pub mod self_check;
pub mod uploads;
