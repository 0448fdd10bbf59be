//! Checksums of data blocks: a CRC per 4 KiB, gathered piece by piece, bound to their place.
//!
//! Writes of any number of sectors land side by side in a block, from several threads and in any
//! order, and no byte is to be read a second time for its checksum. A CRC without its usual
//! start value is linear: the CRC of a block is the XOR of the CRCs of its pieces, each shifted by
//! the bytes that follow it in the block. So every writer XORs in its own piece, and bytes that
//! nobody wrote count as zeroes.
//!
//! It is not CRC32C: file systems and databases end their own blocks with that, and all data that
//! ends with its own CRC has one and the same CRC. A block of theirs that was lost, where an older or
//! another one of theirs lies now, would check.

use std::sync::LazyLock;

use crc_fast::{CrcAlgorithm, Digest};

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

/// The checksum of a whole block: the plain CRC-32/AUTOSAR of its 4096 bytes.
#[must_use]
pub fn checksum(contributions: u32) -> u32 {
    static OF_ZEROES: LazyLock<u32> = LazyLock::new(|| !linear(u32::MAX, &[0; BLOCK_BYTES]));
    contributions ^ *OF_ZEROES
}

/// The checksum of a whole block of data.
#[must_use]
pub fn checksum_of(block: &[u8]) -> u32 {
    debug_assert_eq!(block.len(), BLOCK_BYTES);
    checksum(linear(0, block))
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
        (self.bind(block, checksum_of(data)) == crc).then_some(data)
    }
}

/// CRC register after `data`, from `register` on, with neither start value nor final inversion.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the register of a CRC of 32 bits has no more"
)]
fn linear(register: u32, data: &[u8]) -> u32 {
    let algorithm = CrcAlgorithm::Crc32Autosar;
    let mut digest = Digest::new_with_init_state(algorithm, u64::from(register));
    digest.update(data);
    digest.get_state() as u32
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

    /// As the catalogue of CRCs has it: bit by bit.
    fn plain(data: &[u8]) -> u32 {
        const REVERSED_POLYNOMIAL: u32 = 0xF4AC_FB13_u32.reverse_bits();
        let mut register = u32::MAX;
        for byte in data {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = register & 1;
                register >>= 1;
                if carry == 1 {
                    register ^= REVERSED_POLYNOMIAL;
                }
            }
        }
        !register
    }

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        assert_eq!(plain(b"123456789"), 0x1697_D06A);
    }

    /// Blocks that end with a CRC of their own, as file systems and databases write them.
    #[test]
    fn blocks_with_checksums_of_their_own_are_told_apart() {
        let sums: [fn(&[u8]) -> u32; 3] = [
            crc32c::crc32c,
            |data| !crc32c::crc32c(data),
            |data| !crc32c::crc32c_append(!0x1234_5678, data),
        ];
        for sum in sums {
            for bytes in [SECTOR, BLOCK_BYTES] {
                let of = |byte: u8| {
                    let mut block = vec![byte; BLOCK_BYTES];
                    for unit in block.chunks_mut(bytes) {
                        let (data, own) = unit.split_at_mut(bytes - 4);
                        own.copy_from_slice(&sum(data).to_le_bytes());
                    }
                    checksum_of(&block)
                };
                assert_ne!(of(1), of(2));
            }
        }
    }

    #[test]
    fn pieces_in_any_order_give_the_checksum_of_the_whole() {
        let block = pattern();
        let cuts = [0, 512, 2048, 3584, 4096];
        let mut sum = 0;
        for pair in cuts.windows(2).rev() {
            sum ^= contribution(pair[0], &block[pair[0]..pair[1]]);
        }
        assert_eq!(checksum(sum), plain(&block));
        assert_eq!(checksum(contribution(0, &block)), plain(&block));
        assert_eq!(checksum_of(&block), plain(&block));
    }

    #[test]
    fn sectors_nobody_wrote_count_as_zeroes() {
        let mut block = pattern();
        block[..1024].fill(0);
        block[1536..].fill(0);
        assert_eq!(
            checksum(contribution(1024, &block[1024..1536])),
            plain(&block)
        );
        assert_eq!(checksum(0), plain(&[0; BLOCK_BYTES]));
    }

    #[test]
    fn a_block_of_another_place_does_not_check() {
        let uuid = VolumeUuid::from_u128(7);
        let place = |id| Place::of(uuid, ObjectName::data(ObjectId::from_u64(id)));
        let mut stored = pattern();
        let crc = place(1).bind(5, checksum_of(&stored));
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
