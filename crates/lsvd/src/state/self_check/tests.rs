//! A state at work is consistent, and each way of breaking it is found.

use super::*;
use crate::bytes::log::RecordBounds;
use crate::state::batch::{BufferPool, Identity, LogRoom, NewEntry, Sink};
use crate::state::extent_map::CutCount;
use crate::state::progress::{Answered, Persists};
use crate::sync::Arc;
use crate::words::error::{Error, ErrorKind};
use crate::words::name::{Epoch, VolumeUuid};
use crate::words::units::{DataOffset, Location};

const SECTORS: u64 = 4096;

/// Sectors of a batch.
const BATCH: u64 = 32;

/// The state of a volume with a log.
struct State {
    map: ExtentMap,
    objects: Arc<ObjectTable>,
    in_flight: Arc<InFlight>,
    batcher: Batcher,
    uploads: UploadQueue,
    progress: Arc<Progress>,
    durable: Durable,
    segments: Arc<SegmentPool>,
}

fn id(sequence: u64) -> ObjectId {
    ObjectId::new(Epoch(1), sequence).unwrap()
}

impl State {
    fn new() -> Self {
        let objects = Arc::new(ObjectTable::default());
        let in_flight = Arc::new(InFlight::default());
        let progress = Arc::new(Progress::new(None, Persists::WhenChecked));
        let pool = BufferPool::new(16 << 10, 8);
        let (segments, _held) = SegmentPool::new(8, &[], Arc::clone(&pool));
        let room = LogRoom {
            segments: Arc::clone(&segments),
            segment_bytes: 64 << 10,
            bounds: RecordBounds { block_bytes: 512 },
        };
        let identity = Identity {
            volume: VolumeUuid::from_u128(7),
            session: 7,
        };
        let batcher = Batcher::new(
            identity,
            Epoch(1),
            None,
            pool,
            Arc::clone(&objects),
            Arc::clone(&in_flight),
            Arc::clone(&progress),
            Sink::Log(room),
        );
        Self {
            map: ExtentMap::new(SECTORS),
            objects,
            in_flight,
            batcher,
            uploads: UploadQueue::default(),
            progress,
            durable: Durable::default(),
            segments,
        }
    }

    /// Batch 0 is persisted, 1 is answered, 2 under way, 3 answered early, 4 waits, 5 is sealed, 6
    /// is open.
    fn at_work() -> Self {
        let state = Self::new();
        for batch in 0..5 {
            state.write(batch * BATCH + 8, BATCH);
        }
        state.log();
        for place in 0..4 {
            let (taken, batch) = state.uploads.take(4).unwrap();
            assert_eq!(taken, place);
            if place != 2 {
                state.store(place, &batch);
            }
        }
        state.progress.persist(id(0));
        state.write(0, BATCH);
        state.write(1000, 3);
        state
    }

    fn write(&self, start: u64, sectors: u64) {
        let range = LbaRange::with_len(Lba(start), sectors);
        let data = vec![7; usize::try_from(range.bytes()).unwrap()];
        let mut locked = self.map.lock(range);
        let slot = self
            .batcher
            .append(range, NewEntry::Write)
            .unwrap()
            .unwrap();
        let cuts = slot.cuts();
        locked.insert(range, slot.fill(&data), cuts, |_displaced| {});
    }

    /// Puts what is sealed into the log.
    fn log(&self) {
        for slice in self.batcher.take_slices(false) {
            self.uploads
                .push(SealedBatch::Memory(Arc::clone(&slice.batch)));
            self.durable.advance(StreamPoint {
                batch: slice.batch.id(),
                entries: u32::MAX,
            });
        }
    }

    fn store(&self, place: u64, batch: &SealedBatch) {
        let sectors = u32::try_from(batch.data_bytes() / SECTOR_BYTES).unwrap();
        self.objects.set_stored(batch.slot(), 512, sectors);
        self.in_flight.remove(batch.slot());
        let answered = Answered {
            id: batch.id(),
            bytes: batch.data_bytes(),
            segment: batch.segment().map(Arc::clone),
        };
        self.progress.answered(place, answered);
    }

    fn insert(&self, start: u64, slot: u32, offset: u32) {
        let location = Location {
            object: ObjectSlot(slot),
            offset: DataOffset(offset),
        };
        let range = LbaRange::with_len(Lba(start), 1);
        let mut locked = self.map.lock(range);
        locked.insert(range, location, CutCount::default(), |_displaced| {});
    }

