//! Loading a checkpoint: its root, the pieces of it and of the older objects that it names, the
//! extent map and the object table that they are.

use std::collections::BTreeMap;
use std::ops::Range;

use ::bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::CheckpointObjects;
use crate::bytes::checkpoint::{Checkpoint, Form, ObjectRow, Piece, PieceStart};
use crate::bytes::object_header::ObjectError;
use crate::bytes::superblock::KeptCheckpoint;
use crate::doors::BoxFuture;
use crate::doors::runtime::within;
use crate::doors::store::{StoreError, StoreErrorKind};
use crate::state::extent_map::ExtentMap;
use crate::state::object_table::ObjectTable;
use crate::words::error::{Error, ErrorKind};
use crate::words::limits::{
    CHECKPOINT_REQUEST_BYTES, CHECKPOINT_REQUESTS_MAX, STORE_PATIENCE, STORE_PATIENCE_MAX,
};
use crate::words::name::ObjectId;
use crate::words::units::Extent;

/// Bytes between two pieces that are rather read than asked around.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// A checkpoint in memory.
pub(crate) struct Loaded {
    pub(crate) map: ExtentMap,
    pub(crate) objects: ObjectTable,
    pub(crate) root: Checkpoint,
}

/// Why a checkpoint was not loaded.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its bytes are there and do not check: the older one may.
    Damaged(Error),
    /// Anything else: it may well be whole.
    Unknown(Error),
}

/// The root of a checkpoint, and its bytes.
struct Root {
    list: Checkpoint,
    bytes: Bytes,
}

/// Pieces that lie close together in an object, and are read with one request.
struct Stretch {
    object: ObjectId,
    range: Range<u64>,
    /// Indices into the list of the root.
    pieces: Vec<usize>,
}

impl CheckpointObjects {
    /// Loads a checkpoint that a superblock of a volume of `sectors` sectors names.
    pub(crate) async fn load(&self, kept: KeptCheckpoint, sectors: u64) -> Result<Loaded, Failure> {
        let root = self.root(kept, sectors).await?;
        let (rows, extents) = stretches(&root.list);
        let rows = self.rows(&root, rows).await?;
        let map = ExtentMap::new(sectors);
        let requests = extents.into_iter().map(|stretch| self.read(stretch, &root));
        let mut answers = stream::iter(requests).buffer_unordered(CHECKPOINT_REQUESTS_MAX);
        while let Some(answer) = answers.next().await {
            let (stretch, bytes) = answer?;
            for index in &stretch.pieces {
                let bytes = stretch.part(&root.list, *index, &bytes);
                self.fill(&map, &rows, &root.list, *index, bytes)?;
            }
        }
        drop(answers);
        Ok(Loaded {
            map,
            objects: ObjectTable::of_stored(rows),
            root: root.list,
        })
    }

    async fn root(&self, kept: KeptCheckpoint, sectors: u64) -> Result<Root, Failure> {
        let id = kept.object;
        let name = Checkpoint::name_of(id).to_string();
        let got = self.patiently(|| self.store.get(&name)).await;
        let bytes = got.map_err(|error| self.unread(id, error))?;
        let root = Checkpoint::decode(&bytes, self.volume, id);
        let root = root.map_err(|error| self.damaged(id, error))?;
        let wrong = if root.object_len() != bytes.len() as u64 {
            Some(ObjectError::ObjectLength {
                expected: root.object_len(),
                found: bytes.len() as u64,
            })
        } else if root.form != Form::Root || root.cut != kept.cut || root.sectors != sectors {
            Some(ObjectError::Index("it is not what the superblock says"))
        } else {
            None
        };
        match wrong {
            Some(error) => Err(self.damaged(id, error)),
            None => Ok(Root { list: root, bytes }),
        }
    }

