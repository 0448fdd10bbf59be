//! The claim of an opening: the superblock by which a writer takes the next epoch.

use super::recover::{OpenOptions, find};
use crate::bytes::superblock::{
    Change, CloseState, EpochEnd, GivenUp, LogPlace, Superblock, Writer,
};
use crate::doors::store::ObjectStore;
use crate::parts::superblocks::{Creation, Superblocks, overtaken};
use crate::parts::write_log::WriteLog;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::{EPOCHS_LEFT_WARNED, EPOCHS_LISTED_MAX};
use crate::words::name::{Epoch, ObjectId};

/// Claims the next epoch, and gives the superblock that was the newest before. The number may go to the
/// writer that is taken over, which does not know of it: what that says now is looked at anew.
pub(super) async fn claim(
    superblocks: &Superblocks,
    mut newest: Superblock,
    (log, is_own): (&WriteLog, bool),
    options: &OpenOptions,
    store: &dyn ObjectStore,
) -> Result<(Superblock, Epoch, Superblock)> {
    loop {
        let epoch = next_epoch(&newest, store)?;
        let mut state = newest.state.clone();
        state.change = Change::Claim;
        state.epochs = epochs_with_objects(&newest);
        state.epochs.push(open_epoch(epoch));
        state.writer = Some(Writer {
            epoch: epoch.0,
            machine: options.machine.clone(),
            log: Some(LogPlace {
                uuid: log.uuid(),
                path: log.directory().to_owned(),
            }),
            window: options.window.max(unclosed_window(&newest)),
            close: None,
            given_up: given_up(&newest, is_own),
        });
        let draft = superblocks.draft(newest.volume, Some(&newest), newest.persisted, state)?;
        let winner = match superblocks.create(&draft).await? {
            Creation::Ours(claim) => return Ok((newest, epoch, *claim)),
            Creation::Lost(winner) => *winner,
        };
        same_writer(winner, epoch, store)?;
        newest = same_writer(find(superblocks, store).await?, epoch, store)?;
    }
}

/// Refuses to go on behind another claim, or a tombstone.
fn same_writer(found: Superblock, next: Epoch, store: &dyn ObjectStore) -> Result<Superblock> {
    if found.state.next_epoch() == Some(next) {
        return Ok(found);
    }
    Err(overtaken(&store.url(), &found))
}

/// The log whose writer did not close it and that this claim does without. A claim behind which the
/// opening failed has told nobody yet.
fn given_up(newest: &Superblock, is_own: bool) -> Option<GivenUp> {
    let writer = newest.state.writer.as_ref()?;
    let told = newest.state.change != Change::Claim;
    let before = writer.given_up.clone().filter(|_| !told);
    if is_own || newest.state.is_closed() || before.is_some() {
        return before;
    }
    let log_bytes = match writer.close {
        Some(CloseState::Unclean { log_bytes }) => Some(log_bytes),
        _ => None,
    };
    Some(GivenUp {
        machine: writer.machine.clone(),
        log: writer.log.clone(),
        log_bytes,
    })
}

/// The epoch to claim. The last one that there is stays for the removal.
pub(super) fn next_epoch(newest: &Superblock, store: &dyn ObjectStore) -> Result<Epoch> {
    let full = |what: &str| {
        let message = format!(
            "{what} of the volume in {} are used up, so it cannot be opened for writing any more: \
             open it for reading only (--read-only), copy it to a new one, and remove it",
            store.url()
        );
        Error::new(ErrorKind::NoSpace, message)
    };
    let epoch = newest.state.next_epoch();
    let epoch = epoch.filter(|epoch| epoch.0 < ObjectId::EPOCH_MAX);
    let epoch = epoch.ok_or_else(|| full("the epochs"))?;
    let left = ObjectId::EPOCH_MAX - epoch.0;
    if left < EPOCHS_LEFT_WARNED {
        let volume = store.url();
        tracing::warn!(
            volume,
            left,
            "the volume can be opened for writing only so many times more: copy it to a new one"
        );
    }
    if newest.state.epochs.len() >= EPOCHS_LISTED_MAX {
        return Err(full("the rows for epochs in the superblock"));
    }
    Ok(epoch)
}

/// The epochs of the stream, without that of a claim which nothing followed: it has no objects and
/// never will. Nobody stores an object before the superblock that fixes the ends behind his claim, and
/// that would have the number which the next claim takes.
pub(super) fn epochs_with_objects(newest: &Superblock) -> Vec<EpochEnd> {
    let mut epochs = newest.state.epochs.clone();
    if newest.state.change == Change::Claim {
        epochs.pop();
    }
    epochs
}

/// The span of the uploads that the writers before may have had under way: a missing object may have
/// others so far behind it until all that came before is persisted, which a clean close says.
fn unclosed_window(newest: &Superblock) -> u32 {
    match newest.state.is_closed() {
        true => 1,
        false => newest.state.window(),
    }
}

pub(super) const fn open_epoch(epoch: Epoch) -> EpochEnd {
    EpochEnd {
        epoch: epoch.0,
        objects: None,
    }
}
