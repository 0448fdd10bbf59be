//! The options of `lsvd torture`, as they are given.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lsvd::words::text::{Size, duration};
use lsvd_nbd::client::Uri;

use super::stamp::Number;

/// Kill an NBD server under load and judge what it comes back with
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where the server is: nbd+unix:///?socket=PATH or nbd://HOST:PORT
    pub(super) uri: Uri,

    /// Shell command that kills the server, or whatever it is to survive
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    pub(super) kill: Option<String>,

    /// Shell command that takes the power from the machine that the server runs on
    #[arg(
        long,
        value_name = "COMMAND",
        conflicts_with = "kill",
        help_heading = "Server"
    )]
    pub(super) power_cut: Option<String>,

    /// Shell command that starts it again, in the background; gives it power again
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    pub(super) restart: Option<String>,

    /// Shell command that takes something from the server under load, its store for example
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "unblock",
        help_heading = "Server"
    )]
    pub(super) block: Option<String>,

    /// Shell command that gives it back, before or after the kill
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "block",
        help_heading = "Server"
    )]
    pub(super) unblock: Option<String>,

    /// How many of a hundred restarts are killed soon and started anew
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=100),
        help_heading = "Server"
    )]
    pub(super) kill_again: u8,

    /// How long the server may take to answer, and a command to end [default: 1m, 10m with
    /// --power-cut]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Server")]
    pub(super) timeout: Option<Duration>,

    /// What must be there after a kill
    #[arg(long, value_enum, default_value_t = Expected::Flushed, help_heading = "Verdict")]
    pub(super) expect: Expected,

    /// Longest piece of a write that must be wholly there or not at all
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20), help_heading = "Verdict")]
    pub(super) atomic: Size,

    /// Go on after a wrong state, from what is there
    #[arg(long, help_heading = "Verdict")]
    pub(super) keep_going: bool,

    /// Rounds of load, kill, restart, verdict
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Number::ROUNDS_MAX)),
        help_heading = "Workload"
    )]
    pub(super) rounds: u32,

    /// How long the load runs before the kill: a random time from a range
    #[arg(
        long,
        value_name = "TIME[..TIME]",
        default_value = "100ms..1s",
        help_heading = "Workload"
    )]
    pub(super) load: Span,

    /// Connections at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=256),
        help_heading = "Workload"
    )]
    pub(super) connections: u16,

    /// Requests in flight on each connection
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64),
        help_heading = "Workload"
    )]
    pub(super) depth: u16,

    /// How much of the disk is used, from its start [default: all of it, at most 64M]
    #[arg(long, value_name = "SIZE", help_heading = "Workload")]
    pub(super) area: Option<Size>,

    /// The part of the area, at its start, that half of the requests go to
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20), help_heading = "Workload")]
    pub(super) hot: Size,

    /// Send no trims: for servers that do not promise zeroes after one
    #[arg(long, help_heading = "Workload")]
    pub(super) no_trim: bool,

    /// Number that decides what is sent; printed, to be given again [default: a random one]
    #[arg(long, value_name = "NUMBER", value_parser = seed, help_heading = "Workload")]
    pub(super) seed: Option<u64>,

    /// Overwrite a disk that holds data
    #[arg(long)]
    pub(super) destroy: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

const AFTER_HELP: &str = "\
The area is overwritten. Every sector that is written says which write it is of, and a checksum says
whether it is whole. After each restart all is read back, and the state is right when there is a
set of writes such that
  what was answered before a write of the set was sent is in the set too,
  with --expect flushed, it holds all that was answered before the last answered flush was sent, and
  every answered write with FUA,
  every sector shows a write of the set that no other one of the set to that sector must follow.
So a write is wholly there or not at all; --atomic 512 is for servers that promise it for sectors
only. Without --kill, --power-cut and --restart nothing dies, and every answered write must be
there.

