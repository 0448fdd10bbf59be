//! A run under way: round after round of load, kill, restart and verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lsvd_nbd::client::Client;

use super::arguments::Span;
use super::end::End;
use super::history::{Clock, History};
use super::hooks::Commands;
use super::load::Load;
use super::old_connections::{self, Questions};
use super::plan::Plan;
use super::report::Report;
use super::stamp::{Content, SECTOR, Shows};
use super::verdict::{Expect, Verdict, judge};
use super::workload::{self, Abilities, Area, Workload};
use crate::failure::Failure;
use crate::signals::Signals;

/// The longest that a second kill waits: most servers are still opening then.
const KILL_AGAIN_WITHIN: Span = Span {
    least: Duration::ZERO,
    most: Duration::from_millis(30),
};

/// How long a server may take to hear that its clients go.
const PARTING: Duration = Duration::from_secs(1);

/// A run under way.
pub(super) struct Torture<'a> {
    plan: Plan<'a>,
    area: Area,
    abilities: Abilities,
    clock: Arc<Clock>,
    clients: Vec<Client>,
    /// What the connections from before the last power cut are asked.
    questions: Questions,
    commands: Commands,
    /// Whether --block has taken something away that --unblock has not given back.
    blocked: bool,
    /// The last state known to be durable, and what was asked for since.
    base: Vec<Content>,
    history: History,
    report: Report,
}

impl<'a> Torture<'a> {
    /// Looks at the disk, which must be one that may be overwritten.
    pub(super) async fn begin(plan: Plan<'a>) -> Result<Self, Failure> {
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
        let report = Report::new(
            plan.server.uri.to_string(),
            plan.seed,
            (plan.expect, plan.end),
        );
        let this = Self {
            abilities: Abilities {
                trim: offer.abilities.trim && !plan.arguments.no_trim,
                ..offer.abilities
            },
            plan,
            area,
            clock: Arc::new(Clock::new()),
            clients,
            questions: Questions::default(),
            commands: Commands::default(),
            blocked: false,
            base,
            history: History::default(),
            report,
        };
        this.flush().await?;
        Ok(this)
    }

    /// Runs to the end, or to a signal; a second one is not to wait for any command.
    pub(super) async fn run(mut self, mut signals: Signals) -> Report {
        for round in 1..=self.plan.arguments.rounds {
            let outcome = tokio::select! {
                biased;
                () = signals.next() => Err(Failure::failed("a signal ended the run")),
                outcome = self.round(round) => outcome,
            };
            match outcome {
                Ok(verdict) if verdict.is_right() || self.plan.arguments.keep_going => {}
                Ok(_) => break,
                Err(failure) => {
                    self.report.end_early(round, &failure);
                    tokio::select! {
                        () = self.give_back(round) => {}
                        () = signals.next() => {
                            tracing::warn!("a second signal: what --block took away may stay away");
                        }
                    }
                    break;
                }
            }
        }
        // All is said; a server that is gone by now, or takes no more requests, has been heard.
        drop(tokio::time::timeout(PARTING, self.disconnect()).await);
        self.report
    }

