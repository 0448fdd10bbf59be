//! Stores that do not keep a second writer out are refused before they are used.

use super::World;
use super::hardware::Condition;
use super::life::{End, Plan};
use super::opening::Came;
use super::settings::LogSize;
use super::{Ending, Settings};
use crate::cloud::{Breach, Mood};

impl World {
    /// Makes a volume in a store that breaks its contract, where nobody says that it is to be used all
    /// the same; whether it is there. One that overwrites is always refused: when the volume is made,
    /// and where it was made otherwise, when it is opened for the first time.
    pub(super) async fn is_there_where_it_may_be_refused(&mut self) -> Result<bool, String> {
        let always = self.settings.contract.breach == Some(Breach::Overwrites);
        match self.create(false).await {
            Ok(()) if always => return Err("a store that overwrites was not refused".to_owned()),
            Ok(()) => return Ok(true),
            Err(error) if always && !is_refusal(&error) => {
                return Err(format!("a store that overwrites was not refused: {error}"));
            }
            Err(_) => self.count_breach(Ending::Refused),
        }
        if always {
            let created = self.create(true).await;
            created.map_err(|error| error.to_string())?;
            self.be_refused_at_the_first_opening().await?;
        }
        Ok(false)
    }

    async fn be_refused_at_the_first_opening(&mut self) -> Result<(), String> {
        let plan = Plan {
            end: End::Quiet,
            mood: Mood::GOOD,
            disk: Condition::Sound,
            log: LogSize::Drawn,
        };
        let process = self.start(0, plan);
        let settings = Settings {
            unsafe_no_fencing: false,
            ..self.settings
        };
        let options = settings.open(&mut self.random, 0, true, self.segments);
        let opening = self.start_opening(0, &process, &options)?;
        match self.until(process.group, opening).await {
            Came::Done(Err(error)) if is_refusal(&error) => self.count_breach(Ending::Refused),
            Came::Done(Err(error)) => {
                return Err(format!("a store that overwrites was not refused: {error}"));
            }
            Came::Done(Ok(_)) => return Err("a store that overwrites was opened".to_owned()),
            Came::Stopped(_) | Came::Late => return Err("an opening never ends".to_owned()),
        }
        self.end_machine(0, process);
        Ok(())
    }
}

fn is_refusal(error: &lsvd::Error) -> bool {
    error.kind() == lsvd::ErrorKind::NotEmpty && error.to_string().contains("--unsafe-no-fencing")
}
