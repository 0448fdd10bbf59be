//! Reading back what left memory, for readers and for the uploader.

use futures_util::stream::{FuturesOrdered, StreamExt};

use super::WriteLog;
use crate::bytes::block::BLOCK_BYTES;
use crate::bytes::log::{BadData, scan};
use crate::state::batch::{Batch, BufferPool};
use crate::state::logged::LoggedBatch;
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::name::ObjectName;
use crate::words::units::{DataOffset, SECTOR};

impl WriteLog {
    /// Fills `out` with the data of `batch` from `offset` on, and verifies it.
    pub(crate) async fn read(
        &self,
        batch: &LoggedBatch,
        offset: DataOffset,
        out: &mut [u8],
    ) -> Result<()> {
        let (first_block, skip, runs) = batch.runs(offset, out.len());
        let segment = batch.segment().index();
        let unit = self.header.block_bytes;
        let mut reads: FuturesOrdered<_> = runs
            .iter()
            .map(|run| async move {
                let at = u32::try_from(run.at).unwrap_or(u32::MAX);
                let len = u32::try_from(run.len).unwrap_or(u32::MAX);
                let read = self.read_segment(segment, at, len.next_multiple_of(unit));
                read.await.map(|bytes| bytes.slice(..run.len))
            })
            .collect();
        let mut blocks = Vec::with_capacity(skip + out.len() + BLOCK_BYTES);
        while let Some(run) = reads.next().await {
            blocks.extend_from_slice(&run?);
        }
        // Behind the data the last block counts as zeroes.
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
        for (number, block) in (first_block..).zip(blocks.chunks(BLOCK_BYTES)) {
            if !batch.verifies(number, block) {
                return Err(self.damaged(batch, number));
            }
        }
        match blocks.get(skip..skip + out.len()) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => Err(self.damaged(batch, first_block)),
        }
    }

    /// The batch in memory again, as it was sealed.
    pub(crate) async fn restore(
        &self,
        logged: &LoggedBatch,
        pool: &Arc<BufferPool>,
    ) -> Result<Arc<Batch>> {
        let buffer = pool.returned().until(|| pool.try_take()).await;
        let segment = logged.segment();
        let bytes = self.read_segment(segment.index(), 0, logged.end()).await?;
        let scanned = scan(&bytes, &self.header, BadData::IsNoted);
        let scanned = scanned.filter(|scanned| scanned.batch == logged.id());
        let damaged = || self.damaged(logged, 0);
        let scanned = scanned.ok_or_else(damaged)?;
        let object = scanned.header.ok_or_else(damaged)?;
        for slice in &scanned.slices {
            let from = slice.data_at as usize;
            let data = bytes.get(from..from + slice.sectors as usize * SECTOR);
            let region = buffer.carve(slice.sectors).ok_or_else(damaged)?;
            region.fill(data.ok_or_else(damaged)?);
        }
        // The stream goes on, and whoever reads what was damaged is told.
        for block in scanned.bad_blocks {
            let error = self.damaged(logged, block);
            tracing::error!(%error, "stored as damaged");
            buffer.spoil(block);
        }
        let batch = Batch::restored(object, logged.slot(), Arc::clone(segment), buffer);
        Ok(Arc::new(batch))
    }

    fn damaged(&self, batch: &LoggedBatch, block: u32) -> Error {
        let message = format!(
            "the write log in {} is damaged: block {block} of batch {} (segment {}) does not match \
             its checksum",
            self.directory,
            ObjectName::data(batch.id()),
            batch.segment().index()
        );
        Error::new(ErrorKind::Damaged, message)
    }
}
