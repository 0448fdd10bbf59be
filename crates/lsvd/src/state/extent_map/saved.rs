//! What the chunks of a stripe held at the cut that is being walked, where they were changed since.
//!
//! Whoever changes a chunk for the first time behind the cut copies its extents here, and a discard
//! leaves here what it detached. A chunk that was walked needs neither.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::sync::Arc;

use super::detached::DetachedChunks;
use super::packed::PackedExtent;

/// Runs of chunks, by the position of the first; they do not overlap.
#[derive(Debug, Default)]
pub(super) struct Saved {
    runs: BTreeMap<u64, Run>,
}

#[derive(Debug)]
struct Run {
    end: u64,
    content: Content,
}

/// What is known of a run of chunks.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// It was walked.
    Walked,
    /// The extents of one chunk, counted from the start of its leaf.
    Copy(Box<[PackedExtent]>),
    /// What a discard took out, of these chunks and perhaps of others.
    Detached(Arc<DetachedChunks>),
}

/// Bytes that a run takes beside its copy, roughly.
const RUN_BYTES: u64 = 64;

impl Content {
    /// Bytes that it takes beyond what the map would take without a cut.
    fn copied_bytes(&self) -> u64 {
        match self {
            Self::Copy(extents) => RUN_BYTES + size_of_val(&**extents) as u64,
            Self::Walked | Self::Detached(_) => 0,
        }
    }
}

impl Saved {
    /// What is known of the chunk at `position`; nothing where it is as it was at the cut.
    pub(super) fn get(&self, position: u64) -> Option<&Content> {
        let (_, run) = self.runs.range(..=position).next_back()?;
        (position < run.end).then_some(&run.content)
    }

    /// Keeps a copy of the chunk at `position`, of which nothing is known; gives its bytes.
    pub(super) fn copy(&mut self, position: u64, extents: Vec<PackedExtent>) -> u64 {
        let content = Content::Copy(extents.into_boxed_slice());
        let bytes = content.copied_bytes();
        let end = position + 1;
        self.runs.insert(position, Run { end, content });
        bytes
    }

    /// Keeps what was detached of the chunks at `positions`, except of those of which something is
    /// known: they were as they are behind the cut.
    pub(super) fn detached(&mut self, positions: Range<u64>, chunks: &Arc<DetachedChunks>) {
        for gap in self.gaps(positions) {
            let content = Content::Detached(Arc::clone(chunks));
            let end = gap.end;
            self.runs.insert(gap.start, Run { end, content });
        }
    }

    fn gaps(&self, positions: Range<u64>) -> Vec<Range<u64>> {
        let before = self.runs.range(..=positions.start).next_back();
        let mut free = before.map_or(0, |(_, run)| run.end).max(positions.start);
        let mut gaps = Vec::new();
        for (start, run) in self.runs.range(positions.clone()) {
            if free < *start {
                gaps.push(free..*start);
            }
            free = free.max(run.end);
        }
        if free < positions.end {
            gaps.push(free..positions.end);
        }
        gaps
    }

    /// Says that the chunks at `positions` were walked. Gives what was known of them, to be dropped
    /// when the lock is released, and the bytes of copies in it.
    pub(super) fn walked(&mut self, positions: Range<u64>) -> (Vec<Content>, u64) {
        let mut known = Vec::new();
        let mut walked = positions.clone();
        let before = self.runs.range(..positions.start).next_back();
        if let Some((&start, run)) = before.filter(|(_, run)| run.end >= positions.start) {
            let (end, content) = (run.end, run.content.clone());
            if matches!(content, Content::Walked) {
                walked = start..walked.end.max(end);
                self.runs.remove(&start);
            } else if end > positions.start {
                self.cut_off(start, positions.clone(), &mut known);
            }
        }
        while let Some((&start, run)) = self.runs.range(positions.clone()).next() {
            if matches!(run.content, Content::Walked) {
                walked.end = walked.end.max(run.end);
                self.runs.remove(&start);
            } else {
                self.cut_off(start, positions.clone(), &mut known);
            }
        }
        if let Some(run) = self.runs.get(&walked.end)
            && matches!(run.content, Content::Walked)
        {
            let end = run.end;
            self.runs.remove(&walked.end);
            walked.end = end;
        }
        let end = walked.end;
        let content = Content::Walked;
        self.runs.insert(walked.start, Run { end, content });
        let bytes = known.iter().map(Content::copied_bytes).sum();
        (known, bytes)
    }

    /// Drops the copies at positions that are not to be kept. Gives them, and their bytes.
    pub(super) fn keep_copies(&mut self, keep: impl Fn(u64) -> bool) -> (Vec<Content>, u64) {
        let is_superfluous = |(start, run): (&u64, &Run)| {
            let superfluous = matches!(run.content, Content::Copy(_)) && !keep(*start);
            superfluous.then_some(*start)
        };
        let superfluous: Vec<u64> = self.runs.iter().filter_map(is_superfluous).collect();
        let dropped = superfluous
            .iter()
            .filter_map(|start| self.runs.remove(start));
        let dropped: Vec<Content> = dropped.map(|run| run.content).collect();
        let bytes = dropped.iter().map(Content::copied_bytes).sum();
        (dropped, bytes)
    }

    /// Takes `positions` out of the run that begins at `start` and overlaps them.
    fn cut_off(&mut self, start: u64, positions: Range<u64>, known: &mut Vec<Content>) {
        let Some(Run { end, content }) = self.runs.remove(&start) else {
            return;
        };
        for rest in [start..positions.start, positions.end..end] {
            if rest.start < rest.end {
                let (end, content) = (rest.end, content.clone());
                self.runs.insert(rest.start, Run { end, content });
            }
        }
        known.push(content);
    }

    /// Position of the first chunk at `from` or behind, before `end`, of which something is kept
    /// that may not be empty.
    pub(super) fn next_occupied(&self, from: u64, end: u64) -> Option<u64> {
        let before = self.runs.range(..from).next_back();
        let before = before.filter(|(_, run)| run.end > from);
        let mut runs = before.into_iter().chain(self.runs.range(from..end));
        runs.find_map(|(&start, run)| match &run.content {
            Content::Walked => None,
            Content::Copy(_) => Some(start),
            Content::Detached(chunks) => {
                let next = chunks.next_occupied(start.max(from))?;
                (next < run.end.min(end)).then_some(next)
            }
        })
    }

    /// Position of the first chunk at `from` or behind that was copied and not walked.
    pub(super) fn next_copy(&self, from: u64) -> Option<u64> {
        let mut runs = self.runs.range(from..);
        let copy = runs.find(|(_, run)| matches!(run.content, Content::Copy(_)));
        copy.map(|(start, _)| *start)
    }

    /// Says what is wrong, if anything.
    pub(super) fn self_check(&self) -> Result<(), String> {
        let mut free = 0;
        for (start, run) in &self.runs {
            let single = !matches!(run.content, Content::Copy(_)) || run.end == start + 1;
            if *start < free || run.end <= *start || !single {
                return Err(format!("the saved run {start}..{} is wrong", run.end));
            }
            free = run.end;
        }
        Ok(())
    }
}
