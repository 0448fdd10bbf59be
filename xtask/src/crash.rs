//! `cargo x crash`: a server that is killed again and again under load, judged by `lsvd torture`.
//!
//! A volume is as good as new after some rounds: the seed of the next is one higher. Volume, log
//! and load are small, so that everything that can wrap or fill does so within a few rounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use crate::judge::{Run, Total, judge};
use crate::servers::Server;
use crate::step::{Outcome, cargo, quietly, run, timed};
use crate::test;
use crate::victim::Victim;

/// What is killed, and how often; arguments behind `--` go to `lsvd torture`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Kills in all
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Rounds before a new volume takes the place of the old one
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds_per_volume: u32,

    /// Delete the local log after every kill: what is found then must be a prefix
    #[arg(long)]
    log_lost: bool,

    /// Kill a server on whose disk a mounted ext4 is in use, and look at the files: needs root,
    /// `/dev/fuse` and loop devices
    #[arg(long, conflicts_with_all = ["log_lost", "plant", "program", "seed", "dir", "rest"])]
    ext4: bool,

    /// Build with this fault planted, and fail unless the judge finds it: `segment-early` or
    /// `replay-discard` (a kill cannot show what is not synced)
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,

    /// Use this `lsvd` instead of building one
    #[arg(long, value_name = "PATH", conflicts_with = "plant")]
    program: Option<PathBuf>,

    /// Seed of the first volume [default: the time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Where the volumes go; a folder of its own is made in it [default: the one for temporary
    /// files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// More arguments of `lsvd torture`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run_all(arguments: &Arguments) -> Outcome {
    if arguments.ext4 {
        return test::killed_filesystem(arguments.rounds);
    }
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(arguments.plant.is_some())?,
    };
    let seed = arguments.seed.map_or_else(time_as_seed, Ok)?;
    in_new_folder("crash", arguments.dir.as_deref(), |folder| {
        let mut total = Total::default();
        let outcome = timed("kill, restart, judge", || {
            all_volumes(arguments, (&program, folder), seed, &mut total)
        });
        eprintln!("\ncrash: {total}");
        match &arguments.plant {
            Some(fault) => total.has_found(fault, outcome),
            None => outcome.and(total.refuse_idle()),
        }
    })
}

fn all_volumes(
    arguments: &Arguments,
    (program, folder): (&Path, &Path),
    seed: u64,
    total: &mut Total,
) -> Outcome {
    // The run's own copy: a build beside a long run is not to change what is killed.
    let lsvd = folder.join("lsvd");
    fs::copy(program, &lsvd)
        .map_err(|error| format!("cannot copy {}: {error}", program.display()))?;
    let mut left = arguments.rounds;
    let mut seed = seed;
    while left > 0 {
        let rounds = left.min(arguments.rounds_per_volume);
        let place = folder.join(format!("seed-{seed}"));
        fs::create_dir(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        let command = create(arguments, &lsvd, &place)?;
        let after = if arguments.log_lost {
            "rm -rf cache"
        } else {
            ""
        };
        let victim = Victim::start(place, &command, after)?;
        victim.end(torture(arguments, (&victim, &lsvd), (rounds, seed), total))?;
        left -= rounds;
        seed = seed.wrapping_add(1);
    }
    Ok(())
}

/// Builds the program, with its planted faults or without, beside this one.
pub(crate) fn build(planted: bool) -> Result<PathBuf, String> {
    let mut build = cargo(&["build", "--locked", "--release", "-p", "lsvd-cli"]);
    if planted {
        build.args(["--features", "lsvd/planted"]);
    }
    run("build lsvd", &mut build)?;
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let target = own.parent().and_then(Path::parent);
    let target = target.ok_or("this program is not in a target folder")?;
    Ok(target.join("release/lsvd"))
}

/// Works in a folder of its own, which goes unless the work fails: what a failed run leaves is what has
/// to be looked at.
pub(crate) fn in_new_folder(
    chore: &str,
    dir: Option<&Path>,
    work: impl FnOnce(&Path) -> Outcome,
) -> Outcome {
    let folder = new_folder(chore, dir)?;
    work(&folder)
        .map_err(|error| format!("{error}\nwhat is left of it is in {}", folder.display()))?;
    fs::remove_dir_all(&folder)
        .map_err(|error| format!("cannot remove {}: {error}", folder.display()))
}

fn new_folder(chore: &str, dir: Option<&Path>) -> Result<PathBuf, String> {
    let dir = dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
    // A run that failed has left its folder, and another process had the number of this one.
    let seconds = time_as_seed()?;
    let folder = dir.join(format!("lsvd-{chore}-{}-{seconds}", std::process::id()));
    fs::create_dir_all(&dir)
        .and_then(|()| fs::create_dir(&folder))
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    // The scripts are run from anywhere.
    fs::canonicalize(&folder).map_err(|error| format!("{}: {error}", folder.display()))
}

pub(crate) fn time_as_seed() -> Result<u64, String> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since
        .map(|since| since.as_secs())
        .map_err(|error| format!("the clock is wrong ({error}): give a --seed"))
}

