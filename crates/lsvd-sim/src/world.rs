//! A volume's world, from its creation through many lives of its writers: machines that crash in the
//! midst of anything, lose what they had not synced or their whole disk, are stalled and taken over,
//! and a store that is slow, fails, and does late what nobody waits for. Whatever happens, what is
//! there afterwards is judged by the [history](crate::history) of what clients sent and were told, and
//! what is in the store by what it is there for. In some worlds the store breaks its contract.
//!
//! All of it follows from the [seed](Settings::seed): the same one gives the same digest.

mod census;
mod client;
mod counts;
mod hardware;
mod life;
mod opening;
mod proof;
mod reader;
mod refusal;
mod settings;
mod standing;
mod work;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lsvd::{CreateOptions, Volume};
use parking_lot::Mutex;

use crate::cloud::{Cloud, Mood};
use crate::disk::MemoryDisk;
use crate::executor::{Executor, Group};
use crate::history::{History, SECTOR};
use crate::points::Points;
use crate::random::Random;

pub use counts::{Counts, Ending};
pub use settings::Settings;

use life::Ghost;

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
/// What is wrong with the engine: a state that no history leads to, an operation that never ends, an
/// object that nothing explains, a panic.
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
    /// Processes that never came to serve.
    failed: BTreeSet<Group>,
    points: Points,
    /// What a client found wrong.
    wrong: Arc<Mutex<Option<String>>>,
    counts: Arc<Mutex<Counts>>,
    /// Whether the last life did not come to work.
    died_opening: bool,
    /// Whether the volume was closed, and nobody has served it since.
    is_closed: bool,
    /// Whether the last life was to end while it gave a new log the name of another.
    was_renaming: bool,
    /// Segments of the log that the last writer asked for.
    segments: u64,
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
            cloud: Cloud::new(executor, settings.contract, random.bits()),
            random,
            history: Arc::default(),
            owner: None,
            ghost: None,
            failed: BTreeSet::new(),
            points: Points::default(),
            wrong: Arc::default(),
            counts: Arc::default(),
            died_opening: false,
            is_closed: false,
            was_renaming: false,
            segments: 5,
        }
    }

    async fn play(mut self) -> Result<Counts, String> {
        if self.is_there().await? {
            for life in 0..self.settings.lives {
                let lived = self.live().await;
                let lived = lived.and_then(|()| self.hear_clients());
                lived.map_err(|what| format!("life {life}: {what}"))?;
            }
            if !self.loses_objects() {
                let ended = self.end_well().await;
                let ended = ended.and_then(|()| self.hear_clients());
                ended.map_err(|what| format!("the last life: {what}"))?;
            }
        }
        self.lay_ghost();
        let mut counts = self.counts.lock().clone();
        counts.passed = self.points.passed();
        counts.ended = self.points.ended();
        Ok(counts)
    }

    /// What a client found wrong.
    fn hear_clients(&self) -> Result<(), String> {
        self.wrong.lock().take().map_or(Ok(()), Err)
    }

    /// Makes the volume; whether it is there, which a store may be refused for.
    async fn is_there(&mut self) -> Result<bool, String> {
        if self.settings.contract.breach.is_some() && !self.settings.unsafe_no_fencing {
            return self.is_there_where_it_may_be_refused().await;
        }
        let unsafe_no_fencing = self.settings.unsafe_no_fencing;
        let created = self.create(unsafe_no_fencing).await;
        created.map_err(|error| error.to_string())?;
        Ok(true)
    }

    async fn create(&mut self, unsafe_no_fencing: bool) -> lsvd::Result<()> {
        let group = self.executor.group();
        let seed = self.random.bits();
        let line = self.cloud.line(group, Mood::GOOD, seed, Points::default());
        let options = CreateOptions {
            object_size: self.settings.object_bytes,
            unsafe_no_fencing,
            ..CreateOptions::new(self.settings.sectors * SECTOR as u64)
        };
        let runtime = self.executor.runtime(group);
        let created = Volume::create_async(Arc::new(line), runtime, options).await;
        self.executor.remove(group);
        created.map(drop)
    }
}
