//! What is written into a sector, and what a sector that was read back shows.
//!
//! Every sector of a write says whose it is: the run's seed, the write's number, its own address;
//! a checksum at its end covers all of it. So a sector read back is a write's, or zeroes, or
//! neither, and then it says what is wrong with it.

use std::fmt;
use std::mem::size_of;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

const MAGIC: [u8; 8] = *b"LSVDjudg";

/// Bytes of a number.
const WORD: usize = size_of::<u64>();

/// Where magic, seed, number and address end and the filling begins.
const HEADER: usize = 4 * WORD;

/// Where the checksum is.
const CRC: usize = SECTOR - size_of::<u32>();

/// The number of a change: its round, connection and place in the connection's requests. The seed
/// decides what a number means, whatever the order in which requests come to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(u64);

impl Number {
    /// Bits of the place in a connection's requests.
    const INDEX_BITS: u32 = 28;
    /// Bits of the connection.
    const CONNECTION_BITS: u32 = 12;

    /// The rounds that a run can have: the highest bit stays free for [`Content`].
    pub(super) const ROUNDS_MAX: u32 = (1 << 23) - 1;

    /// `None` when a connection has made more requests than a number can count.
    pub(super) fn new(round: u32, connection: u16, index: u32) -> Option<Self> {
        debug_assert!((1..=Self::ROUNDS_MAX).contains(&round));
        debug_assert!(u32::from(connection) >> Self::CONNECTION_BITS == 0);
        (index >> Self::INDEX_BITS == 0).then(|| {
            let above = (u64::from(round) << Self::CONNECTION_BITS) | u64::from(connection);
            Self((above << Self::INDEX_BITS) | u64::from(index))
        })
    }

    pub(super) const fn is_odd(self) -> bool {
        self.0 & 1 == 1
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.0 & ((1 << Self::INDEX_BITS) - 1);
        let above = self.0 >> Self::INDEX_BITS;
        let connection = above & ((1 << Self::CONNECTION_BITS) - 1);
        let round = above >> Self::CONNECTION_BITS;
        write!(f, "{round}.{connection}.{index}")
    }
}

/// What a sector shows, in eight bytes: two sectors with the same content compare equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Content(u64);

/// A content's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// Nothing but zero bytes.
    Zeroes,
    /// This write's, of this run, at its own address.
    Write(Number),
    /// Whole, but of another address: a write that went astray.
    Misplaced,
    /// Whole and in its place, but of another run.
    OtherRun,
    /// Anything else: parts of several contents, or nothing of ours.
    Damaged,
}

/// The highest bit marks what is neither zeroes nor a write's.
const STRANGE: u64 = 1 << 63;
const MISPLACED: u64 = STRANGE | (1 << 61);
const OTHER_RUN: u64 = STRANGE | (2 << 61);
const KIND: u64 = 3 << 61;

impl Content {
    pub(super) const ZEROES: Self = Self(0);

    #[cfg(test)]
    pub(super) const fn of(number: Number) -> Self {
        Self(number.0)
    }