/// Creates the volume and gives the command that serves it.
fn create(arguments: &Arguments, lsvd: &Path, place: &Path) -> Result<String, String> {
    let plant = arguments.plant.as_deref().unwrap_or_default();
    let take_over = if arguments.log_lost {
        " --take-over"
    } else {
        ""
    };
    let serve = serve_volume(lsvd, place)?;
    Ok(format!("env LSVD_PLANT={plant} {serve}{take_over}"))
}

/// Creates a small volume in `place` and gives the command that serves it there at the socket `s`.
pub(crate) fn serve_volume(lsvd: &Path, place: &Path) -> Result<String, String> {
    let mut create = Command::new(lsvd);
    create
        .args(["create", "vol", "--size", "256M", "--object-size", "1M"])
        .current_dir(place);
    quietly(&mut create)?;
    Ok(format!(
        "'{}' serve vol --socket s --cache-dir cache --log-size 64M",
        lsvd.display()
    ))
}

/// A load that makes a volume of this size wrap and fill within a few rounds.
pub(crate) const LOAD: [(&str, &str); 5] = [
    ("--load", "10ms..150ms"),
    ("--area", "32M"),
    ("--hot", "512K"),
    ("--kill-again", "20"),
    ("--timeout", "30s"),
];

/// The load's time on the disk that `place` is on: one whose syncs take longer than the usual load would
/// answer no flush in it, and the run would prove nothing.
fn load_beside(place: &Path) -> Result<String, String> {
    let path = place.join("sync");
    let mut shortest = Duration::MAX;
    for bytes in 1..=3 {
        let begun = Instant::now();
        fs::write(&path, vec![0; bytes])
            .and_then(|()| fs::File::open(&path)?.sync_all())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        shortest = shortest.min(begun.elapsed());
    }
    let sync = shortest.as_millis();
    Ok(format!("{}ms..{}ms", 10 + sync, 150 + 4 * sync))
}

fn torture(
    arguments: &Arguments,
    (victim, lsvd): (&Victim, &Path),
    (rounds, seed): (u32, u64),
    total: &mut Total,
) -> Outcome {
    let mut torture = victim.torture(lsvd);
    torture
        .args(["--rounds", &rounds.to_string()])
        .args(["--seed", &seed.to_string()]);
    if arguments.log_lost {
        torture.args(["--expect", "prefix"]);
    } else {
        torture.args(Server::Lsvd.owes());
    }
    let load = load_beside(victim.place())?;
    let mut defaults = vec![("--load", load.as_str())];
    defaults.extend(LOAD.into_iter().filter(|(option, _)| *option != "--load"));
    let run = Run {
        about: &format!("seed {seed}"),
        defaults: &defaults,
        given: &arguments.rest,
        keep_going: false,
    };
    judge(torture, &run, total)
}
