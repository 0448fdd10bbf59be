//! `lsvd serve`: a volume for NBD clients, from opening to an orderly end.

mod close;
mod endpoint;
mod signals;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lsvd::Volume;
use lsvd::words::text::{Size, duration};
use lsvd_nbd::{Export, Limits, Listener, Server};
use tokio::runtime::Handle;

use super::volume::{self, VolumeArguments};
use crate::device::VolumeDevice;
use crate::failure::Failure;
use crate::values::HostPort;
use endpoint::Endpoint;
use signals::Signals;

/// Serve a volume to NBD clients until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    volume: VolumeArguments,

    /// Create the volume, with so many bytes
    #[arg(long, value_name = "SIZE", help_heading = "Volume")]
    create: Option<Size>,

    /// Listen on a unix socket [default: the directory's path with .sock behind it]
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Clients",
        conflicts_with = "listen"
    )]
    socket: Option<PathBuf>,

    /// Listen on TCP instead; whoever reaches the port can read and write the volume
    #[arg(long, value_name = "HOST:PORT", help_heading = "Clients")]
    listen: Option<HostPort>,

    /// Most clients' connections at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Clients"
    )]
    connections: u16,

    /// How long an orderly end may take to store what is in memory
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m",
        value_parser = duration,
        help_heading = "Durability"
    )]
    drain_timeout: Duration,
}

const AFTER_HELP: &str = "\
One line with the NBD URI is printed when clients can connect. SIGTERM or SIGINT ends in order:
no new clients, requests in work are answered, what is in memory is stored. A second one ends at
once.

What is durable when, with --ephemeral:
  a write is answered from memory, before anything is stored; objects of --object-size are uploaded
  behind it, and what is older than --seal-timeout even when the object is not full
  --flush local   a flush answers at once and promises nothing: a crash loses the disk
  --flush store   a flush, or a write with FUA, waits until all before it is stored
  after an orderly end (exit code 0) everything is stored; no later serve reads it back

Examples:
  lsvd serve /tmp/lsvd --ephemeral --create 10G
  lsvd serve /tmp/lsvd --ephemeral --create 10G --socket /run/lsvd.sock --flush store
  lsvd serve memory:// --ephemeral --create 1G --listen 127.0.0.1:10809
  lsvd serve /tmp/lsvd --ephemeral --create 10G --store-latency 5ms..10ms

Use it (the URI is the line that serve prints):
  nbdinfo 'nbd+unix:///?socket=/tmp/lsvd.sock'
  qemu-img convert -n -O raw disk.qcow2 'nbd+unix:///?socket=/tmp/lsvd.sock'
  nbd-client -unix /tmp/lsvd.sock /dev/nbd0 && mkfs.ext4 /dev/nbd0 && mount /dev/nbd0 /mnt";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.volume.require_ephemeral()?;
    let Some(size) = arguments.create else {
        return Err(Failure::usage(
            "an ephemeral volume begins empty: say how large it is with --create SIZE",
        ));
    };
    let options = arguments.volume.options(size)?;
    let endpoint = Endpoint::choose(arguments)?;
    let runtime = volume::start_runtime()?;
    // First of all, so that no signal finds its old meaning once something is there to be closed.
    let signals = runtime.block_on(async { Signals::listen() })?;
    // The socket before the volume: where it is refused, nothing else was touched.
    let listener = runtime.block_on(endpoint.bind())?;
    let store = arguments.volume.create_store(runtime.handle())?;
    let volume = volume::open(store, runtime.handle(), options)?;
    let outcome = runtime.block_on(serve(arguments, listener, volume, signals));
    // Uploads that are stuck must not hold the end up; what they mean is in the outcome.
    runtime.shutdown_background();
    outcome
}

async fn serve(
    arguments: &Arguments,
    listener: Listener,
    volume: Volume,
    mut signals: Signals,
) -> Result<(), Failure> {
    let uri = listener.uri("");
    let device = Arc::new(VolumeDevice(volume.clone()));
    let export = Export::new("", device).description(format!(
        "volume {} in {}",
        volume.uuid(),
        arguments.volume.url
    ));
    let limits = Limits {
        connections: arguments.connections.into(),
        ..Limits::default()
    };
    let server = Server::new([export], limits)
        .map_err(|error| Failure::failed(format!("cannot serve the volume: {error}")))?;
    // Clients that come at once wait in the socket's queue.
    announce(&uri)?;
    let accepting = Handle::current().spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    tracing::info!(uri, volume = %volume.uuid(), "serving");
    signals.next().await;
    tracing::info!("closing");
    let outcome = tokio::select! {
        // Both may be ready: an end in order counts more than the wish to have it sooner.
        biased;
        closed = close::in_order(&server, &volume, arguments.drain_timeout) => closed,
        () = signals.next() => Err(Failure::failed(format!(
            "ended at once by a second signal: what was in memory of the volume in {} is not \
             stored",
            arguments.volume.url
        ))),
    };
    // The socket's file goes with the listener.
    accepting.abort();
    match accepting.await {
        Err(error) if error.is_panic() => Err(Failure::failed(format!(
            "the server failed while it accepted connections: {error}"
        ))),
        _ => outcome,
    }
}

/// Says where clients connect, at once.
fn announce(uri: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{uri}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::from_output)
}
