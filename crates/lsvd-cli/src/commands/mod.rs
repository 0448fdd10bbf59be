//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod info;
pub(crate) mod serve;

mod volume;
