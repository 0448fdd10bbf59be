//! The bounds of what clients can make the server hold or wait for.

use std::time::Duration;

/// Bytes of a request's data that are taken from the receive buffer or put into the send buffer
/// in place. Longer data has a buffer of its own, granted from [`Limits::memory`].
pub(crate) const INLINE_LEN: usize = 128 << 10;

/// Largest receive buffer of a connection, in bytes; it starts small and grows with use. It
/// holds an in-place write and the next header.
pub(crate) const RECEIVE_LEN: usize = 256 << 10;

/// Unsent bytes in the send buffer from which on no further request is taken up.
pub(crate) const SEND_LEN: usize = 256 << 10;

/// First size of both buffers, in bytes.
pub(crate) const BUFFER_LEN_FIRST: usize = 16 << 10;

/// Bytes that each connection may hold for long and waiting requests without asking for shared
/// memory: clients that hold all of that cannot stop the others' requests of up to 1 MiB.
pub(crate) const PRIVATE_LEN: usize = 1 << 20;

/// Longest piece of a long write, in bytes: what the device gets at once.
pub(crate) const PIECE_LEN: usize = 1 << 20;

/// Longest part that long data of replies is cut into while others wait for its memory.
pub(crate) const PART_LEN: usize = 1 << 20;

/// Bytes that a client has to move in each [`Limits::stall_timeout`] while it holds shared memory
/// that others wait for.
pub(crate) const STALL_LEN: usize = 1 << 20;

/// How long a client may take no byte of its replies while the server stops.
pub(crate) const STOPPING_STALL: Duration = Duration::from_secs(1);

/// Most extents in one block status reply.
pub(crate) const EXTENTS_MAX: usize = 4096;

/// Longest data of an option that is looked at, in bytes.
pub(crate) const OPTION_LEN_MAX: usize = 64 << 10;

/// Longest data of an option that is read and thrown away; beyond it the connection ends.
pub(crate) const OPTION_DRAIN_LEN_MAX: u32 = 1 << 20;

/// Most options in one handshake.
pub(crate) const OPTIONS_MAX: u32 = 1024;

/// Longest payload of a refused request that is read and thrown away, in bytes; beyond it the
/// connection ends.
pub(crate) const PAYLOAD_DRAIN_LEN_MAX: u64 = 64 << 20;

/// The bounds of what clients can make the server hold or wait for.
///
/// At its bound a connection is not read from until something is done, so a client is slowed
/// down and never refused. The worst that all clients together can make the server hold is
/// `connections` x 1.7 MiB + `memory`: each connection has a receive buffer of up to 256 KiB, a
/// send buffer of up to about 384 KiB and 1 MiB for long and waiting requests; beyond that it is
/// granted from the shared `memory`. A long write is received in pieces of 1 MiB, whatever was
/// announced. Requests of up to 1 MiB go on when all shared memory is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once; further ones are closed as they come.
    pub connections: usize,
    /// How long a handshake may take before the connection is closed.
    pub handshake_timeout: Duration,
    /// Most requests of one connection in work at once.
    pub requests_in_flight: usize,
    /// Bytes that all connections together may hold for long or waiting requests and for their
    /// replies; at least 64 MiB.
    pub memory: usize,
    /// A client that has moved less than 1 MiB for so long, while it holds shared memory that
    /// others wait for, is disconnected; so is one that has hung up its sending side and has taken
    /// none of its last replies for so long. A client that holds nothing may be idle for ever.
    pub stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshake_timeout: Duration::from_secs(30),
            requests_in_flight: 256,
            memory: 256 << 20,
            stall_timeout: Duration::from_secs(30),
        }
    }
}
