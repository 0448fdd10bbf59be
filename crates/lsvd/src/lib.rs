//! The engine of a log-structured virtual disk.
//!
//! Writes are copied into a large *batch* in memory, batches become immutable numbered objects in
//! an object store, and an in-memory *extent map* says where the newest copy of every sector is.
//!
//! The layers import only downwards, and the folders are the layers:
//!
//! - [`words`]: units, object names, errors, limits, values as people write them
//! - [`bytes`]: formats at rest, pure encoding and decoding
//! - [`state`]: extent map, batch, objects in flight; no I/O
//! - [`doors`]: the narrow traits through which the world comes in: object store, runtime
//! - `parts`: the uploader and what else works behind the volume; parts never import one another
//! - [`volume`]: one user-visible verb a file
//!
//! The engine knows no network and no command line, and takes time, randomness, tasks and storage
//! only through its doors.

pub mod bytes;
pub mod doors;
pub mod state;
pub mod sync;
pub mod volume;
pub mod words;

mod parts;

pub use volume::{
    CheckpointOptions, CreateOptions, DamagedObject, Durability, EphemeralOptions, FlushTarget,
    KindTotals, OpenOptions, RemoveOptions, Removed, Status, Volume, VolumeInfo,
};
pub use words::error::{Error, ErrorKind, Result};