    /// The rows of the object table.
    async fn rows(&self, root: &Root, stretches: Vec<Stretch>) -> Result<Vec<ObjectRow>, Failure> {
        let requests = stretches
            .into_iter()
            .map(|stretch| self.read(stretch, root));
        let mut answers = stream::iter(requests).buffer_unordered(CHECKPOINT_REQUESTS_MAX);
        let mut pieces = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            let (stretch, bytes) = answer?;
            for index in &stretch.pieces {
                let bytes = stretch.part(&root.list, *index, &bytes);
                let rows = root.list.decode_rows(*index, bytes);
                let rows = rows.map_err(|error| self.damaged(stretch.object, error))?;
                pieces.insert(*index, rows);
            }
        }
        let rows: Vec<ObjectRow> = pieces.into_values().flatten().collect();
        if rows.iter().any(|row| row.id > root.list.cut) {
            let error = ObjectError::Index("it names an object behind its cut");
            return Err(self.damaged(root.list.id, error));
        }
        Ok(rows)
    }

    /// Puts the extents of a piece into the map.
    fn fill(
        &self,
        map: &ExtentMap,
        rows: &[ObjectRow],
        root: &Checkpoint,
        index: usize,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let is_stored = |extent: &Extent| {
            let row = rows.get(extent.location.object.0 as usize);
            let end = u64::from(extent.location.offset.0) + extent.range.sectors();
            row.is_some_and(|row| end <= u64::from(row.data_sectors))
        };
        let mut filler = map.fill();
        let visit = |extent| {
            let stored = is_stored(&extent);
            if stored {
                filler.push(extent);
            }
            stored
        };
        let object = root.pieces[index].object;
        root.decode_extents(index, bytes, visit)
            .map_err(|error| self.damaged(object, error))?;
        filler.finish();
        Ok(())
    }

    /// The bytes of a stretch.
    async fn read(&self, stretch: Stretch, root: &Root) -> Result<(Stretch, Bytes), Failure> {
        let object = stretch.object;
        if object == root.list.id {
            let start = usize::try_from(stretch.range.start).unwrap_or(usize::MAX);
            let end = usize::try_from(stretch.range.end).unwrap_or(usize::MAX);
            // Its pieces are its payload, and its length was looked at.
            return Ok((stretch, root.bytes.slice(start..end)));
        }
        let name = Checkpoint::name_of(object).to_string();
        let get = || self.store.get_range(&name, stretch.range.clone());
        let got = self.patiently(get).await;
        let bytes = got.map_err(|error| self.unread(object, error))?;
        Ok((stretch, bytes))
    }

    /// The answer to `request`, which is made again with twice the time where it was given too little,
    /// as an upload is: what could be stored can be read.
    async fn patiently<'a>(
        &'a self,
        request: impl Fn() -> BoxFuture<'a, Result<Bytes, StoreError>>,
    ) -> Result<Bytes, StoreError> {
        let mut patience = STORE_PATIENCE;
        loop {
            match within(&*self.runtime, patience, &*self.store, request()).await {
                Err(error)
                    if error.kind() == StoreErrorKind::TooSlow && patience < STORE_PATIENCE_MAX =>
                {
                    tracing::warn!(%error, "a checkpoint is not read yet, and is tried again");
                    patience = (patience * 2).min(STORE_PATIENCE_MAX);
                }
                answered => return answered,
            }
        }
    }

    fn unread(&self, id: ObjectId, error: StoreError) -> Failure {
        let name = Checkpoint::name_of(id);
        let place = self.store.url();
        match error.kind() {
            StoreErrorKind::Truncated => {
                let message = format!("{name} in {place} is damaged: it is cut short");
                Failure::Damaged(Error::new(ErrorKind::Damaged, message).because(error))
            }
            StoreErrorKind::NotFound => {
                let message = format!(
                    "{name} is missing in {place}, and the newest superblock needs it: bring it \
                     back from a copy of the store"
                );
                Failure::Unknown(Error::new(ErrorKind::Damaged, message).because(error))
            }
            kind => {
                let message = format!("cannot read {name} in {place}");
                Failure::Unknown(Error::new(kind.for_user(), message).because(error))
            }
        }
    }

    fn damaged(&self, id: ObjectId, error: ObjectError) -> Failure {
        let message = format!(
            "{} in {} is damaged",
            Checkpoint::name_of(id),
            self.store.url()
        );
        // A later program wrote it, perhaps: that is not for this one to pass over.
        let is_later = matches!(error, ObjectError::Version(_));
        let error = Error::new(ErrorKind::Damaged, message).because(error);
        if is_later {
            Failure::Unknown(error)
        } else {
            Failure::Damaged(error)
        }
    }
}

impl Stretch {
    /// The bytes of piece `index` in those of the stretch.
    fn part<'a>(&self, root: &Checkpoint, index: usize, bytes: &'a [u8]) -> &'a [u8] {
        let piece = &root.pieces[index];
        let start = usize::try_from(piece.offset - self.range.start).unwrap_or(usize::MAX);
        let end = start.saturating_add(piece.len as usize);
        bytes.get(start..end).unwrap_or_default()
    }
}

/// How the pieces are read: those of the object table, and the others.
fn stretches(root: &Checkpoint) -> (Vec<Stretch>, Vec<Stretch>) {
    let is_rows = |piece: &Piece| matches!(piece.start, PieceStart::Rows(_));
    let mut of_rows: Vec<usize> = Vec::new();
    let mut of_extents: Vec<usize> = Vec::new();
    for (index, piece) in root.pieces.iter().enumerate() {
        if is_rows(piece) {
            of_rows.push(index);
        } else {
            of_extents.push(index);
        }
    }
    (joined(root, of_rows), joined(root, of_extents))
}

fn joined(root: &Checkpoint, mut pieces: Vec<usize>) -> Vec<Stretch> {
    pieces.sort_unstable_by_key(|index| {
        let piece = &root.pieces[*index];
        (piece.object, piece.offset)
    });
    let mut stretches: Vec<Stretch> = Vec::new();
    for index in pieces {
        let piece = &root.pieces[index];
        let range = piece.offset..piece.offset + u64::from(piece.len);
        match stretches.last_mut() {
            Some(last)
                if last.object == piece.object
                    && range.start <= last.range.end + GAP_BYTES_MAX
                    && range.end - last.range.start <= CHECKPOINT_REQUEST_BYTES =>
            {
                last.range.end = last.range.end.max(range.end);
                last.pieces.push(index);
            }
            _ => stretches.push(Stretch {
                object: piece.object,
                range,
                pieces: vec![index],
            }),
        }
    }
    stretches
}
