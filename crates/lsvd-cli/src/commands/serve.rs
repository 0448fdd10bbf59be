//! `lsvd serve`: a volume for NBD clients, from opening to an orderly end.

mod close;
mod endpoint;
mod open;
mod risk;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lsvd::Volume;
use lsvd::words::text::{Size, duration};
use lsvd_nbd::{Export, Limits, Server};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::volume::lasting::{LastingArguments, LocalState};
use super::volume::{self, VolumeArguments};
use crate::control::protocol::VolumeStatus;
use crate::control::server::ControlServer;
use crate::device::VolumeDevice;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::values::HostPort;
use endpoint::Endpoint;
use open::{Kind, Opened, Plan};

/// Serve a volume to NBD clients until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    volume: VolumeArguments,

    /// Create the volume, with so many bytes, where there is none; one of that size is served
    #[arg(long, value_name = "SIZE", help_heading = "Volume")]
    create: Option<Size>,

    #[command(flatten)]
    lasting: LastingArguments,

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

    /// How long an orderly end may take to store what is not stored yet
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
no new clients, requests in work are answered, what is not stored yet is stored. A second one ends
at once. What cannot be stored in time stays in the write log; without one it is lost. Either way the
exit code is 1 then, and so it is where a signal comes before that line: the opening is left, which
loses nothing.

What is durable when:
  --durability writeback      a write is answered when it is in memory, as a disk with a volatile
                              cache does; a flush, or a write with FUA, makes it durable
  --durability writethrough   a write is answered when it is durable in the write log
  --flush local   a flush waits for the write log on this machine's disk: what was flushed survives
                  a crash and a loss of power, and a store that is out of reach
  --flush store   a flush waits until all before it is stored: it survives the loss of this machine
  What is written and not stored is lost with this machine's disk: `lsvd info` shows how much it is.

One writer: a volume that another server has is refused, with the name of that server. Where it is
gone for good, or not to be trusted, --take-over fences it: from then on its reads, writes and flushes
fail, and it cannot harm the volume. What it had not stored stays in its write log. A server on this
machine keeps its socket, so give another one with --socket.

With --ephemeral there is no write log and nothing to come back to: a flush with --flush local answers
at once and promises nothing.

Examples:
  lsvd serve /srv/lsvd/vol --create 10G
  lsvd serve /srv/lsvd/vol --flush store --socket /run/lsvd.sock
  lsvd serve /srv/lsvd/vol --cache-dir /mnt/ssd/vol --log-size 10G --listen 127.0.0.1:10809
  lsvd serve /srv/lsvd/vol --read-only --socket /run/lsvd-ro.sock
  lsvd serve /tmp/scratch --ephemeral --create 10G

Use it (the URI is the line that serve prints):
  nbdinfo 'nbd+unix:///?socket=/srv/lsvd/vol.sock'
  qemu-img convert -n -O raw disk.qcow2 'nbd+unix:///?socket=/srv/lsvd/vol.sock'
  nbd-client -unix /srv/lsvd/vol.sock /dev/nbd0 && mkfs.ext4 /dev/nbd0 && mount /dev/nbd0 /mnt";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    let endpoint = Endpoint::choose(arguments)?;
    let runtime = volume::start_runtime()?;
    let outcome = runtime.block_on(async {
        // First of all, so that no signal finds its old meaning once something is there to be closed.
        let mut signals = Signals::listen()?;
        let opened = tokio::select! {
            // Once it is open it is closed in order.
            biased;
            opened = plan.open(arguments, &endpoint, runtime.handle()) => opened?,
            // Each step of an opening may crash, so it may be left at any of them: the next opening
            // finds what a crash would have left.
            () = signals.next() => return Err(close::before_it_was_open(&arguments.volume.url)),
        };
        serve(arguments, opened, signals).await
    });
    // Uploads that are stuck must not hold the end up; what they mean is in the outcome.
    runtime.shutdown_background();
    outcome
}

async fn serve(arguments: &Arguments, opened: Opened, mut signals: Signals) -> Result<(), Failure> {
    let Opened {
        listener,
        volume,
        kind,
    } = opened;
    let uri = listener.uri("");
    let server = start(arguments, &volume, &kind)?;
    let watch = match &kind {
        Kind::Lasting(local) => Some(Watch::start(&volume, local, &uri)),
        Kind::Ephemeral | Kind::ReadOnly => None,
    };
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
        closed = close::in_order(&server, &volume, &kind, arguments.drain_timeout) => closed,
        () = signals.next() => Err(close::cut_short(&kind, &arguments.volume.url)),
    };
    // Asked until the end: a close may take long.
    drop(watch);
    // The socket's file goes with the listener.
    accepting.abort();
    match accepting.await {
        Err(error) if error.is_panic() => Err(Failure::failed(format!(
            "the server failed while it accepted connections: {error}"
        ))),
        _ => outcome,
    }
}

fn start(arguments: &Arguments, volume: &Volume, kind: &Kind) -> Result<Server, Failure> {
    let device = Arc::new(VolumeDevice(volume.clone()));
    let export = Export::new("", device).description(format!(
        "volume {} in {}",
        volume.uuid(),
        arguments.volume.url
    ));
    let export = match kind {
        Kind::ReadOnly => export.read_only(),
        Kind::Ephemeral | Kind::Lasting(_) => export,
    };
    let limits = Limits {
        connections: arguments.connections.into(),
        ..Limits::default()
    };
    Server::new([export], limits)
        .map_err(|error| Failure::failed(format!("cannot serve the volume: {error}")))
}

/// What tells of a volume that lasts while it is served, until it is dropped.
#[derive(Debug)]
struct Watch {
    _control: Option<ControlServer>,
    risk: JoinHandle<()>,
}

impl Watch {
    fn start(volume: &Volume, local: &LocalState, uri: &str) -> Self {
        let asked = (volume.clone(), uri.to_owned());
        let status = Arc::new(move || VolumeStatus::new(&asked.0.status(), &asked.1));
        let control = ControlServer::start(local.path(), status);
        if let Err(error) = &control {
            // The volume is more than the talk about it.
            let place = local.path().display();
            tracing::warn!(%place, "no control socket, so `lsvd info` cannot ask: {error}");
        }
        Self {
            _control: control.ok(),
            risk: Handle::current().spawn(risk::tell(volume.clone())),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.risk.abort();
    }
}

/// Says where clients connect, at once.
fn announce(uri: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{uri}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::from_output)
}
