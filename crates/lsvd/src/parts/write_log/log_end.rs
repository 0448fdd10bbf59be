//! Where the log of a writer that is gone ends: what in it goes on where the store's stream does.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};

use super::WriteLog;
use super::unreadable::{Gap, ReadSegment};
use crate::bytes::data_object::DataHeader;
use crate::bytes::log::{BadData, Marks, ScannedBatch, SyncedMark, marked_batch, marks, scan};
use crate::bytes::superblock::Superblock;
use crate::words::error::Result;
use crate::words::name::{ObjectId, ObjectName};
use crate::words::planted::{self, Fault};
use crate::words::units::SECTOR_BYTES;

/// Segments that are read ahead of the one that is scanned.
const READ_AHEAD: usize = 2;

/// Where the log of a writer that is gone ends, as it was found.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// Where the store's stream ends.
    stream_end: Option<ObjectId>,
    /// The batches that go on from there, in order; the last may have no end.
    pub(super) chain: Vec<Link>,
    /// Batches behind that which do not count, each with its segment.
    pub(super) behind: BTreeMap<ObjectId, (u32, ScannedBatch)>,
    /// Segments that do not begin with a record of a batch that may count.
    pub(super) blank: Vec<u32>,
    /// Segments with records of the log but none of a batch that may count.
    pub(super) used: Vec<u32>,
    /// The batches behind the stream that a segment begins with a mark of: an opening before this one
    /// took them as the store has them.
    noted: BTreeMap<ObjectId, u32>,
    /// What cannot be read, but for what lies behind a batch of which all is there, or the store has.
    pub(super) gaps: Vec<Gap>,
    /// What all records together say.
    pub(super) marks: Marks,
}

/// A batch that goes on where the one before it ends.
#[derive(Debug)]
pub(super) enum Link {
    /// As this segment of the log has it.
    Logged(u32, ScannedBatch),
    /// As its object has it, which the store holds behind one that it does not. This segment is to say
    /// so.
    Stored(u32, DataHeader),
}

impl Link {
    const fn id(&self) -> ObjectId {
        match self {
            Self::Logged(_, batch) => batch.batch,
            Self::Stored(_, header) => header.id,
        }
    }

    /// Whether it has no end: what of it was not in the log is nowhere.
    const fn is_open(&self) -> bool {
        match self {
            Self::Logged(_, batch) => batch.header.is_none(),
            Self::Stored(..) => false,
        }
    }

    /// The place up to which it is there. Of a batch with an end nothing is missing: a mark that the
    /// store has it names no place of it.
    const fn stop(&self) -> SyncedMark {
        match self {
            Self::Logged(_, batch) if batch.header.is_some() => whole(batch.batch),
            Self::Logged(_, batch) => SyncedMark {
                batch: batch.batch,
                position: batch.end,
            },
            Self::Stored(_, header) => whole(header.id),
        }
    }
}

/// The place behind all of a batch, wherever it is.
pub(super) const fn whole(batch: ObjectId) -> SyncedMark {
    SyncedMark {
        batch,
        position: u32::MAX,
    }
}

/// An object that would go on where a damaged log does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The batch before it.
    pub(crate) predecessor: Option<ObjectId>,
    /// Its own id, where the log begins with it.
    pub(crate) begun: Option<ObjectId>,
}

impl LogEnd {
    /// The batches that go on where the store's stream ends.
    pub(crate) fn batches(&self) -> impl Iterator<Item = ObjectId> {
        self.chain.iter().map(Link::id)
    }

    /// The newest object that was persisted when the log was written.
    pub(crate) const fn persisted(&self) -> Option<ObjectId> {
        self.marks.persisted
    }

    /// Whether something is missing that was durable, or may have been.
    pub(super) fn is_damaged(&self) -> bool {
        self.lost().is_some() || !self.gaps.is_empty()
    }

