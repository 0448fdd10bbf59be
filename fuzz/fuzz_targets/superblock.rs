//! Any bytes as a superblock: no panic, and what is read is written again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsvd::bytes::fuzzed::superblock;

fuzz_target!(|bytes: &[u8]| superblock(bytes));