    async fn disconnect(&self) {
        for client in &self.clients {
            drop(client.disconnect().await);
        }
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
        let answers = self.questions.refuse_answers().await;
        answers.map_err(|why| self.lives_on(&why))?;
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
        self.let_run(round, rng).await?;
        self.report.times().load += loading.elapsed();
        let killing = Instant::now();
        if let Some(kill) = &self.plan.kill {
            let timeout = self.plan.timeout();
            self.commands.run(kill, (seed, round), timeout).await?;
        }
        self.unblock(round).await?;
        let deadline = tokio::time::Instant::now() + self.plan.timeout();
        let record = load
            .end(self.plan.end.patience(self.plan.timeout()))
            .await?;
        self.wait_for_end(deadline).await?;
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

    /// Bytes of the shortest read.
    fn shortest(&self) -> u32 {
        u32::try_from(self.area.grain * SECTOR).unwrap_or(u32::MAX)
    }

    /// Waits until nothing is left of the server that --kill or --power-cut is to have ended.
    async fn wait_for_end(&self, deadline: tokio::time::Instant) -> Result<(), Failure> {
        if self.plan.kill.is_none() {
            return Ok(());
        }
        old_connections::wait_for_end(&self.clients, self.shortest(), self.plan.end, deadline)
            .await
            .map_err(|why| self.lives_on(&why))
    }

    fn lives_on(&self, why: &Failure) -> Failure {
        let option = self.plan.kill.as_ref().map_or("--kill", |kill| kill.option);
        let uri = &self.plan.server.uri;
        Failure::failed(format!("{option} did not end the server at {uri}: {why}"))
    }

    /// Lets the load run for as long as the seed has it. Meanwhile --block takes away what --unblock
    /// gives back, or does not yet: a server may die while it lacks something.
    async fn let_run(&mut self, round: u32, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        let length = self.plan.arguments.load.draw(rng);
        let Some(blocking) = &self.plan.blocking else {
            tokio::time::sleep(length).await;
            return Ok(());
        };
        let begin = length.mul_f64(rng.f64());
        let end = begin + (length - begin).mul_f64(rng.f64());
        let outlasts = rng.bool() && self.plan.kill.is_some();
        tokio::time::sleep(begin).await;
        // One that fails may have done its work all the same.
        self.blocked = true;
        self.report.count_blocked();
        let when = (self.plan.seed, round);
        let timeout = self.plan.timeout();
        self.commands.run(&blocking.block, when, timeout).await?;
        tokio::time::sleep(end - begin).await;
        if !outlasts {
            self.unblock(round).await?;
        }
        tokio::time::sleep(length - end).await;
        Ok(())
    }

    async fn unblock(&mut self, round: u32) -> Result<(), Failure> {
        if let (true, Some(blocking)) = (self.blocked, &self.plan.blocking) {
            let when = (self.plan.seed, round);
            let timeout = self.plan.timeout();
            let unblock = &blocking.unblock;
            self.commands.run(unblock, when, timeout).await?;
            self.blocked = false;
        }
        Ok(())
    }

    /// Nothing stays away because a run ended before its time. What a signal came into the middle of
    /// ends first: it could take away behind what is given back.
    async fn give_back(&mut self, round: u32) {
        let done = self.commands.finish().await;
        if let (Some(done), Some(blocking)) = (done, &self.plan.blocking)
            && done == blocking.unblock.option
        {
            self.blocked = false;
        }
        if let Err(error) = self.unblock(round).await {
            tracing::warn!("{error}");
        }
    }

    /// Starts the server, and connects as soon as it answers.
    async fn restart(&mut self, round: u32, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        if self.plan.end == End::Nothing {
            return Ok(());
        }
        let (kill, restart) = (&self.plan.kill, &self.plan.restart);
        let restarting = Instant::now();
        let (seed, timeout) = (self.plan.seed, self.plan.timeout());
        let again = rng.u8(..100) < self.plan.arguments.kill_again;
        let wait = KILL_AGAIN_WITHIN.draw(rng);
        // The old connections must not be what is read from: their server may live on.
        let mut old_clients = std::mem::take(&mut self.clients);
        if self.plan.end != End::PowerCut {
            // A server that ends in order may wait for its clients to go.
            old_clients.clear();
        }
        if let Some(restart) = restart {
            let commands = &mut self.commands;
            commands.run(restart, (seed, round), timeout).await?;
            if let (true, Some(kill)) = (again, kill) {
                tokio::time::sleep(wait).await;
                commands.run(kill, (seed, round), timeout).await?;
                commands.run(restart, (seed, round), timeout).await?;
            }
        }
        self.clients = self.plan.server.connect().await?;
        self.questions.ask(old_clients, self.shortest());
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
        let kept = durable
            || match self.plan.expect {
                Expect::Base | Expect::Answered => true,
                Expect::Flushed | Expect::Disk => false,
            };
        if kept || !verdict.is_right() {
            self.history.clear();
            self.base = found;
        } else {
            self.history.settle(&verdict.fates, self.clock.tick());
        }
    }
}