    /// What a sector shows that was read at `address`.
    pub(super) fn read(bytes: &[u8], seed: u64, address: u64) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::ZEROES;
        }
        let word = |index: usize| {
            let word = bytes.get(index * WORD..).and_then(<[u8]>::first_chunk);
            word.copied().map_or(0, u64::from_le_bytes)
        };
        let crc = bytes.get(CRC..).and_then(<[u8]>::first_chunk);
        let crc = crc.copied().map_or(0, u32::from_le_bytes);
        let body = &bytes[..CRC.min(bytes.len())];
        // What is strange stays comparable: a sector that was damaged before is not damaged anew.
        let fingerprint = (u64::from(crc32c::crc32c(body)) << 28) ^ u64::from(crc);
        let fingerprint = fingerprint & !(STRANGE | KIND);
        if bytes.len() != SECTOR || bytes[..WORD] != MAGIC || crc32c::crc32c(body) != crc {
            return Self(STRANGE | fingerprint);
        }
        if word(3) != address {
            if word(1) == seed {
                // Which write's it is tells how it came here.
                let number = Number(word(2));
                tracing::warn!(address, of = word(3), write = %number, "a sector went astray");
            }
            return Self(MISPLACED | fingerprint);
        }
        let number = word(2);
        if word(1) != seed || number == 0 || number & STRANGE != 0 {
            return Self(OTHER_RUN | fingerprint);
        }
        Self(number)
    }

    pub(super) const fn shows(self) -> Shows {
        if self.0 == 0 {
            return Shows::Zeroes;
        }
        if self.0 & STRANGE == 0 {
            return Shows::Write(Number(self.0));
        }
        match self.0 & (STRANGE | KIND) {
            MISPLACED => Shows::Misplaced,
            OTHER_RUN => Shows::OtherRun,
            _ => Shows::Damaged,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shows() {
            Shows::Zeroes => f.write_str("zeroes"),
            Shows::Write(number) => write!(f, "write {number}"),
            Shows::Misplaced => f.write_str("a sector of another address"),
            Shows::OtherRun => f.write_str("a sector of another run"),
            Shows::Damaged => f.write_str("bytes that no write had"),
        }
    }
}

/// The data of a write that begins at sector `first`.
pub(super) fn data(number: Number, seed: u64, first: u64, sectors: usize) -> Vec<u8> {
    let mut bytes = vec![0; sectors * SECTOR];
    for (address, sector) in (first..).zip(bytes.chunks_exact_mut(SECTOR)) {
        fill(sector, number, seed, address);
    }
    bytes
}

fn fill(sector: &mut [u8], number: Number, seed: u64, address: u64) {
    let (body, crc) = sector.split_at_mut(CRC);
    let (header, filling) = body.split_at_mut(HEADER);
    let words = [u64::from_le_bytes(MAGIC), seed, number.0, address];
    for (place, word) in header.chunks_exact_mut(WORD).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    // Differs from word to word and from sector to sector, so that no two pieces pass for each
    // other under one checksum.
    let mut word = seed ^ number.0.rotate_left(32) ^ address;
    for place in filling.chunks_mut(WORD) {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        place.copy_from_slice(&word.to_le_bytes()[..place.len()]);
    }
    crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn number(index: u32) -> Number {
        Number::new(3, 5, index).unwrap()
    }

    #[test]
    fn a_sector_says_whose_it_is() {
        let bytes = data(number(9), SEED, 100, 4);
        for (address, sector) in (100..).zip(bytes.chunks(SECTOR)) {
            let content = Content::read(sector, SEED, address);
            assert_eq!(content, Content::of(number(9)));
            assert_eq!(content.shows(), Shows::Write(number(9)));
            let read = |address, seed| Content::read(sector, seed, address).shows();
            assert_eq!(read(address + 1, SEED), Shows::Misplaced);
            assert_eq!(read(address, SEED + 1), Shows::OtherRun);
        }
        assert_eq!(Content::read(&[0; SECTOR], SEED, 1), Content::ZEROES);
        assert_eq!(number(9).to_string(), "3.5.9");
        assert_eq!(Number::new(1, 0, 1 << 28), None);
    }

    #[test]
    fn every_flipped_bit_and_every_torn_sector_is_damage() {
        let (old, new) = (data(number(1), SEED, 8, 1), data(number(2), SEED, 8, 1));
        for bit in 0..SECTOR * 8 {
            let mut sector = new.clone();
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Content::read(&sector, SEED, 8).shows(), Shows::Damaged);
        }
        for cut in 1..SECTOR {
            for (head, tail) in [(&old, &new), (&new, &old)] {
                let torn = [&head[..cut], &tail[cut..]].concat();
                let shows = Content::read(&torn, SEED, 8).shows();
                // Before the number both are the same, and so the cut is no cut.
                let whole = torn == old || torn == new;
                assert_eq!(shows == Shows::Damaged, !whole, "cut at {cut}");
            }
            let torn = [&new[..cut], &[0; SECTOR][cut..]].concat();
            assert_eq!(Content::read(&torn, SEED, 8).shows(), Shows::Damaged);
        }
    }
}
