//! Opening a volume for reading only, also beside a writer: the stream as it is found, no claim, and
//! nothing written anywhere.

use std::time::Duration;

use super::open::{Durability, FlushTarget, Work};
use super::recover::find;
use super::start::Start;
use super::{LastClone, Shared, Volume};
use crate::bytes::superblock::Superblock;
use crate::doors::runtime::Runtime;
use crate::doors::store::ObjectStore;
use crate::parts::checkpoint::CheckpointObjects;
use crate::parts::stream::Stream;
use crate::parts::superblocks::Superblocks;
use crate::state::progress::Persists;
use crate::sync::{Arc, block_on};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::READ_ONLY_ATTEMPTS_MAX;
use crate::words::name::Epoch;

impl Volume {
    /// Opens the volume in `store` as it is stored at this moment, and as it stays for as long as
    /// this is open. Nobody is fenced, nothing is written; every change is refused with
    /// [`ErrorKind::ReadOnly`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Damaged`], and what the store says.
    pub fn open_read_only(store: Arc<dyn ObjectStore>, runtime: Arc<dyn Runtime>) -> Result<Self> {
        block_on(Self::open_read_only_async(store, runtime))
    }

    /// [`open_read_only`](Self::open_read_only) for tasks.
    ///
    /// # Errors
    /// The same.
    pub async fn open_read_only_async(
        store: Arc<dyn ObjectStore>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self> {
        let superblocks = Superblocks::new(Arc::clone(&store), Arc::clone(&runtime));
        let start = as_stored(&superblocks, &store, &runtime).await?;
        let refusal = Error::new(
            ErrorKind::ReadOnly,
            format!("the volume in {} is open for reading only", store.url()),
        );
        let shared = Arc::new(Shared::new(store, runtime, start, NO_WORK));
        shared.batcher.fail(refusal);
        Ok(Self {
            _last: Arc::new(LastClone(Arc::clone(&shared))),
            shared,
        })
    }
}

/// Nothing is uploaded, so nothing waits for it.
const NO_WORK: Work = Work {
    window: 1,
    seal_timeout: Duration::ZERO,
    durability: Durability::WriteBack,
    flush: FlushTarget::Local,
    retry_timeout: Duration::ZERO,
};

/// Refuses a volume that cannot be read, in the way of a reader beside its writer.
pub(super) async fn refuse_unreadable(
    superblocks: &Superblocks,
    store: &Arc<dyn ObjectStore>,
    runtime: &Arc<dyn Runtime>,
) -> Result<()> {
    as_stored(superblocks, store, runtime).await.map(drop)
}

/// Map and object table as the store has them now. A writer may make checkpoints meanwhile and remove
/// those from which this began, so what is missing is damage only where no newer superblock is.
async fn as_stored(
    superblocks: &Superblocks,
    store: &Arc<dyn ObjectStore>,
    runtime: &Arc<dyn Runtime>,
) -> Result<Start> {
    let mut newest = find(superblocks, &**store).await?;
    for _ in 1..READ_ONLY_ATTEMPTS_MAX {
        let error = match roll_forward(store, runtime, &newest).await {
            Err(error) if error.kind() == ErrorKind::Damaged => error,
            rolled => return rolled,
        };
        let now = find(superblocks, &**store).await?;
        if now.number == newest.number {
            return Err(error);
        }
        tracing::info!(%error, "the writer went on meanwhile: begun again");
        newest = now;
    }
    roll_forward(store, runtime, &newest).await
}

/// Map and object table at the end of the stream as the store has it.
async fn roll_forward(
    store: &Arc<dyn ObjectStore>,
    runtime: &Arc<dyn Runtime>,
    newest: &Superblock,
) -> Result<Start> {
    let epochs = &newest.state.epochs;
    let epoch = Epoch(epochs.last().map_or(0, |last| last.epoch));
    let checkpoints = CheckpointObjects {
        store: Arc::clone(store),
        runtime: Arc::clone(runtime),
        volume: newest.volume,
        requests: Arc::default(),
        retry_timeout: Duration::ZERO,
    };
    let (mut start, kept) =
        Start::load(newest, epoch, Persists::WhenAnswered, &checkpoints).await?;
    let stream = Stream {
        store: &**store,
        runtime: &**runtime,
        volume: newest.volume,
        window: newest.state.window(),
        persisted: newest.persisted,
        growing: true,
    };
    let end = start.roll_forward(&stream, newest, epochs, &kept).await?;
    stream.refuse_damage(&end, epochs).await?;
    Ok(start)
}