    fn self_check(&self) -> Result<(), String> {
        let parts = Parts {
            map: &self.map,
            objects: &self.objects,
            in_flight: &self.in_flight,
            batcher: &self.batcher,
            uploads: &self.uploads,
            progress: &self.progress,
            window: 4,
            log: Some((&self.durable, &self.segments)),
        };
        parts.self_check()
    }
}

#[test]
fn a_state_at_work_is_consistent() {
    State::new().self_check().unwrap();
    State::at_work().self_check().unwrap();
}

/// Breaks a state that is at work; what is said of it has `what` in it.
#[track_caller]
fn assert_found(what: &str, break_it: impl FnOnce(&State)) {
    let state = State::at_work();
    break_it(&state);
    let found = state.self_check().unwrap_err();
    assert!(found.contains(what), "{found}");
}

#[test]
fn an_extent_that_names_nothing_is_found() {
    assert_found("where nothing is", |state| state.insert(2000, 99, 0));
    assert_found("where nothing is", |state| state.insert(2000, 0, 32));
    assert_found("where nothing is", |state| state.insert(2000, 6, 3));
}

#[test]
fn data_that_two_extents_name_is_found() {
    assert_found("two extents", |state| state.insert(2000, 6, 2));
    assert_found("two extents", |state| state.insert(2000, 3, 31));
}

#[test]
fn an_object_that_is_nowhere_is_found() {
    assert_found("is nowhere", |state| state.in_flight.remove(ObjectSlot(5)));
}

#[test]
fn an_object_that_is_in_two_places_is_found() {
    assert_found("stored, and in flight", |state| {
        state.objects.set_stored(ObjectSlot(5), 512, 32);
    });
    assert_found("in flight twice", |state| {
        let Some(SealedBatch::Memory(batch)) = state.in_flight.get(ObjectSlot(5)) else {
            panic!("it is in memory");
        };
        state.in_flight.insert(batch);
    });
}

#[test]
fn a_hole_in_the_stream_is_found() {
    assert_found("follows", |state| {
        state.objects.insert(id(8)).unwrap();
    });
    assert_found("follows", |state| {
        state.objects.insert(id(6)).unwrap();
    });
    assert_found("is nowhere", |state| {
        state.objects.insert(id(7)).unwrap();
    });
}

#[test]
fn risk_that_is_not_shown_is_found() {
    assert_found("at risk", |state| state.progress.opened(id(7)));
    assert_found("at risk", |state| state.progress.opened(id(0)));
}

#[test]
fn an_answer_at_a_wrong_place_is_found() {
    assert_found("at place", |state| {
        let answered = Answered {
            id: id(4),
            bytes: 0,
            segment: None,
        };
        state.progress.answered(5, answered);
    });
    assert_found("stuck", |state| {
        let error = Error::new(ErrorKind::Unavailable, "no store");
        state.progress.stuck(1, error);
    });
}

#[test]
fn more_uploads_than_the_window_allows_are_found() {
    assert_found("is not answered", |state| {
        for _ in 0..5 {
            let (place, batch) = state.uploads.take(u64::MAX).unwrap();
            assert!(place >= 4);
            state.uploads.push(batch);
        }
    });
}

#[test]
fn a_batch_that_waits_before_its_turn_is_found() {
    assert_found("waits at place", |state| {
        let open = state.in_flight.get(ObjectSlot(6)).unwrap();
        state.uploads.push(open);
    });
}

#[test]
fn an_upload_that_is_not_in_the_log_is_found() {
    assert_found("is on its way", |state| {
        let sealed = state.in_flight.get(ObjectSlot(5)).unwrap();
        state.uploads.push(sealed);
    });
    assert_found("durable up to", |state| {
        state.durable.advance(StreamPoint {
            batch: id(6),
            entries: 2,
        });
    });
}

#[test]
fn a_batch_without_a_segment_is_found() {
    assert_found("has no segment", |state| {
        let Some(SealedBatch::Memory(batch)) = state.in_flight.get(ObjectSlot(2)) else {
            panic!("it is in memory");
        };
        state.objects.set_stored(ObjectSlot(2), 512, 32);
        state.in_flight.remove(ObjectSlot(2));
        let answered = Answered {
            id: batch.id(),
            bytes: batch.data_bytes(),
            segment: None,
        };
        state.progress.answered(2, answered);
    });
}
