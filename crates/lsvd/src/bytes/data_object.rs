//! The data object: what a batch becomes in the store. `docs/format.md` has the byte table.
//!
//! A header with the entry list, and behind it the data area in blocks of 4 KiB, each followed by
//! its checksum, so that a ranged read gets both with one request.

use std::ops::Range;

use super::block::{BLOCK_BYTES, Place, STORED_BLOCK_BYTES};
use super::entry::{ENTRY_BYTES, Entry, have_their_data};
use super::object_header::{FIXED_HEADER_BYTES, ObjectError, ObjectHeader};
use crate::words::limits::OBJECT_BYTES_MAX;
use crate::words::name::{ObjectId, ObjectKind, ObjectName, VolumeUuid};
use crate::words::units::{DataOffset, SECTOR_BYTES};

/// Most entries of an object: as many as the largest data area has sectors.
pub const ENTRIES_MAX: usize = (OBJECT_BYTES_MAX / SECTOR_BYTES) as usize;

/// Everything about a data object but its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The volume it belongs to.
    pub volume: VolumeUuid,
    /// Its id, and so its name.
    pub id: ObjectId,
    /// The data object before it in the stream.
    pub predecessor: Option<ObjectId>,
    /// Random bits that tell this very object from any other under the same name.
    pub write_id: u128,
    /// When its upload began: nanoseconds since the Unix epoch, for people.
    pub wall_time_ns: u64,
    /// The last data object known to be persisted when its upload began.
    pub persisted: Option<ObjectId>,
    /// Bytes of the data area that are in use, a multiple of 512.
    pub data_len: u64,
    /// What clients did, in order.
    pub entries: Vec<Entry>,
}

impl DataHeader {
    /// Name of the object.
    #[must_use]
    pub const fn name(&self) -> ObjectName {
        ObjectName::data(self.id)
    }

    /// Sectors of the data area that are in use.
    #[must_use]
    pub fn data_sectors(&self) -> u32 {
        // No header is written or read with more data than an object can hold.
        u32::try_from(self.data_len / SECTOR_BYTES).unwrap_or(u32::MAX)
    }

    /// Where the parts of the object lie.
    ///
    /// # Errors
    /// When there are more entries, or more data, than an object can hold.
    pub fn layout(&self) -> Result<Layout, ObjectError> {
        Layout::new(self.entries.len(), self.data_len)
    }

    /// The bytes of the header.
    ///
    /// # Errors
    /// When there are more entries, or more data, than an object can hold.
    pub fn encode(&self) -> Result<Vec<u8>, ObjectError> {
        self.layout()?;
        let entry_count = u32::try_from(self.entries.len()).map_err(|_| ObjectError::Entries)?;
        let header = ObjectHeader {
            name: self.name(),
            volume: self.volume,
            predecessor: self.predecessor,
            write_id: self.write_id,
            wall_time_ns: self.wall_time_ns,
            persisted: self.persisted,
            data_len: self.data_len,
            entry_count,
        };
        let entries: Vec<u8> = self.entries.iter().flat_map(Entry::encode).collect();
        header.encode(&entries)
    }

    /// Reads a header back from the first bytes of an object; `bytes` may go on behind it.
    ///
    /// # Errors
    /// What does not check. [`ObjectError::Truncated`] says how many bytes it needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, ObjectError> {
        let header_len = Self::len_of(bytes)?;
        let (header, entries) = ObjectHeader::decode(bytes, header_len, ObjectKind::Data)?;
        let this = Self {
            volume: header.volume,
            id: header.name.id,
            predecessor: header.predecessor,
            write_id: header.write_id,
            wall_time_ns: header.wall_time_ns,
            persisted: header.persisted,
            data_len: header.data_len,
            entries: decode_entries(entries)?,
        };
        this.check_entries()?;
        Ok(this)
    }

    /// Whether it is the header of this object of this volume.
    ///
    /// # Errors
    /// [`ObjectError::Identity`] where it belongs somewhere else.
    pub fn check_identity(&self, volume: VolumeUuid, name: ObjectName) -> Result<(), ObjectError> {
        if self.volume == volume && self.name() == name {
            Ok(())
        } else {
            Err(ObjectError::Identity {
                volume: self.volume,
                name: self.name(),
            })
        }
    }

    /// Reads a whole object: its header, its exact length and the checksum of every block.
    ///
    /// # Errors
    /// What does not check.
    pub fn decode_object(bytes: &[u8]) -> Result<Self, ObjectError> {
        let this = Self::decode(bytes)?;
        let layout = this.layout()?;
        if bytes.len() as u64 != layout.object_len() {
            return Err(ObjectError::ObjectLength {
                expected: layout.object_len(),
                found: bytes.len() as u64,
            });
        }
        let place = Place::of(this.volume, this.name());
        let blocks = bytes[layout.header_len() as usize..].chunks(STORED_BLOCK_BYTES);
        for (number, block) in (0..).zip(blocks) {
            if place.verify(number, block).is_none() {
                return Err(ObjectError::Block(number));
            }
        }
        Ok(this)
    }

    /// Reads the length of the whole header, in bytes, from its fixed part.
    ///
    /// # Errors
    /// [`ObjectError::Truncated`] where the fixed part is not all there; else what is wrong.
    pub fn len_of(bytes: &[u8]) -> Result<usize, ObjectError> {
        let claimed = ObjectHeader::claimed_lengths(bytes)?;
        let layout = Layout::new(claimed.entry_count as usize, claimed.data_len)?;
        if claimed.header_len != layout.header_len {
            return Err(ObjectError::Length);
        }
        Ok(layout.header_len as usize)
    }

    fn check_entries(&self) -> Result<(), ObjectError> {
        let sectors = 0..self.data_len / SECTOR_BYTES;
        match have_their_data(&self.entries, sectors) {
            true => Ok(()),
            false => Err(ObjectError::Entries),
        }
    }
}

fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, ObjectError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(ObjectError::Entries);
    }
    entries
        .iter()
        .map(|entry| Entry::decode(entry).ok_or(ObjectError::Entries))
        .collect()
}

/// Where the parts of a data object lie, all in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    header_len: u32,
    block_count: u32,
}

impl Layout {
    /// The layout of an object with so many entries and so many bytes of data.
    ///
    /// # Errors
    /// When an object cannot hold as much.
    pub fn new(entry_count: usize, data_len: u64) -> Result<Self, ObjectError> {
        if entry_count > ENTRIES_MAX {
            return Err(ObjectError::Entries);
        }
        if data_len > OBJECT_BYTES_MAX || !data_len.is_multiple_of(SECTOR_BYTES) {
            return Err(ObjectError::DataLength(data_len));
        }
        let header_len = u32::try_from(FIXED_HEADER_BYTES + entry_count * ENTRY_BYTES)
            .map_err(|_| ObjectError::Entries)?;
        let block_count = u32::try_from(data_len.div_ceil(BLOCK_BYTES as u64))
            .map_err(|_| ObjectError::DataLength(data_len))?;
        Ok(Self {
            header_len,
            block_count,
        })
    }

    /// Length of the header, and so the start of the data area.
    #[must_use]
    pub const fn header_len(&self) -> u32 {
        self.header_len
    }

    /// Number of blocks in the data area.
    #[must_use]
    pub const fn block_count(&self) -> u32 {
        self.block_count
    }

    /// Length of the whole object.
    #[must_use]
    pub const fn object_len(&self) -> u64 {
        self.header_len as u64 + self.block_count as u64 * STORED_BLOCK_BYTES as u64
    }
}

/// The stored blocks that hold a run of sectors of a data area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpan {
    /// Number of the first block.
    pub first_block: u32,
    /// Number of blocks.
    pub block_count: u32,
    /// Where the wanted bytes lie in the blocks' data, checksums not counted.
    pub data: Range<usize>,
}

impl BlockSpan {
    /// The blocks of `bytes` bytes from `offset` on.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a span is part of an object's 64 MiB"
    )]
    pub fn new(offset: DataOffset, bytes: usize) -> Self {
        let block = BLOCK_BYTES as u64;
        let start = offset.bytes();
        let end = start + bytes as u64;
        let first_block = (start / block) as u32;
        let skip = (start % block) as usize;
        let block_count = end.div_ceil(block) as u32 - first_block;
        Self {
            first_block,
            block_count,
            data: skip..skip + bytes,
        }
    }

    /// Bytes of the blocks with their checksums.
    #[must_use]
    pub const fn stored_len(&self) -> usize {
        self.block_count as usize * STORED_BLOCK_BYTES
    }

    /// Where they lie in an object whose header is `header_len` bytes long.
    #[must_use]
    pub fn stored_range(&self, header_len: u32) -> Range<u64> {
        let start = u64::from(header_len) + u64::from(self.first_block) * STORED_BLOCK_BYTES as u64;
        start..start + self.stored_len() as u64
    }

    /// Checks the stored blocks and copies the wanted bytes out of them.
    ///
    /// # Errors
    /// The number of the first block that does not check; `out` is then undefined.
    pub fn extract(&self, place: Place, stored: &[u8], out: &mut [u8]) -> Result<(), u32> {
        let mut out = out;
        let mut skip = self.data.start;
        for (block, stored) in (self.first_block..).zip(stored.chunks(STORED_BLOCK_BYTES)) {
            let data = place.verify(block, stored).ok_or(block)?;
            let wanted = data.get(skip..).unwrap_or_default();
            let (now, rest) = out.split_at_mut(wanted.len().min(out.len()));
            now.copy_from_slice(&wanted[..now.len()]);
            out = rest;
            skip = 0;
        }
        if out.is_empty() {
            Ok(())
        } else {
            Err(self.first_block + self.block_count)
        }
    }
}

#[cfg(test)]
mod tests;
