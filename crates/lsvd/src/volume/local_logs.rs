//! The write logs in a directory of this machine, beside the life of a volume: what is looked at before
//! one is made, and what goes when one is removed.

use super::Volume;
use super::found_log::of_another_volume;
use crate::doors::disk::LocalDisk;
use crate::parts::write_log::{self, WriteLog};
use crate::sync::block_on;
use crate::words::error::Result;
use crate::words::name::VolumeUuid;

impl Volume {
    /// Whether a volume that is about to be made could have its write log in `disk`. To be asked
    /// before, so that a refusal leaves no volume behind. Changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`](crate::ErrorKind::NotEmpty) where another volume has its log there,
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) where a log is that cannot be read, and what
    /// the disk says.
    pub async fn refuse_log_async(disk: &dyn LocalDisk) -> Result<()> {
        match WriteLog::open(disk).await? {
            None => Ok(()),
            Some(log) => Err(of_another_volume(&log)),
        }
    }

    /// Removes the write logs of `volume`, which is removed itself, from `disk`, durably: those that
    /// were set aside as well. Logs of other volumes stay, and so does whatever else is there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_logs(disk: &dyn LocalDisk, volume: VolumeUuid) -> Result<()> {
        block_on(write_log::remove_all(disk, volume))
    }
}
