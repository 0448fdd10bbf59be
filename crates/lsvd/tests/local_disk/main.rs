//! The real local disk from outside: other processes, full disks, failing calls, their order.

mod calls;
mod child;
mod full;
mod lock;
mod threads;
