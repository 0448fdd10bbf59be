//! `cargo x powercut`: a machine whose power is cut again and again while the real program serves a
//! volume in it, judged by `lsvd torture` from outside.
//!
//! The machine is a QEMU guest without KVM; store and write log are on the ext4 of its one disk. The
//! disk is a process of ours that has a volatile cache, as real disks do: when QEMU is killed, what
//! the guest's kernel had not sent is lost with the guest, and of what the disk was not told to flush
//! each unit is kept or lost by chance. So a sync that is left out shows, also one of a file that
//! is written past the page cache.

mod guest;
mod initramfs;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::crash::{build, in_new_folder, time_as_seed};
use crate::judge::Total;
use crate::needs;
use crate::servers::Server;
use crate::step::{Outcome, cargo, quietly, run, timed};
use guest::Guest;
pub(crate) use guest::Losses;
use packages::Packages;

/// How often the power is cut, and what serves; arguments behind `--` go to `lsvd torture`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Cuts under load in all
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Cuts before a new disk takes the place of the old one
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds_per_disk: u32,

    /// How many of a hundred boots lose the power once more before the volume is open
    #[arg(long, default_value_t = 20, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    again: u8,

    /// Build with this fault planted, and fail unless the judge finds it: `log-sync` or
    /// `directory-sync`
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,

    /// Use this `lsvd` instead of building one; with --plant it must have been built with
    /// `--features lsvd/planted`
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    /// Seed of the first disk; the next has one more [default: the time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Where the machine's files go; a folder of its own is made in it [default: the one for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// More arguments of `lsvd torture`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// The share that every change gets: a few cuts, of the program as the tests have built it.
pub(crate) fn share() -> Outcome {
    if let Some(reason) = packages::unavailable() {
        eprintln!("\n== the loss of power is left out: {reason}");
        return Ok(());
    }
    let mut build = cargo(&["build", "--locked", "-p", "lsvd-cli"]);
    run("build lsvd", &mut build)?;
    run_all(&Arguments {
        rounds: 3,
        rounds_per_disk: 3,
        again: 20,
        plant: None,
        program: Some(own_folder()?.join("lsvd")),
        seed: None,
        dir: None,
        rest: Vec::new(),
    })
}

/// What is cut, and how often.
#[derive(Debug)]
pub(crate) struct Cuts<'a> {
    /// What serves in the machine.
    pub(crate) server: Server,
    pub(crate) rounds: u32,
    /// Cuts before a new disk takes the place of the old one.
    pub(crate) rounds_per_disk: u32,
    /// How many of a hundred boots lose the power once more before the server is there.
    pub(crate) again: u8,
    /// The fault that our server is built with, or nothing.
    pub(crate) plant: &'a str,
    /// Counts wrong states instead of failing for them.
    pub(crate) keep_going: bool,
    /// More arguments of `lsvd torture`.
    pub(crate) given: &'a [String],
}

pub(crate) fn run_all(arguments: &Arguments) -> Outcome {
    needs::install()?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(arguments.plant.is_some())?,
    };
    let seed = arguments.seed.map_or_else(time_as_seed, Ok)?;
    in_new_folder("powercut", arguments.dir.as_deref(), |folder| {
        let machines = Machines::new(folder, &program)?;
        let cuts = Cuts {
            server: Server::Lsvd,
            rounds: arguments.rounds,
            rounds_per_disk: arguments.rounds_per_disk,
            again: arguments.again,
            plant: arguments.plant.as_deref().unwrap_or_default(),
            keep_going: false,
            given: &arguments.rest,
        };
        let mut total = Total::default();
        let mut losses = Losses::default();
        let outcome = timed("cut the power, boot, judge", || {
            machines.cut(&cuts, folder, seed, (&mut total, &mut losses))
        });
        eprintln!("\npowercut: {total}\npowercut: {losses}");
        match &arguments.plant {
            Some(fault) => total.has_found(fault, outcome),
            None => outcome.and_then(|()| losses.refuse_none(total.rounds)),
        }
    })
}

/// What every machine of a run is made of.
#[derive(Debug)]
pub(crate) struct Machines {
    packages: Packages,
    /// The program that is a machine's disk.
    disk: PathBuf,
    /// The judge.
    lsvd: PathBuf,
    /// The same program, as it goes into the machine.
    stripped: PathBuf,
}

impl Machines {
    /// Gets and builds the parts. Programs are copied into `folder`: a build beside a long run is
    /// not to change what is run.
    pub(crate) fn new(folder: &Path, program: &Path) -> Result<Self, String> {
        let packages = Packages::get()?;
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            if from != to {
                fs::copy(from, &to)
                    .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
            }
            Ok::<_, String>(to)
        };
        let this = Self {
            packages,
            disk: copy(&build_disk()?, "volatile_disk")?,
            lsvd: copy(program, "lsvd")?,
            stripped: folder.join("stripped"),
        };
        // The guest unpacks it at every boot, and has no use for what debuggers want.
        let mut strip = Command::new("strip");
        quietly(strip.arg("-o").args([&this.stripped, &this.lsvd]))?;
        Ok(this)
    }

    /// Cuts the power of one machine after the other. The disk of the first has this seed, that of
    /// the next has one more.
    pub(crate) fn cut(
        &self,
        cuts: &Cuts<'_>,
        folder: &Path,
        seed: u64,
        (total, losses): (&mut Total, &mut Losses),
    ) -> Outcome {
        let mut left = cuts.rounds;
        let mut seed = seed;
        while left > 0 {
            let rounds = left.min(cuts.rounds_per_disk);
            let place = folder.join(format!("{:?}-{seed}", cuts.server));
            let mut guest = Guest::new(cuts, self, place, seed)?;
            let judged = guest
                .boot()
                .and_then(|()| guest.torture(cuts, &self.lsvd, rounds, total));
            let ended = guest.end();
            losses.add(&guest.losses()?);
            judged.map_err(|error| format!("{error}\n{}", guest.end_of_console()))?;
            ended?;
            guest.remove()?;
            left -= rounds;
            seed = seed.wrapping_add(1);
        }
        Ok(())
    }
}

/// Builds the guest's disk, beside this program.
fn build_disk() -> Result<PathBuf, String> {
    let mut build = cargo(&["build", "--locked", "-p", "lsvd-sim"]);
    build.args(["--example", "volatile_disk"]);
    run("build the disk", &mut build)?;
    Ok(own_folder()?.join("examples/volatile_disk"))
}

/// Where the programs are that are built without optimisation, this one among them.
fn own_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let folder = own.parent().ok_or("this program is in no folder")?;
    Ok(folder.to_path_buf())
}
