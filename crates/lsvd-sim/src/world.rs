//! A volume's world, from its creation through many lives of its writers: machines that crash in the
//! midst of anything, lose what they had not synced or their whole disk, are stalled and taken over,
//! and a store that is slow, fails, and does late what nobody waits for. Whatever happens, what is
//! there afterwards is judged by the [history](crate::history) of what clients sent and were told.
//!
//! All of it follows from the [seed](Settings::seed): the same one gives the same digest.

mod client;
mod life;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lsvd::{CreateOptions, Volume};
use parking_lot::Mutex;

use crate::cloud::{Cloud, Mood};
use crate::disk::MemoryDisk;
use crate::executor::Executor;
use crate::history::{History, SECTOR};
use crate::points::{Place, Points};
use crate::random::Random;

pub use settings::Settings;

use life::Ghost;

/// What was done in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lives that ended in a crash.
    pub crashes: u64,
    /// Those of them that ended while the volume was opened.
    pub in_openings: u64,
    /// Those behind another one of that kind.
    pub in_openings_again: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Losses of the local disk.
    pub disk_losses: u64,
    /// Take-overs while the writer before was alive.
    pub take_overs: u64,
    /// Those of a writer that was stalled while it opened the volume.
    pub stalled_openings: u64,
    /// Requests of clients.
    pub operations: u64,
    /// Steps of tasks.
    pub steps: u64,
    /// How often each point was passed, before it was done and behind it.
    pub passed: BTreeMap<(Place, bool), u64>,
    /// How many lives ended there.
    pub ended: BTreeMap<(Place, bool), u64>,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.in_openings += other.in_openings;
        self.in_openings_again += other.in_openings_again;
        self.power_losses += other.power_losses;
        self.disk_losses += other.disk_losses;
        self.take_overs += other.take_overs;
        self.stalled_openings += other.stalled_openings;
        self.operations += other.operations;
        self.steps += other.steps;
        for (sum, counts) in [
            (&mut self.passed, &other.passed),
            (&mut self.ended, &other.ended),
        ] {
            for (point, count) in counts {
                *sum.entry(*point).or_default() += count;
            }
        }
    }
}

/// A run that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What was done.
    pub counts: Counts,
    /// The way that it went.
    pub digest: u64,
}

/// What a run found wrong, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The settings that repeat it.
    pub settings: Settings,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.settings, self.what)
    }
}

/// Runs the world of these settings to its end.
///
/// # Errors
/// What is wrong with the engine: a state that no history leads to, an operation that never ends, a
/// panic.
pub fn run(settings: Settings) -> Result<Finished, Violation> {
    let wrong = |what| Violation { settings, what };
    let executor = Executor::new(settings.seed);
    let world = World::new(&executor, settings);
    let ran = catch_unwind(AssertUnwindSafe(|| executor.run(world.play())));
    let played = match ran {
        Ok(played) => played.and_then(|played| played),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(format!("a panic: {}", text.unwrap_or_default()))
        }
    };
    let mut counts = played.map_err(wrong)?;
    counts.steps = executor.steps();
    Ok(Finished {
        counts,
        digest: executor.digest(),
    })
}

/// The machines that take turns.
const MACHINES: usize = 2;

struct World {
    executor: Executor,
    settings: Settings,
    random: Random,
    cloud: Cloud,
    disks: Vec<MemoryDisk>,
    history: Arc<Mutex<History>>,
    /// The machine whose disk has the log of the last writer, where that is known.
    owner: Option<usize>,
    /// A writer that was taken over and does not know it.
    ghost: Option<Ghost>,
    points: Points,
    /// What a client found wrong.
    wrong: Arc<Mutex<Option<String>>>,
    counts: Arc<Mutex<Counts>>,
    /// Whether the last life did not come to work.
    died_opening: bool,
}

impl World {
    fn new(executor: &Executor, settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let unit = |random: &mut Random| if random.chance(50) { 512 } else { 4096 };
        let disks = (0..MACHINES).map(|machine| {
            let unit = unit(&mut random);
            MemoryDisk::at(format!("/machine{machine}"), unit)
        });
        Self {
            disks: disks.collect(),
            executor: executor.clone(),
            settings,
            random,
            cloud: Cloud::new(executor),
            history: Arc::default(),
            owner: None,
            ghost: None,
            points: Points::default(),
            wrong: Arc::default(),
            counts: Arc::default(),
            died_opening: false,
        }
    }

    async fn play(mut self) -> Result<Counts, String> {
        self.create().await?;
        for life in 0..self.settings.lives {
            self.live()
                .await
                .map_err(|what| format!("life {life}: {what}"))?;
            if let Some(what) = self.wrong.lock().take() {
                return Err(format!("life {life}: {what}"));
            }
        }
        self.lay_ghost();
        let mut counts = self.counts.lock().clone();
        counts.passed = self.points.passed();
        counts.ended = self.points.ended();
        Ok(counts)
    }

    async fn create(&mut self) -> Result<(), String> {
        let group = self.executor.group();
        let points = Points::default();
        let line = self
            .cloud
            .line(group, Mood::GOOD, self.random.bits(), points);
        let options = CreateOptions {
            object_size: self.settings.object_bytes,
            ..CreateOptions::new(self.settings.sectors * SECTOR as u64)
        };
        let runtime = self.executor.runtime(group);
        let created = Volume::create_async(Arc::new(line), runtime, options).await;
        self.executor.remove(group);
        created.map(drop).map_err(|error| error.to_string())
    }
}
