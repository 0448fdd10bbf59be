//! The disk and its files as the engine sees them.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::disk::{
    DiskError, DiskErrorKind, DiskFile, DiskWrite, LENGTH_MULTIPLE, LocalDisk, WriteDurability,
    is_file_name,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::content::Content;
use super::crash::{Chooser, carry_out};
use super::fault::{Fault, failed};
use super::{Reach, Request, Shared, SharedContent, State, Write};

/// The lock of a disk, as long as somebody has it.
#[derive(Debug)]
pub(super) struct Holder;

/// A [`MemoryDisk`](super::MemoryDisk), opened.
#[derive(Clone, Debug)]
pub struct OpenMemoryDisk {
    disk: Arc<Shared>,
    holder: Arc<Holder>,
}

/// A file of it.
#[derive(Debug)]
struct MemoryFile {
    disk: OpenMemoryDisk,
    /// The name that it was opened by.
    name: String,
    content: SharedContent,
    bytes: u64,
}

impl OpenMemoryDisk {
    pub(super) fn new(disk: &Arc<Shared>, holder: Arc<Holder>) -> Self {
        Self {
            disk: Arc::clone(disk),
            holder,
        }
    }

    /// Makes a request, and waits for its answer.
    async fn request<B: Send + 'static, T: Send + 'static>(
        &self,
        request: Request,
        begin: impl FnOnce(&mut State, Option<&mut Chooser>) -> Result<B, DiskError>,
        finish: impl FnOnce(&mut State, B) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let Some(answered) = self.begin(request, begin, finish) else {
            self.disk.stopped.notify();
            return pending().await;
        };
        self.disk.held.notify();
        answered.await.unwrap_or_else(|_| {
            let message = "the simulated disk was dropped with this request held";
            Err(DiskError::new(DiskErrorKind::Failed, message))
        })
    }

    /// Begins a request, and carries it out: now, or when the test releases it; whether or not
    /// anybody waits. `begin` is what a disk may do before it is done, or the part of it that the
    /// chooser chooses. There will be no answer where the disk has stopped.
    fn begin<B: Send + 'static, T: Send + 'static>(
        &self,
        request: Request,
        begin: impl FnOnce(&mut State, Option<&mut Chooser>) -> Result<B, DiskError>,
        finish: impl FnOnce(&mut State, B) -> Result<T, DiskError> + Send + 'static,
    ) -> Option<oneshot::Receiver<Result<T, DiskError>>> {
        let mut state = self.disk.state.lock();
        let state = &mut *state;
        if let Some(reach) = state.stop.at(&request) {
            match reach.chooser() {
                Some(mut chooser) => {
                    // A failure makes no difference where nobody hears of it.
                    let _ = begin(state, Some(&mut chooser));
                    carry_out(&request, self.disk.unit, &mut state.names, &mut chooser);
                }
                None if reach == Reach::Whole => {
                    let _ = begin(state, None).and_then(|begun| finish(state, begun));
                }
                None => {}
            }
            return None;
        }
        let begun = begin(state, None);
        let holder = Arc::clone(&self.holder);
        let (answer, answered) = oneshot::channel();
        let finish = move |state: &mut State| {
            let result = begun.and_then(|begun| finish(state, begun));
            // Who asks has the disk no longer when he has all answers.
            drop(holder);
            // Nobody may be waiting any more.
            let _ = answer.send(result);
        };
        if state.gate.holds(&request) {
            state.gate.hold(request, Box::new(finish));
        } else {
            finish(state);
        }
        Some(answered)
    }

    fn file(&self, name: String, content: SharedContent) -> Arc<dyn DiskFile> {
        let bytes = content.lock().len();
        Arc::new(MemoryFile {
            disk: self.clone(),
            name,
            content,
            bytes,
        })
    }

    fn failed(&self, message: &str) -> DiskError {
        let message = format!("{message} in {}", self.disk.path);
        DiskError::new(DiskErrorKind::Failed, message)
    }

