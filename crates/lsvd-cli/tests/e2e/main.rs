//! The real `lsvd` program before real clients: nothing here links with it.
//!
//! One test binary, one module for each kind of proof. Every test has its own server, socket and
//! directory, and leaves nothing behind: no process, no mount, no loop device, no file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

mod bad_input;
mod bench;
mod control;
mod damaged_log;
mod dump;
mod fio;
mod fs;
mod info;
mod killed_fs;
mod lasting;
mod local_state;
mod no_file;
mod one_writer;
mod readme;
mod shutdown;
mod stalled;
mod store_out_of_reach;
mod tools;
mod torture;
