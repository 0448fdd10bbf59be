//! The first bytes of a log file: whose it is, and how it is cut into segments.

use uuid::Uuid;

use super::LogError;
use crate::bytes::fields::{array_at, checks, u16_at, u32_at};
use crate::words::name::VolumeUuid;

/// Bytes of the header, and of the copy behind it.
pub const FILE_HEADER_BYTES: usize = 4096;

/// The header is there twice, so that one damaged sector does not make a log unreadable.
pub const HEADER_COPIES: usize = 2;

/// Where the first segment begins, in bytes.
pub const SEGMENTS_AT: u64 = (FILE_HEADER_BYTES * HEADER_COPIES) as u64;

const MAGIC: [u8; 8] = *b"LSVDlg\r\n";
const VERSION: u16 = 1;
const CRC_AT: usize = 64;

/// What a log file says of itself; written once, when the log is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Identity of the log, which the claim of its writer names.
    pub log: Uuid,
    /// The volume that it belongs to.
    pub volume: VolumeUuid,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Number of segments.
    pub segments: u32,
    /// Unit of every write in bytes, 512 or 4096.
    pub block_bytes: u32,
}

impl FileHeader {
    /// Length of the whole file in bytes.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        SEGMENTS_AT + self.segment_bytes as u64 * self.segments as u64
    }

    /// Where a segment begins, in bytes.
    #[must_use]
    pub const fn segment_at(&self, segment: u32) -> u64 {
        SEGMENTS_AT + self.segment_bytes as u64 * segment as u64
    }

    /// The bytes of one copy.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log.as_bytes());
        bytes[32..48].copy_from_slice(self.volume.as_bytes());
        bytes[48..52].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.segments.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.block_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header from the first bytes of a log file, from either copy.
    ///
    /// # Errors
    /// What is wrong with the first copy, where none checks.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let mut copies = bytes.chunks(FILE_HEADER_BYTES).take(HEADER_COPIES);
        let first = Self::decode_copy(copies.next().unwrap_or_default());
        match first {
            Ok(header) => Ok(header),
            Err(error) => copies
                .find_map(|copy| Self::decode_copy(copy).ok())
                .ok_or(error),
        }
    }

    fn decode_copy(bytes: &[u8]) -> Result<Self, LogError> {
        let bytes: &[u8; FILE_HEADER_BYTES] = bytes.try_into().map_err(|_| LogError::Truncated)?;
        if bytes[0..8] != MAGIC {
            return Err(LogError::Magic);
        }
        let version = u16_at(bytes, 8..10);
        if version != VERSION {
            return Err(LogError::Version(version));
        }
        if !checks(bytes, CRC_AT..CRC_AT + 4) {
            return Err(LogError::Checksum);
        }
        let this = Self {
            log: Uuid::from_bytes(array_at(bytes, 16..32)),
            volume: Uuid::from_bytes(array_at(bytes, 32..48)),
            segment_bytes: u32_at(bytes, 48..52),
            segments: u32_at(bytes, 52..56),
            block_bytes: u32_at(bytes, 56..60),
        };
        if !matches!(this.block_bytes, 512 | 4096) {
            return Err(LogError::Field("block size"));
        }
        if this.segments == 0
            || this.segment_bytes < 4096
            || !this.segment_bytes.is_multiple_of(4096)
        {
            return Err(LogError::Field("segment size"));
        }
        Ok(this)
    }
}