With --expect disk each sector stands alone and what was not flushed may be lost in any order: that
is all that NBD asks of a disk. The report still says in how many rounds there was a prefix.

With --expect prefix flushed writes may be lost, too: for commands that take the local log away.
Each restart must lose the same then, as every round goes on from what was found.

What a verdict proves depends on how the server ended, which the report says again. A killed process
leaves what it wrote to the kernel: --kill proves that a server orders its writes, holds back
nothing that was flushed, and recovers, not that it syncs. --power-cut is for a command that takes
the memory of the machine and the volatile cache of its disk away. Such a machine closes no
connection, so nobody waits for its answers any longer, and its boot has more time.

A server that lives on is refused. After --kill every connection must break within --timeout; an
answer, an error and silence are none. After --power-cut silence will do, but no connection from
before may answer once the server is back.

--block runs at a moment of the load. --unblock runs later in the load or, in half of the rounds,
only after the kill. The server may answer with errors meanwhile; what it answered counts.

The seed decides what each connection sends and when the commands come; how fast the server answers
it does not, so the same seed is the same load and not the same run. The commands find the round in
LSVD_TORTURE_ROUND and the seed in LSVD_TORTURE_SEED.

SIGINT and SIGTERM end the run: what is blocked is given back, and the rounds before are reported.

Exit code 0: every state was right. 1: one was not, no write was answered or flushed, the server did
not end or did not come back, or a signal ended the run.

Examples:
  # A server of another project, killed a hundred times
  lsvd torture 'nbd+unix:///?socket=/tmp/s' --rounds 100 \\
      --kill 'kill -9 $(cat /tmp/pid)' \\
      --restart 'qemu-nbd -t -e 16 -f raw -k /tmp/s --pid-file /tmp/pid --fork /tmp/disk' \\
      --expect disk --no-trim
  # Ours, its local state deleted with every kill; /tmp/start serves with --take-over
  lsvd torture 'nbd+unix:///?socket=/tmp/s' --rounds 20 --expect prefix \\
      --kill 'kill -9 $(cat /tmp/pid); rm -rf /tmp/cache' --restart /tmp/start
  # Its store out of reach under load: the store's server is stopped and goes on
  lsvd torture 'nbd+unix:///?socket=/tmp/s' --rounds 20 \\
      --block 'kill -STOP $(cat /tmp/store.pid)' --unblock 'kill -CONT $(cat /tmp/store.pid)' \\
      --kill 'kill -9 $(cat /tmp/pid)' --restart /tmp/start
  # The power of a guest cut; its disk is a file that the host does not cache
  lsvd torture nbd://localhost:10809 --rounds 20 \\
      --power-cut 'kill -9 $(cat /tmp/guest.pid)' --restart /tmp/boot-guest
  lsvd torture nbd://localhost --json --seed 7";

/// The largest seed: the report is to repeat it, and most readers of JSON keep no more of a number.
pub(super) const SEED_MAX: u64 = (1 << 53) - 1;

fn seed(text: &str) -> Result<u64, String> {
    let seed: u64 = text.parse().map_err(|error| format!("{error}"))?;
    if seed > SEED_MAX {
        return Err(format!(
            "a seed is at most {SEED_MAX}, so that every reader of the JSON report keeps all of it"
        ));
    }
    Ok(seed)
}

/// What must be there after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Expected {
    /// All that was flushed, and a prefix of the rest
    Flushed,
    /// A prefix
    Prefix,
    /// All that was flushed, and of the rest any sectors
    Disk,
}

/// A time, or a range to draw one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let parse = |text: &str| duration(text).map_err(|error| error.to_string());
        let span = Self {
            least: parse(least)?,
            most: parse(most)?,
        };
        if span.most < span.least {
            return Err("the second time is shorter than the first".to_owned());
        }
        Ok(span)
    }
}

impl Span {
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Duration {
        self.least + (self.most - self.least).mul_f64(rng.f64())
    }
}
