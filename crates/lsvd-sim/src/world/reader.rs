//! Somebody who opens the volume for reading only, beside its writer: what is there is a prefix, with
//! all that was stored when the opening began.

use std::sync::Arc;
use std::time::Duration;

use lsvd::Volume;
use lsvd::doors::runtime::Runtime;
use parking_lot::Mutex;

use super::life::Process;
use super::settings::index;
use super::{Counts, World};
use crate::cloud::{Line, Mood};
use crate::history::{History, SECTOR};
use crate::points::Points;

/// Who reads, and what he has to do with.
struct Reader {
    store: Line,
    runtime: Arc<dyn Runtime>,
    history: Arc<Mutex<History>>,
    wrong: Arc<Mutex<Option<String>>>,
    counts: Arc<Mutex<Counts>>,
    sectors: u64,
}

impl World {
    /// Starts one, who lives no longer than the machine of the writer.
    pub(super) fn start_reader(&mut self, process: &Process) {
        let seed = self.random.bits();
        let points = Points::default();
        let reader = Reader {
            store: self.cloud.line(process.hardware, Mood::GOOD, seed, points),
            runtime: self.executor.runtime(process.hardware),
            history: Arc::clone(&self.history),
            wrong: Arc::clone(&self.wrong),
            counts: Arc::clone(&self.counts),
            sectors: self.settings.sectors,
        };
        let pause = Duration::from_millis(self.random.below(200));
        let executor = self.executor.clone();
        let reading = async move {
            executor.sleep(pause).await;
            if let Err(what) = reader.read().await {
                reader.wrong.lock().get_or_insert(what);
            }
        };
        self.executor.spawn(process.hardware, Box::pin(reading));
    }
}

impl Reader {
    async fn read(&self) -> Result<(), String> {
        let (line, stored) = {
            let history = self.history.lock();
            (history.line(), history.stored())
        };
        let found = self.image().await;
        let history = self.history.lock();
        if history.line() != line {
            // Whoever took over has removed what he found.
            return Ok(());
        }
        let wrong = |what| format!("a reader beside the writer: {what}");
        let found = found.map_err(|error| wrong(error.to_string()))?;
        self.counts.lock().readers += 1;
        history.check_image(&found, &stored).map_err(wrong)
    }

    async fn image(&self) -> lsvd::Result<Vec<u8>> {
        let (store, runtime) = (Arc::new(self.store.clone()), Arc::clone(&self.runtime));
        let volume = Volume::open_read_only_async(store, runtime).await?;
        let mut found = vec![0xee; index(self.sectors) * SECTOR];
        volume.read_async(0, &mut found).await?;
        Ok(found)
    }
}
