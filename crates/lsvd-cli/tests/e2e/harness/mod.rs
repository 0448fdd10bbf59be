//! What the tests share: a server, commands with a time limit, mounts that end, a tree of files.

mod command;
mod mount;
mod server;
mod tree;

pub(crate) use command::{Ended, client, lsvd, lsvd_within};
pub(crate) use mount::{Attached, MemoryMount, SmallDisk, may_mount};
pub(crate) use server::{ObjectDirectory, Server};
pub(crate) use tree::{assert_same_tree, gather};
