//! Hunts planted faults: how many seeds each takes to be found.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use lsvd::words::planted::{Fault, plant};
use lsvd_sim::world::{Settings, run};
use parking_lot::Mutex;

/// The faults of this name, or with `all` those of the engine: a simulated store has no directory.
pub(crate) fn parse(name: &str) -> Result<Vec<Fault>, String> {
    let mut faults = Fault::ALL.to_vec();
    faults.retain(|fault| *fault != Fault::DirectorySync);
    let mut chosen = faults.clone();
    chosen.retain(|fault| name == "all" || name == fault.name());
    if chosen.is_empty() {
        let names: Vec<&str> = faults.into_iter().map(Fault::name).collect();
        let names = names.join(", ");
        return Err(format!("no such fault; there are {names}, and all"));
    }
    Ok(chosen)
}

/// Plants one after the other and tries the seeds in turn; whether all were found, and a text.
pub(crate) fn hunt(faults: &[Fault], seeds: &Range<u64>, threads: usize) -> (bool, String) {
    let mut text = format!("{:<18} {:>6}  what was found\n", "planted fault", "seeds");
    let mut are_found = true;
    for fault in faults {
        plant(Some(*fault));
        let found = first(seeds, threads);
        are_found &= found.is_some();
        let (count, what) = match found {
            Some((seed, what)) => ((seed - seeds.start + 1).to_string(), what),
            None => ("-".to_owned(), format!("nothing in seeds {seeds:?}")),
        };
        let _ = writeln!(text, "{:<18} {count:>6}  {what}", fault.name());
    }
    plant(None);
    (are_found, text)
}

/// The first of the seeds that finds something, and what.
fn first(seeds: &Range<u64>, threads: usize) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    let is_open = |seed| found.lock().as_ref().is_none_or(|(first, _)| seed < *first);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || !is_open(seed) {
                        return;
                    }
                    if let Err(violation) = run(Settings::of(seed))
                        && is_open(seed)
                    {
                        *found.lock() = Some((seed, violation.what));
                    }
                }
            });
        }
    });
    found.into_inner()
}
