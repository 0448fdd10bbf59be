//! Worlds of a list of seeds, and of new ones in every run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lsvd_sim::cloud::Breach;
use lsvd_sim::points::Place;
use lsvd_sim::seeds::of_run;
use lsvd_sim::world::{Counts, Ending, Settings, run};

/// The seeds of every run.
const FIXED: u64 = 2000;

/// Seeds that once found something. Worlds are drawn otherwise since, so what keeps the faults away are
/// tests of the engine of their own; these are only more worlds.
const FOUND: [u64; 12] = [
    241,
    243,
    251,
    329,
    355,
    1522,
    3886,
    4543,
    4726,
    5532,
    7729,
    359_082_865_504,
];

/// How many more there are, new ones in each run.
const FRESH: u64 = 500;

/// `LSVD_SIM_SEEDS=FIRST..END` runs others.
fn seeds() -> Vec<u64> {
    let mut seeds = of_run("simulation", "LSVD_SIM_SEEDS", 0..FIXED, FRESH);
    if std::env::var("LSVD_SIM_SEEDS").is_err() {
        seeds.extend(FOUND);
    }
    seeds
}

/// Not by `eprintln`, which is heard of failed tests alone.
fn tell(line: &str) {
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[test]
fn whatever_happens_there_is_a_state_that_the_history_explains() {
    let seeds = seeds();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(Counts::default()));
    let wrong = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(Settings::of(*seed)) {
                        Ok(finished) => counts.lock().unwrap().add(&finished.counts),
                        Err(violation) => {
                            tell(&violation.to_string());
                            wrong.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0, "of {} seeds", seeds.len());
    let counts = counts.into_inner().unwrap();
    if seeds.len() >= 1000 {
        let never = Place::ALL.iter().filter(|place| {
            let ended = |is_done| counts.ended.contains_key(&(**place, is_done));
            !ended(false) || !ended(true)
        });
        let never: Vec<_> = never.collect();
        assert!(never.is_empty(), "nothing ended at {never:?}");
        // One that overwrites is refused, or does no harm to a single writer; that some objects are going
        // to be lost is not to be seen beforehand.
        for seen in [
            (Breach::Overwrites, Ending::Refused),
            (Breach::Overwrites, Ending::Prefix),
            (Breach::Forgets, Ending::Error),
            (Breach::Forgets, Ending::Prefix),
            (Breach::Hides, Ending::Refused),
            (Breach::Hides, Ending::Error),
            (Breach::Hides, Ending::Prefix),
        ] {
            assert!(counts.breaches.contains_key(&seen), "never {seen:?}");
        }
        for count in [
            counts.full_disks,
            counts.readers,
            counts.self_checks,
            counts.censuses,
            counts.strays,
        ] {
            assert!(count > 0, "{counts:?}");
        }
    }
}

#[test]
fn a_seed_goes_the_same_way_again() {
    for seed in 0..20 {
        let settings = Settings::of(seed);
        assert_eq!(run(settings), run(settings));
    }
}
