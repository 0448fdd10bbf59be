//! Any bytes as a part or a root of a checkpoint: no panic, and extents that a map can take.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsvd::bytes::fuzzed::checkpoint;

fuzz_target!(|bytes: &[u8]| checkpoint(bytes));
