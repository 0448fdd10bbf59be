//! Bringing the parts of a write into a form that the disk takes, with as few copies as can be.

use std::io::IoSlice;

use super::access::Access;
use super::aligned::AlignedBuffer;
use crate::doors::disk::DiskWrite;

/// The parts of one write in units that can be written as they are: those that are aligned, and a
/// copy of those that are not.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pieces: Vec<Piece<'a>>,
    copied: AlignedBuffer,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    AsIs(&'a [u8]),
    /// The next so many bytes of what was copied.
    Copied(usize),
}

impl<'a> Gathered<'a> {
    /// The length of the write is a multiple of the unit.
    pub(super) fn new(write: &'a DiskWrite, access: Access) -> Self {
        let mut pieces = Vec::with_capacity(write.parts.len());
        for_each_piece(write, access, |bytes, takes| {
            match (takes, pieces.last_mut()) {
                (Takes::AsIs, _) => pieces.push(Piece::AsIs(bytes)),
                (Takes::Copy, Some(Piece::Copied(len))) => *len += bytes.len(),
                (Takes::Copy, _) => pieces.push(Piece::Copied(bytes.len())),
            }
        });
        let copied_len = |piece: &Piece<'_>| match piece {
            Piece::AsIs(_) => 0,
            Piece::Copied(len) => *len,
        };
        let len = pieces.iter().map(copied_len).sum();
        let mut copied = AlignedBuffer::zeroed(len, access.memory);
        let mut room = copied.bytes_mut();
        for_each_piece(write, access, |bytes, takes| {
            if takes == Takes::Copy
                && let Some((target, rest)) =
                    std::mem::take(&mut room).split_at_mut_checked(bytes.len())
            {
                target.copy_from_slice(bytes);
                room = rest;
            }
        });
        Self { pieces, copied }
    }

    /// The write as the kernel takes it.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut copied = self.copied.bytes();
        let slices = self.pieces.iter().map(|piece| match piece {
            Piece::AsIs(bytes) => IoSlice::new(bytes),
            Piece::Copied(len) => {
                let (bytes, rest) = copied.split_at(*len);
                copied = rest;
                IoSlice::new(bytes)
            }
        });
        slices.collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    AsIs,
    Copy,
}

/// Cuts the parts into what is written as it is and what is copied. A copied stretch starts and ends
/// at a multiple of the unit, so all addresses and lengths come out aligned.
fn for_each_piece<'a>(
    write: &'a DiskWrite,
    access: Access,
    mut piece: impl FnMut(&'a [u8], Takes),
) {
    // Bytes since the last multiple of the unit.
    let mut over = 0;
    for part in &write.parts {
        let aligned = over == 0 && part.as_ptr().addr().is_multiple_of(access.memory);
        let whole = if aligned {
            part.len() - part.len() % access.unit
        } else {
            0
        };
        let (as_is, copy) = part.split_at(whole);
        if !as_is.is_empty() {
            piece(as_is, Takes::AsIs);
        }
        if !copy.is_empty() {
            piece(copy, Takes::Copy);
        }
        over = (over + part.len()) % access.unit;
    }
}
