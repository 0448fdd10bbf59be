//! `cargo x crash`: a server that is killed again and again under load, judged by `lsvd torture`.
//!
//! A volume is as good as new after some rounds: the seed of the next is one higher. Volume, log
//! and load are small, so that everything that can wrap or fill does so within a few rounds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::step::{Outcome, cargo, run, timed};
use crate::{needs, test};

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
    #[arg(long, conflicts_with_all = ["log_lost", "server", "plant", "program", "seed", "dir", "rest"])]
    ext4: bool,

    /// What is killed: ours, or another that the judge is tried on
    #[arg(long, value_enum, default_value_t = Kind::Lsvd)]
    server: Kind,

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

/// A server that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A lasting volume of ours
    Lsvd,
    /// qemu-nbd on a raw file, cache=writeback
    QemuNbd,
    /// The same with cache=unsafe, which ignores flushes
    QemuNbdUnsafe,
    /// nbdkit on a raw file
    NbdkitFile,
    /// nbdkit, a disk in memory
    NbdkitMemory,
}

pub(crate) fn run_all(arguments: &Arguments) -> Outcome {
    if arguments.ext4 {
        return test::killed_filesystem(arguments.rounds);
    }
    let ours = arguments.server == Kind::Lsvd;
    if !ours && (arguments.log_lost || arguments.plant.is_some()) {
        return Err("--log-lost and --plant are for our own server".to_owned());
    }
    if !ours {
        needs::install()?;
    }
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(arguments.plant.is_some())?,
    };
    let folder = new_folder("crash", arguments.dir.as_deref())?;
    let seed = arguments.seed.map_or_else(time_as_seed, Ok)?;
    let mut total = Total::default();
    let outcome = timed("kill, restart, judge", || {
        all_volumes(arguments, (&program, &folder), seed, &mut total)
    });
    eprintln!("{total}");
    let outcome = match &arguments.plant {
        Some(fault) if total.found > 0 || outcome.as_ref().is_err_and(|how| is_refusal(how)) => {
            let how = outcome.err().unwrap_or_default();
            eprintln!("crash: the planted {fault} was found: {how}");
            Ok(())
        }
        Some(fault) => outcome.and(Err(format!(
            "the planted {fault} was not found in {} kills",
            total.rounds
        ))),
        None => outcome.and(if ours { total.refuse_idle() } else { Ok(()) }),
    };
    // What a failed run leaves is what has to be looked at.
    outcome.map_err(|error| format!("{error}\nwhat is left of it is in {}", folder.display()))?;
    fs::remove_dir_all(&folder)
        .map_err(|error| format!("cannot remove {}: {error}", folder.display()))
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
        let volume = Volume::start(arguments, &lsvd, place)?;
        let judged = volume.torture(arguments, &lsvd, rounds, seed, total);
        let killed = volume.kill();
        judged.map_err(|error| format!("{error}\n{}", volume.end_of_log()))?;
        killed?;
        fs::remove_dir_all(&volume.place)
            .map_err(|error| format!("cannot remove {}: {error}", volume.place.display()))?;
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

