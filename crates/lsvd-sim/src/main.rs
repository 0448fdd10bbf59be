//! Runs worlds by their seeds, on all cores, and reports what was done in them and what went wrong.

#[cfg(feature = "planted")]
mod hunt;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use lsvd_sim::points::Place;
use lsvd_sim::seeds::parse_range;
use lsvd_sim::world::{Counts, Settings, Violation, run};
use parking_lot::Mutex;

/// Runs the engine in simulated worlds, each of which its seed repeats exactly.
#[derive(Debug, Parser)]
#[command(name = "lsvd-sim")]
struct Arguments {
    /// One seed; prints the digest of its run
    #[arg(long, conflicts_with_all = ["seeds", "hours"])]
    seed: Option<u64>,

    /// Seeds from the first to before the end
    #[arg(long, value_name = "FIRST..END", value_parser = parse_range, conflicts_with = "hours")]
    seeds: Option<Range<u64>>,

    /// Hours in which new seeds are run
    #[arg(long, default_value_t = 0.1)]
    hours: f64,

    /// Lives of writers in each world
    #[arg(long)]
    lives: Option<u32>,

    /// Threads, each with a world of its own [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,

    /// Plants this fault, or one after the other with `all`, and fails unless a seed finds it
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "FAULT", requires = "seeds")]
    plant: Option<String>,

    /// Where the report goes as well
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What all threads did.
#[derive(Default)]
struct Sum {
    counts: Counts,
    worlds: u64,
    violations: Vec<Violation>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in a world is a violation, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    match work_on(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell_error(&error);
            ExitCode::from(2)
        }
    }
}

fn work_on(arguments: &Arguments) -> Result<bool, String> {
    #[cfg(feature = "planted")]
    if let (Some(fault), Some(seeds)) = (&arguments.plant, &arguments.seeds) {
        let (are_found, text) = hunt::hunt(&hunt::parse(fault)?, seeds, threads(arguments));
        tell(&text)?;
        return Ok(are_found);
    }
    match arguments.seed {
        Some(seed) => one(arguments, seed),
        None => many(arguments),
    }
}

fn threads(arguments: &Arguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.threads.unwrap_or(cores).max(1)
}

fn settings(arguments: &Arguments, seed: u64) -> Settings {
    let settings = Settings::of(seed);
    Settings {
        lives: arguments.lives.unwrap_or(settings.lives),
        ..settings
    }
}

fn one(arguments: &Arguments, seed: u64) -> Result<bool, String> {
    match run(settings(arguments, seed)) {
        Ok(finished) => {
            tell(&format!(
                "seed {seed}: digest {:016x}\n{}",
                finished.digest,
                coverage(&finished.counts)
            ))?;
            Ok(true)
        }
        Err(violation) => {
            tell(&format!("{violation}\n"))?;
            Ok(false)
        }
    }
}

fn many(arguments: &Arguments) -> Result<bool, String> {
    let started = Instant::now();
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let fresh = since.map_or(0, |since| since.as_secs()) << 20;
    let seeds = arguments.seeds.clone().unwrap_or(fresh..u64::MAX);
    let deadline = match arguments.seeds {
        Some(_) => None,
        None => Some(started + Duration::from_secs_f64(arguments.hours.max(0.0) * 3600.0)),
    };
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads(arguments) {
            scope.spawn(|| work(arguments, &next, seeds.end, deadline, &sum));
        }
    });
    let report = report(&sum.into_inner(), seeds.start, started.elapsed());
    tell(&report.1)?;
    if let Some(path) = &arguments.report {
        let failed = |error| format!("cannot write {}: {error}", path.display());
        std::fs::write(path, &report.1).map_err(failed)?;
    }
    Ok(report.0)
}

fn work(
    arguments: &Arguments,
    next: &AtomicU64,
    end: u64,
    deadline: Option<Instant>,
    sum: &Mutex<Sum>,
) {
    loop {
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if is_over || seed >= end {
            return;
        }
        let ran = run(settings(arguments, seed));
        let mut sum = sum.lock();
        sum.worlds += 1;
        match ran {
            Ok(finished) => sum.counts.add(&finished.counts),
            Err(violation) => {
                tell_error(&violation.to_string());
                sum.violations.push(violation);
            }
        }
    }
}

/// Whether all is well, and the text.
fn report(sum: &Sum, first: u64, time: Duration) -> (bool, String) {
    let Sum {
        counts,
        worlds,
        violations,
    } = sum;
    let seconds = time.as_secs_f64().max(0.001);
    let whole = u32::try_from(*worlds).unwrap_or(u32::MAX);
    let mut text = format!(
        "{worlds} seeds from {first} on in {seconds:.0} s, {:.1} a second: {} violations\n\
         {} crashes: {} in openings ({} of them behind another), {} at work, {} at rest; beside them {} \
         openings that failed and {} closes\n\
         {} losses of power, {} of the local disk, {} full disks, {} take-overs of living writers ({} of them \
         stalled in openings), {} operations, {} steps\n\
         {} images read beside a writer, {} questions to engines whether they are consistent, {} censuses of the store, {} objects of \
         no stream at the ends of worlds\n",
        f64::from(whole) / seconds,
        violations.len(),
        counts.crashes(),
        counts.in_openings,
        counts.in_openings_again,
        counts.at_work,
        counts.at_rest,
        counts.failed_openings,
        counts.closes,
        counts.power_losses,
        counts.disk_losses,
        counts.full_disks,
        counts.take_overs,
        counts.stalled_openings,
        counts.operations,
        counts.steps,
        counts.readers,
        counts.self_checks,
        counts.censuses,
        counts.strays,
    );
    for ((breach, ending), count) in &counts.breaches {
        let _ = writeln!(
            text,
            "a store that breaks its contract: {breach:?}: {ending:?}: {count}"
        );
    }
    text.push('\n');
    text += &coverage(counts);
    for violation in violations {
        let _ = writeln!(text, "\n{violation}");
    }
    (violations.is_empty(), text)
}

/// How often each point was passed, and was the last.
fn coverage(counts: &Counts) -> String {
    let mut text = format!(
        "{:<18} {:>12} {:>12} {:>12} {:>12}\n",
        "point", "before", "ended there", "behind", "ended there"
    );
    let of = |map: &BTreeMap<(Place, bool), u64>, point| map.get(&point).copied().unwrap_or(0);
    for place in Place::ALL {
        let name = format!("{place:?}");
        let _ = writeln!(
            text,
            "{name:<18} {:>12} {:>12} {:>12} {:>12}",
            of(&counts.passed, (place, false)),
            of(&counts.ended, (place, false)),
            of(&counts.passed, (place, true)),
            of(&counts.ended, (place, true)),
        );
    }
    text
}

fn tell(text: &str) -> Result<(), String> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}

fn tell_error(text: &str) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