    /// What to look for in the store, where the log is damaged: a batch that is not there to its end.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        if !self.is_damaged() {
            return None;
        }
        Some(match self.chain.split_last() {
            Some((open, before)) if open.is_open() => Wanted {
                predecessor: before
                    .last()
                    .map_or(self.stream_end, |link| Some(link.id())),
                begun: Some(open.id()),
            },
            last => Wanted {
                predecessor: last.map_or(self.stream_end, |(last, _)| Some(last.id())),
                begun: None,
            },
        })
    }

    /// Takes a batch that was [wanted](Self::wanted) as its object has it, and what in the log goes on
    /// behind it. Only a batch that was in the log to its end was ever sent to the store.
    ///
    /// A batch has a segment until it is persisted: where none begins with it or with a mark of it, it is
    /// one of those that begin with nothing that counts, rather than with a mark of another. False where
    /// there is none of these.
    pub(crate) fn take_stored(&mut self, object: DataHeader) -> bool {
        let id = object.id;
        let begun = self.chain.pop_if(|last| last.id() == id);
        let begun = begun.map(|begun| match begun {
            Link::Logged(segment, _) | Link::Stored(segment, _) => segment,
        });
        let torn = self.behind.remove(&id).map(|(segment, _)| segment);
        let own = begun.or(torn).or(self.noted.remove(&id));
        if let Some(own) = own {
            self.gaps.retain(|gap| gap.segment != own);
        }
        let is_noted = |blank: &&u32| self.noted.values().any(|noted| noted == *blank);
        let free = self.blank.iter().find(|blank| !is_noted(blank));
        let free = free.or(self.blank.first()).or(self.used.first());
        let segment = own.or_else(|| free.copied());
        let Some(segment) = segment else {
            return false;
        };
        self.blank.retain(|blank| *blank != segment);
        self.used.retain(|used| *used != segment);
        self.noted.retain(|_, noted| *noted != segment);
        self.chain.push(Link::Stored(segment, object));
        self.go_on();
        true
    }

    /// The batches that were taken from the store, each with the segment that says so.
    pub(super) fn stored(&self) -> impl DoubleEndedIterator<Item = (u32, &DataHeader)> {
        self.chain.iter().filter_map(|link| match link {
            Link::Logged(..) => None,
            Link::Stored(segment, header) => Some((*segment, header)),
        })
    }

    /// Moves batches to the chain as long as each follows the last one there.
    fn go_on(&mut self) {
        while let Some(entry) = self.behind.first_entry() {
            let (segment, batch) = entry.get();
            // None is left of these but where one is planted.
            if Some(*entry.key()) > self.stream_end {
                let last = self.chain.last();
                let follows =
                    last.map_or(self.stream_end, |last| self.stream_end.max(Some(last.id())));
                let is_open = last.is_some_and(Link::is_open);
                if is_open || batch.predecessor != follows || batch.is_empty() {
                    break;
                }
            }
            let segment = *segment;
            let (_, batch) = entry.remove();
            self.chain.push(Link::Logged(segment, batch));
        }
    }

    /// Bytes of data in the batches that do not count.
    pub(super) fn bytes_behind(&self) -> u64 {
        let sectors = self.behind.values();
        let sectors = sectors.map(|(_, batch)| u64::from(batch.sectors));
        sectors.sum::<u64>() * SECTOR_BYTES
    }

    /// Where what counts stops.
    pub(super) fn stop(&self) -> Option<SyncedMark> {
        self.chain.last().map(Link::stop)
    }

    /// The same, as messages say it.
    pub(super) fn place(&self) -> String {
        match self.chain.last() {
            Some(Link::Logged(_, batch)) => {
                let name = ObjectName::data(batch.batch);
                format!("byte {} of batch {name}", batch.end)
            }
            Some(Link::Stored(_, header)) => {
                format!("the end of batch {}, which the store has", header.name())
            }
            None => "the end of what the store has".to_owned(),
        }
    }

    /// Up to where the log was durable, if what counts stops before that.
    pub(super) fn lost(&self) -> Option<SyncedMark> {
        let behind_stream = |mark: &SyncedMark| Some(mark.batch) > self.stream_end;
        let synced = self.marks.synced.filter(behind_stream);
        synced.filter(|synced| Some(*synced) > self.stop())
    }
}

/// What a log holds that may be nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// It was never written to.
    Unused,
    Nothing,
    /// Batches with so many bytes of data.
    Bytes(u64),
}

