//! The object table: what the extent map's short object slots stand for.

use std::ops::Range;

use crate::sync::RwLock;
use crate::words::name::ObjectId;
use crate::words::units::ObjectSlot;

pub use crate::bytes::checkpoint::ObjectRow;

/// All objects that the extent map may name.
#[derive(Debug, Default)]
pub struct ObjectTable {
    rows: RwLock<Vec<ObjectRow>>,
}

impl ObjectTable {
    /// A table of objects that are all stored, in the order of their slots.
    #[must_use]
    pub fn of_stored(rows: Vec<ObjectRow>) -> Self {
        let rows = RwLock::new(rows);
        Self { rows }
    }

    /// Enters a new object; nothing where the table is full.
    #[must_use]
    pub fn insert(&self, id: ObjectId) -> Option<ObjectSlot> {
        let mut rows = self.rows.write();
        let slot = u32::try_from(rows.len())
            .ok()
            .filter(|slot| *slot < u32::MAX)?;
        rows.push(ObjectRow {
            id,
            header_len: 0,
            data_sectors: 0,
        });
        Some(ObjectSlot(slot))
    }

    /// Says that an object can be read from the store from now on.
    pub fn set_stored(&self, slot: ObjectSlot, header_len: u32, data_sectors: u32) {
        if let Some(row) = self.rows.write().get_mut(slot.0 as usize) {
            row.header_len = header_len;
            row.data_sectors = data_sectors;
        }
    }

    /// The object of a slot.
    #[must_use]
    pub fn row(&self, slot: ObjectSlot) -> Option<ObjectRow> {
        self.rows.read().get(slot.0 as usize).copied()
    }

    /// Whether this object is in the table.
    #[must_use]
    pub fn contains(&self, id: ObjectId) -> bool {
        let rows = self.rows.read();
        rows.binary_search_by_key(&id, |row| row.id).is_ok()
    }

    /// The objects of some slots.
    #[must_use]
    pub fn rows(&self, slots: Range<u32>) -> Vec<ObjectRow> {
        let slots = slots.start as usize..slots.end as usize;
        let rows = self.rows.read();
        rows.get(slots).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Number of slots; they were given out in the order of the stream.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        // Never more than `insert` let in.
        u32::try_from(self.rows.read().len()).unwrap_or(u32::MAX)
    }

    /// Sectors of the data areas of all from this slot on that are stored.
    #[must_use]
    pub fn stored_sectors(&self, from: ObjectSlot) -> u64 {
        let rows = self.rows.read();
        let rows = rows.iter().skip(from.0 as usize);
        rows.map(|row| u64::from(row.data_sectors)).sum()
    }
}