pub(crate) fn new_folder(chore: &str, dir: Option<&Path>) -> Result<PathBuf, String> {
    let dir = dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let folder = dir.join(format!("lsvd-{chore}-{}", std::process::id()));
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

/// One volume and its server, with the scripts that start and kill it.
struct Volume {
    place: PathBuf,
}

/// Starts the server in the background. Its process number is in a file that goes when it is gone
/// with all its threads, and so with its locks: a zombie or a thread that still exits would make
/// the next one find the volume in use.
const START: &str = r#"cd PLACE || exit 1
rm -f s
( COMMAND & echo $! > pid.new; mv pid.new pid; wait $!; rm -f pid ) >> log 2>&1 &
while [ ! -e pid ]; do sleep 0.001; done
"#;

const KILL: &str = r#"cd PLACE || exit 1
kill -9 "$(cat pid)" || exit 1
while [ -e pid ]; do sleep 0.001; done
AFTER
"#;

impl Volume {
    fn start(arguments: &Arguments, lsvd: &Path, place: PathBuf) -> Result<Self, String> {
        fs::create_dir(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        let this = Self { place };
        let log_lost = if arguments.log_lost {
            "rm -rf cache"
        } else {
            ""
        };
        let command = match arguments.server {
            Kind::Lsvd => this.create(arguments, lsvd)?,
            Kind::QemuNbd => "qemu-nbd -t -e 64 -f raw --discard=unmap -k $PWD/s disk".to_owned(),
            Kind::QemuNbdUnsafe => {
                "qemu-nbd -t -e 64 -f raw --discard=unmap --cache=unsafe -k $PWD/s disk".to_owned()
            }
            Kind::NbdkitFile => "nbdkit -f -U s file disk".to_owned(),
            Kind::NbdkitMemory => "nbdkit -f -U s memory 256M".to_owned(),
        };
        if arguments.server != Kind::Lsvd {
            let disk = fs::File::create(this.place.join("disk"));
            disk.and_then(|disk| disk.set_len(256 << 20))
                .map_err(|error| format!("cannot make a disk: {error}"))?;
        }
        this.write_script("start", &START.replace("COMMAND", &command))?;
        this.write_script("kill", &KILL.replace("AFTER", log_lost))?;
        this.run_script("start")?;
        Ok(this)
    }

    /// Creates the volume and gives the command that serves it.
    fn create(&self, arguments: &Arguments, lsvd: &Path) -> Result<String, String> {
        let mut create = Command::new(lsvd);
        create
            .args(["create", "vol", "--size", "256M", "--object-size", "1M"])
            .current_dir(&self.place);
        quietly(&mut create)?;
        let take_over = if arguments.log_lost {
            " --take-over"
        } else {
            ""
        };
        let plant = arguments.plant.as_deref().unwrap_or_default();
        Ok(format!(
            "env LSVD_PLANT={plant} '{}' serve vol --socket s --cache-dir cache --log-size 64M{take_over}",
            lsvd.display()
        ))
    }

    fn write_script(&self, name: &str, text: &str) -> Outcome {
        let place = format!("'{}'", self.place.display());
        let path = self.place.join(name);
        fs::write(&path, text.replace("PLACE", &place))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn script(&self, name: &str) -> String {
        format!("sh '{}'", self.place.join(name).display())
    }

    fn run_script(&self, name: &str) -> Outcome {
        quietly(Command::new("sh").arg("-c").arg(self.script(name)))
    }

    fn kill(&self) -> Outcome {
        // A server that died of itself has been heard of already.
        if self.place.join("pid").exists() {
            self.run_script("kill")?;
        }
        Ok(())
    }

    fn torture(
        &self,
        arguments: &Arguments,
        lsvd: &Path,
        rounds: u32,
        seed: u64,
        total: &mut Total,
    ) -> Outcome {
        let mut torture = Command::new(lsvd);
        torture
            .arg("torture")
            .arg(format!("nbd+unix:///?socket={}/s", self.place.display()))
            .args(["--kill", &self.script("kill")])
            .args(["--restart", &self.script("start")])
            .args(["--rounds", &rounds.to_string(), "--seed", &seed.to_string()]);
        let defaults = [
            ("--load", "10ms..150ms"),
            ("--area", "32M"),
            ("--hot", "512K"),
            ("--kill-again", "20"),
            ("--timeout", "30s"),
        ];
        if arguments.log_lost {
            torture.args(["--expect", "prefix"]);
        }
        if arguments.server != Kind::Lsvd {
            // No other promises that a write is whole after a kill.
            torture.args(["--atomic", "512"]);
        }
        judge(
            torture,
            &defaults,
            &arguments.rest,
            &format!("seed {seed}"),
            total,
        )
    }

    /// The last that the server said.
    fn end_of_log(&self) -> String {
        let log = fs::read(self.place.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        format!("the last that the server said:\n{}", last.join("\n"))
    }
}

/// Runs `lsvd torture`, with those of its options that are not given with others, and adds what it
/// reports; `about` says of what.
pub(crate) fn judge(
    mut torture: Command,
    defaults: &[(&str, &str)],
    given: &[String],
    about: &str,
    total: &mut Total,
) -> Outcome {
    for (option, value) in defaults {
        if !given.iter().any(|given| given == option) {
            torture.args([option, value]);
        }
    }
    torture.arg("--json").args(given).stderr(Stdio::inherit());
    let started = Instant::now();
    let output = torture
        .output()
        .map_err(|error| format!("cannot run {torture:?}: {error}"))?;
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    total.add(&report);
    if report["right"] != true {
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
    }
    eprintln!(
        "   {about}: {} rounds in {:.1?}",
        report["rounds"],
        started.elapsed()
    );
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{about}: {}", output.status))
    }
}

/// Runs a command that says nothing when all is well.
pub(crate) fn quietly(command: &mut Command) -> Outcome {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Sums of the judge's reports.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) rounds: u64,
    pub(crate) wrong: u64,
    /// Runs in which a state was wrong, or the volume was found to be damaged.
    pub(crate) found: u64,
    sent: u64,
    flushed: u64,
    flushes: u64,
    flushed_lost: u64,
    unflushed_lost: u64,
    most_lost: u64,
    errors: u64,
}

/// Whether this is a server that says that its volume is damaged. One that is slow, or fails for
/// another reason, finds no planted fault.
pub(crate) fn is_refusal(text: &str) -> bool {
    text.contains("is damaged")
}

impl Total {
    /// Nothing stands in our server's way, so it has no reason to refuse anything; and where nothing
    /// was flushed nothing can have been lost.
    fn refuse_idle(&self) -> Outcome {
        if self.errors > 0 || self.flushed == 0 {
            return Err(format!(
                "the run proves nothing: {} requests failed, {} writes were flushed",
                self.errors, self.flushed
            ));
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, report: &Value) {
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.rounds += number("/rounds");
        self.wrong += number("/wrong_rounds");
        let refused = report["ended_early"].as_str();
        let found = number("/wrong_rounds") > 0 || refused.is_some_and(is_refusal);
        self.found += u64::from(found);
        self.sent += number("/writes/sent");
        self.flushed += number("/writes/flushed");
        self.flushes += number("/flushes");
        self.flushed_lost += number("/lost/flushed");
        self.unflushed_lost += number("/lost/answered_not_flushed");
        self.most_lost = self.most_lost.max(number("/lost/most_in_a_round"));
        self.errors += number("/errors");
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\ncrash: {} kills, {} wrong states; {} writes, {} flushed, {} flushes, {} errors; \
             lost: {} flushed, {} answered and not flushed, at most {} in a round",
            self.rounds,
            self.wrong,
            self.sent,
            self.flushed,
            self.flushes,
            self.errors,
            self.flushed_lost,
            self.unflushed_lost,
            self.most_lost,
        )
    }
}
