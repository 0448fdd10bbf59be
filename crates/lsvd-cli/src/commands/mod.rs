//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod dump;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod rm;
pub(crate) mod serve;
pub(crate) mod torture;

mod volume;
