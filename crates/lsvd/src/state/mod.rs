//! The state of a volume in memory, pure of I/O: extent map, batch, objects in flight.

pub mod extent_map;
