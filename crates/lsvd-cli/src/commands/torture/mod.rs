//! `lsvd torture`: kills an NBD server under load, again and again, and judges what it comes back
//! with.
//!
//! It talks nothing but NBD, so it judges any server. A round is: load on several connections, the
//! kill, the restart, all of the area read back, the verdict (see [`verdict`]). The next round goes
//! on from what was found.

mod history;
mod hooks;
mod load;
mod report;
mod server;
mod stamp;
mod verdict;
mod workload;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lsvd::words::text::{Size, duration};
use lsvd_nbd::client::{Client, Uri};

use super::volume;
use crate::failure::Failure;
use history::{Clock, History};
use hooks::Hook;
use load::Load;
use report::Report;
use server::{Offer, Server};
use stamp::{Content, Number, SECTOR, Shows};
use verdict::{Expect, Verdict, judge};
use workload::{Abilities, Area, CHANGE_SECTORS_MAX, Workload};

/// Kill an NBD server under load and judge what it comes back with
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where the server is: nbd+unix:///?socket=PATH or nbd://HOST:PORT
    uri: Uri,

    /// Shell command that kills the server, or whatever it is to survive
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    kill: Option<String>,

    /// Shell command that starts it again, in the background
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    restart: Option<String>,

    /// How many of a hundred restarts are killed soon and started anew
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=100),
        help_heading = "Server"
    )]
    kill_again: u8,

    /// How long the server may take to answer, and a command to end
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m",
        value_parser = duration,
        help_heading = "Server"
    )]
    timeout: Duration,

    /// What must be there after a kill
    #[arg(long, value_enum, default_value_t = Expected::Flushed, help_heading = "Verdict")]
    expect: Expected,

    /// Longest piece of a write that must be wholly there or not at all
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20), help_heading = "Verdict")]
    atomic: Size,

    /// Go on after a wrong state, from what is there
    #[arg(long, help_heading = "Verdict")]
    keep_going: bool,

    /// Rounds of load, kill, restart, verdict
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Number::ROUNDS_MAX)),
        help_heading = "Workload"
    )]
    rounds: u32,

    /// How long the load runs before the kill: a random time from a range
    #[arg(
        long,
        value_name = "TIME[..TIME]",
        default_value = "100ms..1s",
        help_heading = "Workload"
    )]
    load: Span,

    /// Connections at once
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=256),
        help_heading = "Workload"
    )]
    connections: u16,

    /// Requests in flight on each connection
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4,
        value_parser = clap::value_parser!(u16).range(1..=64),
        help_heading = "Workload"
    )]
    depth: u16,

    /// How much of the disk is used, from its start [default: all of it, at most 64M]
    #[arg(long, value_name = "SIZE", help_heading = "Workload")]
    area: Option<Size>,

    /// The part of the area, at its start, that half of the requests go to
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20), help_heading = "Workload")]
    hot: Size,

    /// Send no trims: for servers that do not promise zeroes after one
    #[arg(long, help_heading = "Workload")]
    no_trim: bool,

    /// Number that decides what is sent; printed, to be given again [default: a random one]
    #[arg(long, value_name = "NUMBER", help_heading = "Workload")]
    seed: Option<u64>,

    /// Overwrite a disk that holds data
    #[arg(long)]
    destroy: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
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
only. Without --kill and --restart nothing dies, and every answered write must be there.

With --expect prefix flushed writes may be lost, too: for commands that take the local log away. Each
restart must lose the same then, as every round goes on from what was found.

The seed decides what each connection sends and when the kill comes; how fast the server answers
it does not, so the same seed is the same load and not the same run. The commands find the round in
LSVD_TORTURE_ROUND and the seed in LSVD_TORTURE_SEED.

A killed process leaves what it wrote to the kernel: this proves that a server orders its writes and
recovers, not that it syncs. For that the power must be cut.

Exit code 0: every state was right. 1: one was not, or the server did not come back.

Examples:
  lsvd torture 'nbd+unix:///?socket=/tmp/s' --rounds 100 \\
      --kill 'kill -9 $(cat /tmp/pid)' \\
      --restart 'qemu-nbd -t -e 16 -f raw -k /tmp/s --pid-file /tmp/pid --fork /tmp/disk' \\
      --atomic 512 --no-trim
  lsvd torture nbd://localhost --json --seed 7";

/// What must be there after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Expected {
    /// All that was flushed, and a prefix of the rest
    Flushed,
    /// A prefix
    Prefix,
}

/// A time, or a range to draw one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    least: Duration,
    most: Duration,
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
    fn draw(&self, rng: &mut fastrand::Rng) -> Duration {
        self.least + (self.most - self.least).mul_f64(rng.f64())
    }
}

