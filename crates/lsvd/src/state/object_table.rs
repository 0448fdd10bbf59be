//! The object table: what the extent map's short object slots stand for.

use crate::sync::RwLock;
use crate::words::name::ObjectId;
use crate::words::units::ObjectSlot;

/// A data object of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its id, and so its name.
    pub id: ObjectId,
    /// Bytes before its data area; known, and above zero, once it can be read from the store.
    pub header_len: u32,
}

/// All objects that the extent map may name.
#[derive(Debug, Default)]
pub struct ObjectTable {
    rows: RwLock<Vec<ObjectRow>>,
}

impl ObjectTable {
    /// Enters a new object; nothing where the table is full.
    #[must_use]
    pub fn insert(&self, id: ObjectId) -> Option<ObjectSlot> {
        let mut rows = self.rows.write();
        let slot = u32::try_from(rows.len()).ok()?;
        rows.push(ObjectRow { id, header_len: 0 });
        Some(ObjectSlot(slot))
    }

    /// Says that an object can be read from the store from now on.
    pub fn set_stored(&self, slot: ObjectSlot, header_len: u32) {
        if let Some(row) = self.rows.write().get_mut(slot.0 as usize) {
            row.header_len = header_len;
        }
    }

    /// The object of a slot.
    #[must_use]
    pub fn row(&self, slot: ObjectSlot) -> Option<ObjectRow> {
        self.rows.read().get(slot.0 as usize).copied()
    }
}
