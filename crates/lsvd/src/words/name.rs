//! Object ids and the names of objects in a store.

use std::fmt;

/// Identity of a volume, written into everything that belongs to it.
pub type VolumeUuid = uuid::Uuid;

/// Number of one opening for writing; the upper 24 bits of an object id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// Number of an object in its kind: `epoch << 40 | sequence`.
///
/// Every open for writing takes the next epoch, so an id is never used twice, not even for
/// something that a crash dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(u64);

impl ObjectId {
    /// Bits of the sequence number inside an epoch.
    pub const SEQUENCE_BITS: u32 = 40;
    /// Largest sequence number.
    pub const SEQUENCE_MAX: u64 = (1 << Self::SEQUENCE_BITS) - 1;
    /// Largest epoch.
    pub const EPOCH_MAX: u32 = (1 << 24) - 1;

    /// The id with this epoch and sequence number, or nothing where one of them does not fit.
    #[must_use]
    pub fn new(epoch: Epoch, sequence: u64) -> Option<Self> {
        (epoch.0 <= Self::EPOCH_MAX && sequence <= Self::SEQUENCE_MAX)
            .then(|| Self(u64::from(epoch.0) << Self::SEQUENCE_BITS | sequence))
    }

    /// The id with this 64-bit value.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The 64-bit value.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> Self::SEQUENCE_BITS) as u32)
    }

    /// The sequence number inside the epoch.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & Self::SEQUENCE_MAX
    }

    /// The next id of the same epoch, or nothing at the end of the sequence: ids never wrap.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.epoch(), self.sequence() + 1)
    }
}

/// What an object is for. Kinds count separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// What clients did, in order.
    Data = 1,
    /// The map at one point of the data stream.
    Checkpoint = 2,
    /// What the volume is, who may write it, and where its parts end.
    Superblock = 3,
}

impl ObjectKind {
    const ALL: [Self; 3] = [Self::Data, Self::Checkpoint, Self::Superblock];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Checkpoint => "ckpt",
            Self::Superblock => "superblock",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// The name of an object in its store.
///
/// Literally `%08x` behind the kind, so names grow past eight digits instead of wrapping, and
/// never sort as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its number among those of its kind.
    pub id: ObjectId,
}

impl ObjectName {
    /// The name of the data object with this id.
    #[must_use]
    pub const fn data(id: ObjectId) -> Self {
        Self {
            kind: ObjectKind::Data,
            id,
        }
    }

    /// Reads a name back; nothing where it is not exactly what [`fmt::Display`] prints.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (prefix, digits) = name.split_once('.')?;
        let kind = ObjectKind::ALL
            .into_iter()
            .find(|kind| kind.prefix() == prefix)?;
        let id = ObjectId(u64::from_str_radix(digits, 16).ok()?);
        let parsed = Self { kind, id };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.kind.prefix(), self.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_grow_past_eight_digits_and_read_back() {
        for value in [0, 1, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let name = ObjectName::data(ObjectId(value));
            assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
        }
        assert_eq!(
            ObjectName::data(ObjectId(0x1_2345_6789)).to_string(),
            "data.123456789"
        );
    }

    #[test]
    fn names_of_another_spelling_are_not_ours() {
        for name in [
            "data.0000000A",
            "data.1",
            "data.+0000001",
            "data.",
            "data",
            "gc.00000000x",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn ids_never_wrap() {
        let last = ObjectId::new(Epoch(3), ObjectId::SEQUENCE_MAX).unwrap();
        assert_eq!(last.next(), None);
        assert_eq!(
            (last.epoch(), last.sequence()),
            (Epoch(3), ObjectId::SEQUENCE_MAX)
        );
        assert_eq!(ObjectId::new(Epoch(1 << 24), 0), None);
    }
}
