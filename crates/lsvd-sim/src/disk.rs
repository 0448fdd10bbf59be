//! A local disk in memory that loses power, fails and waits when a test says so.
//!
//! A [`MemoryDisk`] is the disk; the engine gets what [`open`](MemoryDisk::open) gives, which holds
//! the disk's lock as a directory would. Requests are carried out one after another, so a run with
//! one thread is repeated exactly.
//!
//! - What a power loss leaves is told by [`crash`](MemoryDisk::crash), and what whoever is killed
//!   leaves by [`kill`](MemoryDisk::kill), each as a new disk: the old one goes on as if nothing had
//!   happened, so many crashes can be tried at one moment. What was killed and never synced may still
//!   be lost by a later crash.
//! - [`fail_next`](MemoryDisk::fail_next) lets requests fail.
//! - [`hold_when`](MemoryDisk::hold_when) stops requests: they are begun, and neither done nor
//!   answered until the test releases them.
//! - [`stop_when`](MemoryDisk::stop_when) lets the disk stop in the middle of a request, before its
//!   sync or after, for whoever uses it to be killed there.

pub(crate) mod content;
pub(crate) mod crash;
mod fault;
mod gate;
mod names;
mod open;
mod request;
mod stop;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use lsvd::doors::disk::{DiskError, DiskErrorKind};
use lsvd::sync::Signal;
use parking_lot::Mutex;

use content::Content;
pub use crash::Survivors;
pub use fault::Fault;
use fault::Faults;
use gate::Gate;
use names::{Names, SharedContent};
use open::Holder;
pub use open::OpenMemoryDisk;
pub use request::{Request, Write};
pub use stop::Reach;
use stop::Stop;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: String,
    unit: usize,
    state: Mutex<State>,
    /// Notified when a request is held.
    held: Signal,
    /// Notified when the disk stops.
    stopped: Signal,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// Most bytes of all files together, where there is a limit.
    capacity: Option<u64>,
    holder: Weak<Holder>,
    faults: Faults,
    gate: Gate,
    stop: Stop,
    counts: Counts,
}

/// Requests that were begun since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests to write, synced or not.
    pub writes: u64,
    /// Those of them that were to be synced.
    pub syncs: u64,
    /// Requests to read.
    pub reads: u64,
    /// Files that were to be created.
    pub creations: u64,
}

impl MemoryDisk {
    /// An empty disk that writes in units of `unit` bytes, 512 or 4096.
    #[must_use]
    pub fn new(unit: usize) -> Self {
        Self::at("/simulated/disk", unit)
    }

    /// The same with a path of its own, as messages and the volume's claim show it.
    ///
    /// # Panics
    /// Where the unit is neither 512 nor 4096.
    #[must_use]
    pub fn at(path: impl Into<String>, unit: usize) -> Self {
        assert!(unit == 512 || unit == 4096, "no disk has units of {unit}");
        Self::with(path.into(), unit, State::default())
    }

    fn with(path: String, unit: usize, state: State) -> Self {
        Self {
            shared: Arc::new(Shared {
                path,
                unit,
                state: Mutex::new(state),
                held: Signal::default(),
                stopped: Signal::default(),
            }),
        }
    }

    /// Opens the disk for the engine. It, and every file that is opened with it, holds the lock.
    ///
    /// # Errors
    /// `InUse` where somebody has it.
    pub fn open(&self) -> Result<Arc<OpenMemoryDisk>, DiskError> {
        let mut state = self.shared.state.lock();
        if state.holder.upgrade().is_some() {
            let message = format!(
                "directory {} is in use by another volume of this process; close that one, or \
                 choose another directory",
                self.shared.path
            );
            return Err(DiskError::new(DiskErrorKind::InUse, message));
        }
        let holder = Arc::new(Holder);
        state.holder = Arc::downgrade(&holder);
        Ok(Arc::new(OpenMemoryDisk::new(&self.shared, holder)))
    }

    /// Lets the disk take `bytes` bytes of files and no more.
    pub fn limit(&self, bytes: u64) {
        self.shared.state.lock().capacity = Some(bytes);
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().names.bytes()
    }

    /// Lets the next request that `fault` is about fail.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_after(0, fault);
    }

    /// Lets `requests` requests that `fault` is about pass, and the one behind them fail.
    pub fn fail_after(&self, requests: u64, fault: Fault) {
        self.shared.state.lock().faults.add(fault, requests);
    }

    /// Requests that were begun so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().counts
    }

    /// The names of all files, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shared.state.lock().names.list()
    }

    /// The bytes of a file as a read would find them now, if there is such a file.
    #[must_use]
    pub fn snapshot(&self, name: &str) -> Option<Vec<u8>> {
        let content = self.content(name)?;
        let content = content.lock();
        Some(content.read(0, content.len()))
    }

    /// Damages a file: turns every bit of the byte at `offset` over, durable at once, so that it
    /// never stays what it was.
    ///
    /// # Panics
    /// Where there is no such file, or it is too short.
    pub fn flip(&self, name: &str, offset: u64) {
        let content = self.content(name);
        let content = content.unwrap_or_else(|| panic!("no file {name} to damage"));
        content.lock().flip(offset);
    }

    /// Damages a file: no unit that these bytes touch can be read, whatever is there, until something
    /// else is stored in its place.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn spoil(&self, name: &str, offset: u64, len: u64) {
        let content = self.content(name);
        let content = content.unwrap_or_else(|| panic!("no file {name} to damage"));
        content.lock().spoil(offset, len);
    }

    /// Lets every unit be read again that could not be, as it was.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn mend(&self, name: &str) {
        let content = self.content(name);
        let content = content.unwrap_or_else(|| panic!("no file {name} to mend"));
        content.lock().mend();
    }

    /// Damages a file: cuts off all behind `bytes` bytes, durable at once.
    ///
    /// # Panics
    /// Where there is no such file, or it is shorter.
    pub fn cut(&self, name: &str, bytes: u64) {
        let content = self.content(name);
        let content = content.unwrap_or_else(|| panic!("no file {name} to cut"));
        content.lock().cut(bytes);
    }

    /// Puts a file there, durable at once, in the place of what has that name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let content = Content::of(self.shared.unit, bytes);
        let mut state = self.shared.state.lock();
        state.names.put(name, Arc::new(Mutex::new(content)));
    }

    fn content(&self, name: &str) -> Option<SharedContent> {
        self.shared.state.lock().names.get(name)
    }
}
