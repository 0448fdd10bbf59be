//! Any bytes as a write log: no panic, and batches of whole records alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsvd::bytes::fuzzed::write_log;

fuzz_target!(|bytes: &[u8]| write_log(bytes));
