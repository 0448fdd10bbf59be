//! The protocol as it is, and with each of its rules broken.

mod broken;
mod deletion;
mod pins;
mod shortest;
mod sound;