/// The longest that a second kill waits: most servers are still opening then.
const KILL_AGAIN_WITHIN: Span = Span {
    least: Duration::ZERO,
    most: Duration::from_millis(30),
};

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    let runtime = volume::start_runtime()?;
    let report = runtime.block_on(async {
        let torture = Torture::begin(plan).await?;
        Ok::<_, Failure>(torture.run().await)
    })?;
    let text = if arguments.json {
        report.json()
    } else {
        report.text()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    match report.complaint() {
        None => Ok(()),
        Some(complaint) => Err(Failure::failed(format!(
            "{complaint}; seed {}",
            report.seed
        ))),
    }
}

/// The arguments, checked as far as that goes without the server.
struct Plan<'a> {
    arguments: &'a Arguments,
    server: Server,
    seed: u64,
    expect: Expect,
    /// Sectors of the longest piece that must be whole.
    atomic: usize,
    kill: Option<Hook<'a>>,
    restart: Option<Hook<'a>>,
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self, Failure> {
        let hook = |option, command: &'a Option<String>| {
            command.as_deref().map(|command| Hook { option, command })
        };
        let kill = hook("--kill", &arguments.kill);
        let restart = hook("--restart", &arguments.restart);
        if arguments.kill_again > 0 && (kill.is_none() || restart.is_none()) {
            return Err(Failure::usage(
                "--kill-again needs both --kill and --restart",
            ));
        }
        Ok(Self {
            arguments,
            server: Server {
                uri: arguments.uri.clone(),
                connections: arguments.connections,
                timeout: arguments.timeout,
            },
            seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
            expect: match arguments.expect {
                _ if kill.is_none() && restart.is_none() => Expect::Answered,
                Expected::Flushed => Expect::Flushed,
                Expected::Prefix => Expect::Base,
            },
            atomic: sectors("--atomic", arguments.atomic)?.min(CHANGE_SECTORS_MAX),
            kill,
            restart,
        })
    }

    /// The area of a disk like this.
    fn area(&self, offer: &Offer) -> Result<Area, Failure> {
        const AREA_DEFAULT: u64 = 64 << 20;
        let size = self
            .arguments
            .area
            .map_or(offer.size.min(AREA_DEFAULT), |Size(size)| size);
        if size > offer.size {
            return Err(Failure::failed(format!(
                "an area of {} does not fit the disk at {}, which has {} bytes",
                Size(size),
                self.server.uri,
                offer.size
            )));
        }
        let whole = |sectors: usize| sectors / offer.grain * offer.grain;
        let sectors_of = |bytes: u64| usize::try_from(bytes / SECTOR as u64).unwrap_or(usize::MAX);
        let sectors = whole(sectors_of(size));
        if sectors == 0 {
            return Err(Failure::failed(format!(
                "the disk at {} has {} bytes, its smallest request {}: too little to write to",
                self.server.uri,
                offer.size,
                offer.grain * SECTOR
            )));
        }
        Ok(Area {
            sectors,
            hot: whole(sectors_of(self.arguments.hot.0)).clamp(offer.grain, sectors),
            grain: offer.grain,
        })
    }
}

/// A size in sectors, of which it must have at least one, and whole ones.
fn sectors(option: &str, size: Size) -> Result<usize, Failure> {
    let sector = SECTOR as u64;
    if size.0 == 0 || !size.0.is_multiple_of(sector) {
        return Err(Failure::usage(format!(
            "{option} {size} is no size in sectors: give a multiple of 512"
        )));
    }
    Ok(usize::try_from(size.0 / sector).unwrap_or(usize::MAX))
}

/// A run under way.
struct Torture<'a> {
    plan: Plan<'a>,
    area: Area,
    abilities: Abilities,
    clock: Arc<Clock>,
    clients: Vec<Client>,
    /// The last state known to be durable, and what was asked for since.
    base: Vec<Content>,
    history: History,
    report: Report,
}

impl<'a> Torture<'a> {
    /// Looks at the disk, which must be one that may be overwritten.
    async fn begin(plan: Plan<'a>) -> Result<Self, Failure> {
        let clients = plan.server.connect().await?;
        let offer = plan.server.offer(&clients)?;
        let area = plan.area(&offer)?;
        let base = plan.server.read(&clients, plan.seed, area.sectors).await?;
        let strange = |content: &Content| content.shows() == Shows::Damaged;
        if base.iter().any(strange) && !plan.arguments.destroy {
            return Err(Failure::failed(format!(
                "the disk at {} holds data: name another, or have it overwritten with --destroy",
                plan.server.uri
            )));
        }
        let report = Report::new(plan.server.uri.to_string(), plan.seed, plan.expect);
        let this = Self {
            abilities: Abilities {
                trim: offer.abilities.trim && !plan.arguments.no_trim,
                ..offer.abilities
            },
            plan,
            area,
            clock: Arc::new(Clock::new()),
            clients,
            base,
            history: History::default(),
            report,
        };
        this.flush().await?;
        Ok(this)
    }

