//! Any bytes as a data object: no panic, and what is read is what a writer put there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lsvd::bytes::fuzzed::data_object;

fuzz_target!(|bytes: &[u8]| data_object(bytes));
