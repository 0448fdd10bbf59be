//! Checksums of data blocks: CRC32C per 4 KiB, gathered piece by piece, bound to their place.
//!
//! Writes of any number of sectors land side by side in a block, from several threads and in any
//! order, and no byte is to be read a second time for its checksum. A CRC without its usual
//! start value is linear: the CRC of a block is the XOR of the CRCs of its pieces, each shifted by
//! the bytes that follow it in the block. So every writer XORs in its own piece, and bytes that
//! nobody wrote count as zeroes.

use std::sync::LazyLock;

use crate::words::name::ObjectName;
use crate::words::name::VolumeUuid;
use crate::words::units::SECTOR;

/// Bytes of data under one checksum.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes of a checksum, stored directly behind its block.
pub const CRC_BYTES: usize = 4;

/// A block with its checksum as it lies in an object, in bytes.
pub const STORED_BLOCK_BYTES: usize = BLOCK_BYTES + CRC_BYTES;

const SECTORS_PER_BLOCK: usize = BLOCK_BYTES / SECTOR;

/// The part of a block's checksum that a piece of it contributes; contributions are XORed.
///
/// `start` is the piece's offset in the block; both it and the length are whole sectors.
#[must_use]
pub fn contribution(start: usize, piece: &[u8]) -> u32 {
    debug_assert!(start.is_multiple_of(SECTOR) && piece.len().is_multiple_of(SECTOR));
    debug_assert!(start + piece.len() <= BLOCK_BYTES);
    let sectors_behind = SECTORS_PER_BLOCK - (start + piece.len()) / SECTOR;
    shift(linear(0, piece), sectors_behind)
}

/// The checksum of a whole block: the plain CRC32C of its 4096 bytes.
#[must_use]
pub fn checksum(contributions: u32) -> u32 {
    static OF_ZEROES: LazyLock<u32> = LazyLock::new(|| crc32c::crc32c(&[0; BLOCK_BYTES]));
    contributions ^ *OF_ZEROES
}

/// Binds checksums to their place, so that a block which a store returns from another object or
/// another offset does not check.
#[derive(Clone, Copy, Debug)]
pub struct Place(u32);

impl Place {
    /// The place of an object's blocks.
    #[must_use]
    pub fn of(volume: VolumeUuid, name: ObjectName) -> Self {
        let seed = crc32c::crc32c(volume.as_bytes());
        let seed = crc32c::crc32c_append(seed, &[name.kind as u8]);
        Self(crc32c::crc32c_append(seed, &name.id.as_u64().to_le_bytes()))
    }

    /// What is stored for a block with this checksum, and the other way round.
    #[must_use]
    pub fn bind(self, block: u32, checksum: u32) -> u32 {
        checksum ^ crc32c::crc32c_append(self.0, &block.to_le_bytes())
    }

    /// Whether the stored form of block number `block` checks; `stored` is
    /// [`STORED_BLOCK_BYTES`] long. On success the data part.
    #[must_use]
    pub fn verify(self, block: u32, stored: &[u8]) -> Option<&[u8]> {
        let (data, crc) = stored.split_at_checked(BLOCK_BYTES)?;
        let crc = u32::from_le_bytes(crc.try_into().ok()?);
        (self.bind(block, crc32c::crc32c(data)) == crc).then_some(data)
    }
}

/// CRC register after `data`, from `register` on, with neither start value nor final inversion.
fn linear(register: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!register, data)
}

/// The register after `sectors` sectors of zeroes.
fn shift(register: u32, sectors: usize) -> u32 {
    /// For every number of sectors, what each bit of the register becomes.
    static BITS: LazyLock<[[u32; 32]; SECTORS_PER_BLOCK]> = LazyLock::new(|| {
        std::array::from_fn(|sectors| {
            std::array::from_fn(|bit| linear(1 << bit, &[0; BLOCK_BYTES][..sectors * SECTOR]))
        })
    });
    if sectors == 0 {
        return register;
    }
    BITS.get(sectors)
        .into_iter()
        .flatten()
        .enumerate()
        .fold(0, |sum, (bit, image)| {
            if register & (1 << bit) == 0 {
                sum
            } else {
                sum ^ image
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::ObjectId;

    fn pattern() -> Vec<u8> {
        (0..BLOCK_BYTES)
            .map(|i| u8::try_from(i * 31 % 251).unwrap())
            .collect()
    }

    #[test]
    fn pieces_in_any_order_give_the_checksum_of_the_whole() {
        let block = pattern();
        let cuts = [0, 512, 2048, 3584, 4096];
        let mut sum = 0;
        for pair in cuts.windows(2).rev() {
            sum ^= contribution(pair[0], &block[pair[0]..pair[1]]);
        }
        assert_eq!(checksum(sum), crc32c::crc32c(&block));
        assert_eq!(checksum(contribution(0, &block)), crc32c::crc32c(&block));
    }

    #[test]
    fn sectors_nobody_wrote_count_as_zeroes() {
        let mut block = pattern();
        block[..1024].fill(0);
        block[1536..].fill(0);
        assert_eq!(
            checksum(contribution(1024, &block[1024..1536])),
            crc32c::crc32c(&block)
        );
        assert_eq!(checksum(0), crc32c::crc32c(&[0; BLOCK_BYTES]));
    }

    #[test]
    fn a_block_of_another_place_does_not_check() {
        let uuid = VolumeUuid::from_u128(7);
        let place = |id| Place::of(uuid, ObjectName::data(ObjectId::from_u64(id)));
        let mut stored = pattern();
        let crc = place(1).bind(5, crc32c::crc32c(&stored));
        stored.extend_from_slice(&crc.to_le_bytes());
        assert!(place(1).verify(5, &stored).is_some());
        assert!(place(1).verify(6, &stored).is_none());
        assert!(place(2).verify(5, &stored).is_none());
        assert!(place(1).verify(5, &stored[1..]).is_none());
        for bit in 0..stored.len() * 8 {
            stored[bit / 8] ^= 1 << (bit % 8);
            assert!(place(1).verify(5, &stored).is_none(), "bit {bit} flipped");
            stored[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
