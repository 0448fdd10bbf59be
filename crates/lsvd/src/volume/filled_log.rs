//! A damaged log beside a store that has what is missing in it: the batches behind one that is not
//! stored yet, as several are sent at once.

use crate::bytes::superblock::EpochEnd;
use crate::parts::stream::{Stream, id_of};
use crate::parts::write_log::LogEnd;
use crate::words::error::Result;
use crate::words::name::{ObjectId, ObjectName};

/// Goes on with an object of the store wherever the log does not, and behind that with the log again.
/// `claimed` are the epochs as they were known before: what lies behind an end that was fixed is of no
/// stream.
///
/// Such an object is as durable as the log. To leave it out would be more than a loss: its name is
/// taken, so the part of its batch that the log has could never be stored.
pub(super) async fn fill(
    end: &mut LogEnd,
    stream: &Stream<'_>,
    claimed: &[EpochEnd],
) -> Result<()> {
    while let Some(wanted) = end.wanted() {
        let next = next_of(claimed, wanted.predecessor)?;
        let next = next.filter(|next| wanted.begun.is_none_or(|begun| begun == *next));
        let Some(id) = next else {
            return Ok(());
        };
        let Some(object) = stream.object(id, wanted.predecessor).await? else {
            return Ok(());
        };
        let name = ObjectName::data(id).to_string();
        tracing::warn!(
            name,
            "the write log is damaged where it has this batch: the object in the store is used"
        );
        if !end.take_stored(object) {
            return Ok(());
        }
    }
    Ok(())
}

/// The object that comes behind another in the stream.
fn next_of(claimed: &[EpochEnd], behind: Option<ObjectId>) -> Result<Option<ObjectId>> {
    let from = behind.map_or(0, |behind| behind.epoch().0);
    for epoch in claimed.iter().filter(|epoch| epoch.epoch >= from) {
        let sequence = match behind {
            Some(behind) if behind.epoch().0 == epoch.epoch => behind.sequence() + 1,
            _ => 0,
        };
        if epoch.objects.is_none_or(|objects| sequence < objects) {
            return id_of(epoch.epoch, sequence).map(Some);
        }
    }
    Ok(None)
}
