//! What holds between the parts of the state whenever nothing is under way between them: it is looked
//! at from outside, part by part, so nothing else may use them meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::bytes::checkpoint::ObjectRow;
use crate::state::batch::Batcher;
use crate::state::durable::{Durable, StreamPoint};
use crate::state::extent_map::ExtentMap;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::progress::Progress;
use crate::state::segments::SegmentPool;
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::words::name::ObjectId;
use crate::words::units::{Lba, LbaRange, ObjectSlot, SECTOR_BYTES};

/// The parts of the state of one volume.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Where every sector lives.
    pub map: &'a ExtentMap,
    /// The objects that it names.
    pub objects: &'a ObjectTable,
    /// Those that are not in the store yet.
    pub in_flight: &'a InFlight,
    /// The open batch.
    pub batcher: &'a Batcher,
    /// Those that wait for upload.
    pub uploads: &'a UploadQueue,
    /// How far all that is stored.
    pub progress: &'a Progress,
    /// Span of the uploads under way.
    pub window: u32,
    /// How far the write log is durable, and its segments.
    pub log: Option<(&'a Durable, &'a SegmentPool)>,
}

/// What all parts show at one moment.
struct Seen<'a> {
    parts: Parts<'a>,
    rows: Vec<ObjectRow>,
    in_flight: BTreeMap<u32, SealedBatch>,
    /// Rows before the first that is not answered in order.
    answered: usize,
}

impl Parts<'_> {
    /// Says what is wrong with the state, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn self_check(&self) -> Result<(), String> {
        self.map.self_check()?;
        self.batcher.self_check()?;
        self.uploads.self_check()?;
        self.progress.self_check()?;
        if let Some((_, segments)) = self.log {
            segments.self_check()?;
        }
        let seen = self.look()?;
        seen.check_objects()?;
        seen.check_places()?;
        seen.check_log()?;
        seen.check_extents()
    }

    fn look(&self) -> Result<Seen<'_>, String> {
        let rows = self.objects.rows(0..self.objects.slot_count());
        let mut in_flight = BTreeMap::new();
        for batch in self.in_flight.all() {
            let (slot, id) = (batch.slot().0, batch.id());
            if in_flight.insert(slot, batch).is_some() {
                return Err(format!("batch {id:?} is in flight twice"));
            }
        }
        let last = self.progress.last_answered();
        let answered = rows.partition_point(|row| Some(row.id) <= last);
        Ok(Seen {
            parts: *self,
            rows,
            in_flight,
            answered,
        })
    }
}