    fn check_name(&self, name: &str) -> Result<(), DiskError> {
        if is_file_name(name) {
            return Ok(());
        }
        Err(self.failed(&format!("{name:?} is no name for a file")))
    }
}

impl State {
    fn create(&mut self, name: &str, unit: usize, bytes: u64) -> Result<SharedContent, DiskError> {
        if !bytes.is_multiple_of(LENGTH_MULTIPLE) {
            let message = format!("cannot create {name} with {bytes} bytes: in units of 4096");
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        if self.names.contains(name) {
            let message = format!("cannot create {name}: it exists");
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        let used = self.names.bytes();
        if self
            .capacity
            .is_some_and(|capacity| used.saturating_add(bytes) > capacity)
        {
            let message = format!("cannot create {name} with {bytes} bytes: the disk is full");
            return Err(DiskError::new(DiskErrorKind::NoSpace, message));
        }
        let content = Arc::new(Mutex::new(Content::new(unit, bytes)));
        self.names.create(name, Arc::clone(&content));
        Ok(content)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        if !self.names.contains(from) {
            let message = format!("cannot rename {from}: there is no such file");
            return Err(DiskError::new(DiskErrorKind::Failed, message));
        }
        self.names.rename(from, to);
        self.names.sync();
        Ok(())
    }
}

impl LocalDisk for OpenMemoryDisk {
    fn open<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn DiskFile>>, DiskError>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.check_name(&name)?;
            let request = Request::Open { name: name.clone() };
            let wanted = name.clone();
            let found = move |state: &mut State, ()| Ok(state.names.get(&wanted));
            let content = self.request(request, |_, _| Ok(()), found).await?;
            Ok(content.map(|content| self.file(name, content)))
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn DiskFile>, DiskError>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.check_name(&name)?;
            let request = Request::Create {
                name: name.clone(),
                bytes,
            };
            let unit = self.disk.unit;
            let wanted = name.clone();
            let begin = |state: &mut State, _: Option<&mut Chooser>| {
                state.counts.creations += 1;
                Ok(())
            };
            let create = move |state: &mut State, ()| state.create(&wanted, unit, bytes);
            let content = self.request(request, begin, create).await?;
            Ok(self.file(name, content))
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::pin(async move {
            self.check_name(&from)?;
            self.check_name(&to)?;
            let request = Request::Rename {
                from: from.clone(),
                to: to.clone(),
            };
            let rename = move |state: &mut State, ()| state.rename(&from, &to);
            self.request(request, |_, _| Ok(()), rename).await
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.check_name(&name)?;
            let request = Request::Remove { name: name.clone() };
            let remove = move |state: &mut State, ()| {
                state.names.remove(&name);
                state.names.sync();
                Ok(())
            };
            self.request(request, |_, _| Ok(()), remove).await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<String>, DiskError>> {
        let list = |state: &mut State, ()| Ok(state.names.list());
        Box::pin(self.request(Request::List, |_, _| Ok(()), list))
    }

    fn path(&self) -> String {
        self.disk.path.clone()
    }
}

impl MemoryFile {
    /// Refuses what is not in whole units inside the file.
    fn check(&self, verb: &str, offset: u64, len: u64) -> Result<(), DiskError> {
        let unit = self.disk.disk.unit as u64;
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.bytes);
        if inside && offset.is_multiple_of(unit) && len.is_multiple_of(unit) {
            return Ok(());
        }
        let message = format!(
            "cannot {verb} {len} bytes at {offset} of {}: it has {} bytes, in units of {unit}",
            self.name, self.bytes
        );
        Err(self.disk.failed(&message))
    }
}

/// The writes, each in one piece.
fn flatten(writes: &[DiskWrite], content: &SharedContent) -> Vec<Write> {
    let content = content.lock();
    let flat = writes.iter().map(|write| Write {
        offset: write.offset,
        bytes: Bytes::from(write.parts.concat()),
        is_over: content.was_written(write.offset),
    });
    flat.collect()
}

/// Carries out the writes, but for the sync; half of their units where they are to fail, and those
/// that the chooser chooses where there is one.
fn begin_write(
    state: &mut State,
    content: &SharedContent,
    name: &str,
    unit: usize,
    writes: &[Write],
    chooser: Option<&mut Chooser>,
) -> Result<(), DiskError> {
    let mut content = content.lock();
    if let Some(chooser) = chooser {
        for write in writes {
            let units = write.bytes.chunks(unit);
            for (offset, bytes) in (write.offset..).step_by(unit).zip(units) {
                if chooser.writes() {
                    content.write(offset, bytes);
                }
            }
        }
        return Ok(());
    }
    let fails = state.faults.strike(Fault::Write);
    for write in writes {
        let len = write.bytes.len();
        let written = if fails { len / unit / 2 * unit } else { len };
        content.write(write.offset, &write.bytes[..written]);
    }
    if fails {
        return Err(failed("write to", name));
    }
    Ok(())
}

fn finish_write(
    state: &mut State,
    content: &SharedContent,
    name: &str,
    durability: WriteDurability,
) -> Result<(), DiskError> {
    if durability == WriteDurability::Unsynced {
        return Ok(());
    }
    if state.faults.strike(Fault::Sync) {
        content.lock().fail_sync();
        return Err(failed("sync", name));
    }
    content.lock().sync();
    Ok(())
}

impl DiskFile for MemoryFile {
    fn block_bytes(&self) -> usize {
        self.disk.disk.unit
    }

    fn len(&self) -> u64 {
        self.bytes
    }

    fn write(
        &self,
        writes: Vec<DiskWrite>,
        durability: WriteDurability,
    ) -> BoxFuture<'_, Result<(), DiskError>> {
        Box::pin(async move {
            let writes = flatten(&writes, &self.content);
            for write in &writes {
                self.check("write", write.offset, write.bytes.len() as u64)?;
            }
            let request = Request::Write {
                name: self.name.clone(),
                writes: writes.clone(),
                durability,
            };
            let unit = self.disk.disk.unit;
            let begin = |state: &mut State, chooser: Option<&mut Chooser>| {
                state.counts.writes += 1;
                if durability == WriteDurability::Synced {
                    state.counts.syncs += 1;
                }
                begin_write(state, &self.content, &self.name, unit, &writes, chooser)
            };
            let (content, name) = (Arc::clone(&self.content), self.name.clone());
            let finish =
                move |state: &mut State, ()| finish_write(state, &content, &name, durability);
            self.disk.request(request, begin, finish).await
        })
    }

    fn read(&self, offset: u64, len: usize) -> BoxFuture<'_, Result<Bytes, DiskError>> {
        Box::pin(async move {
            self.check("read", offset, len as u64)?;
            let request = Request::Read {
                name: self.name.clone(),
                offset,
                len,
            };
            let begin = |state: &mut State, _: Option<&mut Chooser>| {
                state.counts.reads += 1;
                if state.faults.strike(Fault::Read) {
                    return Err(failed("read", &self.name));
                }
                Ok(())
            };
            let (content, name) = (Arc::clone(&self.content), self.name.clone());
            let read = move |_: &mut State, ()| {
                let content = content.lock();
                if content.len() < offset + len as u64 {
                    let message = format!("cannot read {name}: it was cut");
                    return Err(DiskError::new(DiskErrorKind::Failed, message));
                }
                if content.is_unreadable(offset, len as u64) {
                    let message = format!("cannot read {len} bytes at {offset} of {name}");
                    return Err(DiskError::new(DiskErrorKind::Unreadable, message));
                }
                Ok(Bytes::from(content.read(offset, len as u64)))
            };
            self.disk.request(request, begin, read).await
        })
    }
}