impl WriteLog {
    /// What there is in batches of which nothing says that the store has them: neither `newest`, whose
    /// epochs end at most where it says and which knows what is persisted, nor the log itself.
    pub(crate) async fn beyond(&self, newest: &Superblock) -> Result<Beyond> {
        let is_listed = |batch: ObjectId| {
            let mut epochs = newest.state.epochs.iter();
            let epoch = epochs.find(|epoch| epoch.epoch == batch.epoch().0);
            epoch.is_some_and(|epoch| epoch.objects.is_some_and(|end| batch.sequence() < end))
        };
        let mut beyond = Vec::new();
        let mut all = Marks::default();
        let mut is_unused = true;
        let mut is_whole = true;
        self.each_segment(|_, read| {
            is_whole &= read.gaps.is_empty();
            is_unused &= read.bytes.iter().all(|byte| *byte == 0);
            all = all.max(marks(&read.bytes, &self.header));
            let batch = scan(read.beginning(), &self.header, BadData::Ends);
            beyond.extend(batch.map(|batch| (batch.batch, u64::from(batch.sectors))));
        })
        .await?;
        if is_unused && is_whole {
            return Ok(Beyond::Unused);
        }
        // A batch whose beginning is damaged does not show, but what was durable of it was noted.
        beyond.extend(all.synced.map(|synced| (synced.batch, 0)));
        // Where an end was fixed with a log, its last objects may be in that log alone.
        beyond.retain(|(batch, _)| !is_listed(*batch) || Some(*batch) > newest.persisted);
        // Persisted in the log's own time: of the stream up to there.
        beyond.retain(|(batch, _)| Some(*batch) > all.persisted);
        let sectors = beyond.iter().map(|(_, sectors)| sectors);
        Ok(match beyond.is_empty() && is_whole {
            true => Beyond::Nothing,
            // Perhaps none: a batch of discards alone has no data, and of a damaged one nobody knows.
            false => Beyond::Bytes(sectors.sum::<u64>() * SECTOR_BYTES),
        })
    }

    /// Reads the whole log, and finds the batches that go on where the stream of the store ends, at
    /// `stream_end`. Changes nothing.
    pub(crate) async fn find_end(&self, stream_end: Option<ObjectId>) -> Result<LogEnd> {
        let mut end = LogEnd {
            stream_end,
            chain: Vec::new(),
            behind: BTreeMap::new(),
            blank: Vec::new(),
            used: Vec::new(),
            noted: BTreeMap::new(),
            gaps: Vec::new(),
            marks: Marks::default(),
        };
        self.each_segment(|segment, read| {
            let found = marks(&read.bytes, &self.header);
            end.marks = end.marks.max(found);
            // What the store has in order is not looked at again; of it a segment that was to be
            // used anew may hold ruins.
            let scanned = scan(read.beginning(), &self.header, BadData::Ends);
            let is_behind = |batch: &ScannedBatch| {
                Some(batch.batch) > stream_end
                    || (planted::is(Fault::StaleReplay) && batch.header.is_some())
            };
            // Nothing that was written to this segment knew of more than the batch that is in it.
            let is_settled =
                |batch: &ScannedBatch| Some(batch.batch) <= stream_end || batch.header.is_some();
            let noted = marked_batch(read.beginning(), &self.header);
            let is_in_stream = noted.is_some() && noted <= stream_end;
            if !is_in_stream && !scanned.as_ref().is_some_and(is_settled) {
                end.gaps.extend(read.gaps);
            }
            let noted = noted.filter(|noted| Some(*noted) > stream_end);
            end.noted.extend(noted.map(|noted| (noted, segment)));
            if scanned.is_none() {
                end.blank.push(segment);
            }
            match scanned.filter(is_behind) {
                Some(batch) => drop(end.behind.insert(batch.batch, (segment, batch))),
                None if found.has_records => end.used.push(segment),
                None => {}
            }
        })
        .await?;
        end.go_on();
        Ok(end)
    }

    /// Calls `look` with every segment, in order.
    async fn each_segment(&self, mut look: impl FnMut(u32, ReadSegment)) -> Result<()> {
        let segments = stream::iter(0..self.header.segments);
        let mut read = segments
            .map(|segment| self.read_around_gaps(segment))
            .buffered(READ_AHEAD);
        for segment in 0.. {
            match read.next().await {
                Some(read) => look(segment, read?),
                None => break,
            }
        }
        Ok(())
    }
}
