//! What an open volume is doing: what is at risk, and whether all is well.

use std::time::Duration;

use super::Volume;
use crate::words::error::Error;
use crate::words::name::{Epoch, ObjectId, VolumeUuid};
use crate::words::units::SECTOR_BYTES;

/// What an open volume is doing, at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The volume.
    pub uuid: VolumeUuid,
    /// Its size in bytes.
    pub size: u64,
    /// Size of an object's data area in bytes.
    pub object_size: u64,
    /// The epoch of this opening.
    pub epoch: Epoch,
    /// Bytes that were written and are not persisted: what is lost if the local disk is lost, too. One
    /// sector where that is discards and write-zeroes alone: 0 says that nothing is at risk.
    pub at_risk_bytes: u64,
    /// Age of the oldest of these.
    pub at_risk_since: Option<Duration>,
    /// Bytes of data that were written and are not durable: what a loss of power takes, besides
    /// discards and write-zeroes.
    pub not_durable_bytes: u64,
    /// Size of the write log in bytes.
    pub log_bytes: u64,
    /// Bytes of it that are in use.
    pub log_used_bytes: u64,
    /// Memory of the extent map in bytes.
    pub map_bytes: u64,
    /// Extents in it.
    pub map_extents: u64,
    /// The last data object that is persisted.
    pub persisted: Option<ObjectId>,
    /// When that was: time since the Unix epoch.
    pub persisted_at: Option<Duration>,
    /// Why flushes, or all requests, fail, if they do.
    pub error: Option<Error>,
    /// Whether another writer took over.
    pub fenced: bool,
}

impl Volume {
    /// What the volume is doing at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let oldest = shared.progress.oldest_at_risk(shared.runtime.now());
        let in_flight = shared.in_flight.bytes();
        let not_stored = in_flight.unstored + shared.progress.held_bytes();
        // What has no data counts as something: who waits for zero may rely on it.
        let at_least = oldest.map_or(0, |_| SECTOR_BYTES);
        // Behind what is at risk: where nothing is, no upload is told to be stuck.
        let log_error = shared.log.as_ref().and_then(|log| log.durable.error());
        let fence = shared.fence.as_ref();
        let fenced = fence.and_then(|fence| fence.refuse_fenced().err());
        let is_fenced = fenced.is_some();
        let error = fenced.or(log_error).or_else(|| shared.progress.error());
        let segments = shared
            .log
            .as_ref()
            .map_or((0, 0), |log| log.segments.usage());
        let segment_bytes = shared
            .log
            .as_ref()
            .map_or(0, |log| log.file.segment_bytes());
        Status {
            uuid: shared.uuid,
            size: self.size(),
            object_size: shared.pool.buffer_sectors() as u64 * SECTOR_BYTES,
            epoch: shared.epoch,
            at_risk_bytes: not_stored.max(at_least),
            at_risk_since: oldest.map(|(_, age)| age),
            not_durable_bytes: in_flight.unlogged,
            log_bytes: u64::from(segments.1) * u64::from(segment_bytes),
            log_used_bytes: u64::from(segments.0) * u64::from(segment_bytes),
            map_bytes: shared.map.memory_bytes(),
            map_extents: shared.map.extent_count(),
            persisted: shared.progress.persisted(),
            persisted_at: fence.and_then(|fence| fence.persisted_at()),
            fenced: is_fenced,
            error,
        }
    }
}