    async fn run(mut self) -> Report {
        for round in 1..=self.plan.arguments.rounds {
            match self.round(round).await {
                Ok(verdict) if verdict.is_right() || self.plan.arguments.keep_going => {}
                Ok(_) => break,
                Err(failure) => {
                    self.report.end_early(round, &failure);
                    break;
                }
            }
        }
        for client in &self.clients {
            // All is said; a server that is gone by now has been heard.
            drop(client.disconnect().await);
        }
        self.report
    }

    async fn round(&mut self, round: u32) -> Result<Verdict, Failure> {
        let mut rng = workload::rng(self.plan.seed, round, u64::from(u16::MAX) + 2);
        self.load(round, &mut rng).await?;
        self.restart(round, &mut rng).await?;
        // Half of the rounds make what the server opened with durable before it is read. The
        // others do not, and a server that has not made it so is caught by a later round.
        let durable = rng.bool() && self.abilities.flush;
        if durable {
            self.flush().await?;
        }
        let reading = Instant::now();
        let server = &self.plan.server;
        let found = server
            .read(&self.clients, self.plan.seed, self.area.sectors)
            .await?;
        self.report.times().read += reading.elapsed();
        let judging = Instant::now();
        let verdict = judge(&self.history, (&self.base, &found), self.plan.expect);
        self.report.times().judge += judging.elapsed();
        self.report.add_verdict(round, &verdict);
        tracing::info!(
            round,
            right = verdict.is_right(),
            flushed_lost = verdict.flushed_lost,
            unflushed_lost = verdict.unflushed_lost,
            "judged"
        );
        self.go_on_from(found, &verdict, durable);
        Ok(verdict)
    }

    /// Load until a moment that the seed decides, then the kill.
    async fn load(&mut self, round: u32, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        let arguments = self.plan.arguments;
        let (seed, area, abilities) = (self.plan.seed, self.area, self.abilities);
        let loading = Instant::now();
        let load = Load::start(
            &self.clients,
            arguments.depth,
            (seed, round),
            &self.clock,
            |connection| Workload::new((seed, round, connection), area, abilities),
        );
        tokio::time::sleep(arguments.load.draw(rng)).await;
        self.report.times().load += loading.elapsed();
        let killing = Instant::now();
        if let Some(kill) = &self.plan.kill {
            kill.run((seed, round), arguments.timeout).await?;
        }
        let record = load.end(arguments.timeout).await?;
        for change in &record.changes {
            self.history.add(*change, self.plan.atomic);
        }
        for sent in &record.flushes {
            self.history.add_flush(*sent);
        }
        self.report.add_load(&record, &self.history);
        self.report.times().restart += killing.elapsed();
        Ok(())
    }

    /// Starts the server, and connects as soon as it answers.
    async fn restart(&mut self, round: u32, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        let (kill, restart) = (&self.plan.kill, &self.plan.restart);
        if kill.is_none() && restart.is_none() {
            return Ok(());
        }
        let restarting = Instant::now();
        let (seed, timeout) = (self.plan.seed, self.plan.arguments.timeout);
        let again = rng.u8(..100) < self.plan.arguments.kill_again;
        let wait = KILL_AGAIN_WITHIN.draw(rng);
        // The old connections must not be what is asked: their server may live on.
        self.clients.clear();
        if let Some(restart) = restart {
            restart.run((seed, round), timeout).await?;
            if let (true, Some(kill)) = (again, kill) {
                tokio::time::sleep(wait).await;
                kill.run((seed, round), timeout).await?;
                restart.run((seed, round), timeout).await?;
            }
        }
        self.clients = self.plan.server.connect().await?;
        self.report.times().restart += restarting.elapsed();
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failure> {
        if self.abilities.flush {
            self.plan.server.flush(&self.clients).await?;
        }
        Ok(())
    }

    /// Makes the found state the next round's beginning.
    fn go_on_from(&mut self, found: Vec<Content>, verdict: &Verdict, durable: bool) {
        // What is found without the local log came from the store, and cannot be lost again.
        let kept = durable || self.plan.expect != Expect::Flushed;
        if kept || !verdict.is_right() {
            self.history.clear();
            self.base = found;
        } else {
            self.history.settle(&verdict.fates, self.clock.tick());
        }
    }
}