impl Seen<'_> {
    /// The table is the stream; of each of its objects it is known where it can be read.
    fn check_objects(&self) -> Result<(), String> {
        for pair in self.rows.windows(2) {
            let (id, next) = (pair[0].id, pair[1].id);
            let follows = id.next() == Some(next);
            let begins = id.epoch() < next.epoch() && next.sequence() == 0;
            if !follows && !begins {
                return Err(format!("object {next:?} follows {id:?}"));
            }
        }
        for (slot, row) in (0..).zip(&self.rows) {
            let (id, is_stored) = (row.id, row.header_len > 0);
            match self.in_flight.get(&slot) {
                Some(_) if is_stored => return Err(format!("{id:?} is stored, and in flight")),
                Some(batch) if batch.id() != id => {
                    return Err(format!("{id:?} is in flight as {:?}", batch.id()));
                }
                None if !is_stored => return Err(format!("{id:?} is nowhere")),
                Some(_) | None => {}
            }
        }
        let last = self.rows.len();
        match self.in_flight.last_key_value() {
            Some((slot, batch)) if *slot as usize >= last => Err(format!(
                "{:?} is in flight, and not in the table",
                batch.id()
            )),
            _ => self.check_risk(),
        }
    }

    /// What is not persisted is at risk, and nothing else.
    fn check_risk(&self) -> Result<(), String> {
        let persisted = self.parts.progress.persisted();
        let behind = self.rows.iter().map(|row| row.id);
        let behind: Vec<ObjectId> = behind.filter(|id| Some(*id) > persisted).collect();
        let at_risk = self.parts.progress.ids_at_risk();
        if behind != at_risk {
            return Err(format!(
                "{behind:?} are not persisted, and {at_risk:?} are at risk"
            ));
        }
        Ok(())
    }

    /// Uploads are answered, under way or waiting in the order of the stream, and the window bounds
    /// those under way.
    fn check_places(&self) -> Result<(), String> {
        let next = self.parts.progress.oldest_unanswered();
        let at = |place: u64| {
            let behind = usize::try_from(place.checked_sub(next)?).ok()?;
            self.rows.get(self.answered + behind)
        };
        let answers = self.parts.progress.unpersisted_answers();
        for (place, (id, _)) in answers.range(next..) {
            if at(*place).is_none_or(|row| row.id != *id || row.header_len == 0) {
                return Err(format!(
                    "{id:?} was answered at place {place}, where it is not"
                ));
            }
        }
        // What was stored before is answered, and was never taken.
        let first = self.parts.uploads.first().max(next);
        let under_way = first.checked_sub(next);
        if under_way.is_none_or(|count| count > u64::from(self.parts.window)) {
            return Err(format!("place {first} waits, and {next} is not answered"));
        }
        for (place, id) in self.parts.uploads.all_waiting() {
            if at(place).is_none_or(|row| row.id != id || row.header_len > 0) {
                return Err(format!("{id:?} waits at place {place}, where it is not"));
            }
        }
        let unanswered = &self.rows[self.answered..];
        let stored = unanswered.iter().filter(|row| row.header_len > 0).count();
        let early = answers.range(next..).count();
        if stored != early {
            return Err(format!(
                "{stored} objects are stored early, {early} were answered"
            ));
        }
        match self.rows[..self.answered]
            .iter()
            .find(|row| row.header_len == 0)
        {
            Some(row) => Err(format!("{:?} was answered, and is not stored", row.id)),
            None => Ok(()),
        }
    }

    /// Nothing is on its way to the store that is not in the log to its end, nothing is durable that
    /// was never written; what is not persisted has a segment that is nobody else's.
    fn check_log(&self) -> Result<(), String> {
        let Some((durable, segments)) = self.parts.log else {
            return Ok(());
        };
        let (durable, point) = (durable.point(), self.parts.batcher.point());
        if durable > point {
            return Err(format!(
                "the log is durable up to {durable:?}, of {point:?}"
            ));
        }
        let entered = self.parts.uploads.entered();
        let next = self.parts.progress.oldest_unanswered();
        let entered = usize::try_from(entered.saturating_sub(next)).unwrap_or(usize::MAX);
        let entered = self.rows.get(..self.answered.saturating_add(entered));
        let last = entered.and_then(|rows| rows.last()).map(|row| StreamPoint {
            batch: row.id,
            entries: u32::MAX,
        });
        if last > durable {
            return Err(format!(
                "{last:?} is on its way, and {durable:?} is durable"
            ));
        }
        let mut used = BTreeSet::new();
        let in_flight = self.in_flight.values();
        let in_flight = in_flight.map(|batch| {
            let segment = batch.segment();
            (batch.id(), segment.map(|segment| segment.index()))
        });
        let answers = self.parts.progress.unpersisted_answers();
        for (id, segment) in in_flight.chain(answers.into_values()) {
            let Some(segment) = segment else {
                return Err(format!("{id:?} is not persisted, and has no segment"));
            };
            if segments.is_free(segment) || !used.insert(segment) {
                return Err(format!(
                    "segment {segment} of {id:?} is free, or another's, too"
                ));
            }
        }
        Ok(())
    }

    /// Every extent names data that is there, and no two name the same.
    fn check_extents(&self) -> Result<(), String> {
        let mut named: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        let all = LbaRange::new(Lba(0), Lba(self.parts.map.sectors()));
        let mut wrong = None;
        self.parts.map.lookup(all, |range, location| {
            let Some(location) = location else { return };
            let start = u64::from(location.offset.0);
            let end = start + range.sectors();
            if self
                .sectors_of(location.object)
                .is_none_or(|sectors| end > sectors)
            {
                wrong.get_or_insert(format!("{range:?} is at {location:?}, where nothing is"));
            }
            named
                .entry(location.object.0)
                .or_default()
                .push((start, end));
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        for (slot, runs) in &mut named {
            runs.sort_unstable();
            if let Some(pair) = runs.windows(2).find(|pair| pair[0].1 > pair[1].0) {
                return Err(format!("two extents name {:?} of slot {slot}", pair[1]));
            }
        }
        Ok(())
    }

    /// Sectors of the data area of an object.
    fn sectors_of(&self, slot: ObjectSlot) -> Option<u64> {
        match self.in_flight.get(&slot.0) {
            Some(batch) => Some(batch.data_bytes() / SECTOR_BYTES),
            None => {
                let row = self.rows.get(slot.0 as usize)?;
                Some(u64::from(row.data_sectors))
            }
        }
    }
}

#[cfg(test)]
mod tests;
