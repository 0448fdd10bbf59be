//! What must hold of the store and of the engine beside the state of the disk: every object is there
//! for a reason, nothing that is needed is missing, and in the end all is well again.

use std::time::Duration;

use lsvd::Volume;

use super::World;
use super::census::Census;
use super::hardware::Condition;
use super::life::{End, Plan, Process};
use super::opening::{Came, Opening};
use super::settings::LogSize;
use crate::cloud::{LATEST, Mood, Turn};

/// Time in which whatever is still under way has arrived, and every list has caught up.
const SETTLED: Duration = LATEST.saturating_mul(2);

impl World {
    /// Whether the engine is consistent.
    pub(super) fn check(&self, machine: usize, volume: &Volume) -> Result<(), String> {
        self.counts.lock().self_checks += 1;
        let checked = volume.self_check();
        checked.map_err(|what| format!("machine {machine}: the engine is inconsistent: {what}"))
    }

    fn census(&self) -> Result<Census, String> {
        let census = Census::take(self.cloud.objects(), self.failed.clone())?;
        match census.missing() {
            None => Ok(census),
            Some(missing) => Err(format!("{missing} is missing, which every opening needs")),
        }
    }

    /// How many objects the next opening has to remove. What it needs must be there.
    pub(super) fn look_for_strays(&self) -> Result<usize, String> {
        if self.loses_objects() {
            return Ok(0);
        }
        self.census().map(|census| census.strays())
    }

    /// What a process has left in the store that has just made a checkpoint, and nothing since, in a
    /// store that works. `served` is when it came to serve.
    pub(super) fn count_what_is_there(
        &self,
        process: &Process,
        served: Turn,
    ) -> Result<(), String> {
        let listed = self.cloud.last_list(process.group);
        let contract = self.settings.contract;
        if contract.breach.is_some() || !contract.list_lag.is_zero() {
            return Ok(());
        }
        // Where it had to fall back to an older checkpoint it does not look, and removes nothing.
        let Some(listed) = listed.filter(|listed| *listed > served) else {
            return Ok(());
        };
        let census = self.census()?;
        self.counts.lock().censuses += 1;
        let mut unexplained = census.unexplained();
        // What others sent arrived after it looked.
        match unexplained.find(|(_, stored)| stored.by == process.group || stored.at < listed) {
            None => Ok(()),
            Some((name, _)) => Err(format!("nothing explains that {name} is in the store")),
        }
    }

    /// The last lives: in a world in which nothing fails any more, all that was ever flushed is there,
    /// can be written to and closed, is there again, and the store has nothing else.
    pub(super) async fn end_well(&mut self) -> Result<(), String> {
        self.lay_ghost();
        self.executor.sleep(SETTLED).await;
        self.counts.lock().strays += self.look_for_strays()? as u64;
        let machine = self.owner.unwrap_or(0);
        for _ in 0..2 {
            let process = self.live_well(machine).await?;
            self.executor.sleep(SETTLED).await;
            self.end_machine(machine, process);
            self.counts.lock().censuses += 1;
            let census = self.census()?;
            let unexplained: Vec<&str> = census.unexplained().map(|(name, _)| name).collect();
            if !unexplained.is_empty() {
                return Err(format!(
                    "nothing explains that {unexplained:?} are in the store"
                ));
            }
        }
        Ok(())
    }

    /// A life in which nothing fails: an opening, a write, a checkpoint and a close.
    async fn live_well(&mut self, machine: usize) -> Result<Process, String> {
        let plan = Plan {
            end: End::Quiet,
            mood: Mood::GOOD,
            disk: Condition::Sound,
            log: LogSize::Drawn,
        };
        let process = self.start(machine, plan);
        let (volume, options) = match self.open(machine, &process).await? {
            Opening::Served(volume, options) => (volume, options),
            Opening::Failed(error) => {
                return Err(format!(
                    "nothing fails, and the volume does not open: {error}"
                ));
            }
            Opening::Crashed | Opening::Stalled => {
                return Err("nothing fails, and the process stopped".to_owned());
            }
        };
        let client = self.client(&process, volume, &options);
        let work = async {
            if !client.write(0, 8).await {
                return Err("nothing fails, and a write does".to_owned());
            }
            let asked = self.history.lock().tick();
            let closed = async {
                client.volume.checkpoint_async().await?;
                client.volume.close_async().await
            };
            closed.await.map_err(|error: lsvd::Error| {
                format!("nothing fails, and the volume does not close: {error}")
            })?;
            client.note_stored(asked);
            Ok(())
        };
        match self.until(process.group, work).await {
            Came::Done(Ok(())) => {}
            Came::Done(Err(what)) => return Err(what),
            Came::Stopped(_) | Came::Late => return Err("the last close never ends".to_owned()),
        }
        self.check(machine, &client.volume)?;
        Ok(process)
    }
}
