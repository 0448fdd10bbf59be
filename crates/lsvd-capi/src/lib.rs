//! `liblsvd`: the C library of the log-structured virtual disk.
//!
//! The functions are in [`default_volume`] and [`volume`]; `include/lsvd.h` is generated from
//! them. Everything else turns what C passes into what the engine takes, and the engine's errors
//! into negative numbers and a message.
#![expect(
    unsafe_code,
    reason = "a C caller's pointers can only be taken on his word"
)]

mod call;
mod settings;
mod volumes;

pub mod default_volume;
pub mod last_error;
pub mod volume;
