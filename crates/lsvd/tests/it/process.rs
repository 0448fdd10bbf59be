//! A process whose log alone takes data: what it leaves there when it dies is all that there is.

use std::sync::Arc;
use std::time::Duration;

use lsvd::doors::disk::LocalDisk;
use lsvd::doors::runtime::{Runtime, TokioRuntime};
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd::{OpenOptions, Result, Volume};
use lsvd_sim::disk::{Fault as DiskFault, MemoryDisk};
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::{LOG_BYTES, OBJECT_BYTES, create};

/// What every record begins with.
pub(crate) const RECORD: &[u8] = b"LSVDrec\n";

/// Where its flags are, and what they say.
pub(crate) const FLAGS_AT: usize = 10;
pub(crate) const FLAG_END: u8 = 1;
const FLAG_MARK: u8 = 2;

pub(crate) fn options() -> OpenOptions {
    OpenOptions {
        log_bytes: LOG_BYTES,
        seal_timeout: Duration::from_secs(3600),
        retry_timeout: Duration::from_millis(50),
        ..OpenOptions::new("this machine")
    }
}

/// A process with a volume open in a store that takes no data.
pub(crate) struct Process {
    pub(crate) threads: tokio::runtime::Runtime,
    pub(crate) store: Arc<Faulty>,
}

impl Process {
    pub(crate) fn new(store: &Arc<MemoryStore>) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(Faulty::new(store.clone()));
        let refuse = Fault::Refuse(StoreErrorKind::Unavailable);
        store.fail_next_of("data.", Verb::Put, u64::MAX, refuse);
        Self { threads, store }
    }

    pub(crate) fn open(&self, disk: &MemoryDisk, options: &OpenOptions) -> Result<Volume> {
        let runtime = Arc::new(TokioRuntime::on(self.threads.handle().clone()));
        let disk = disk.open().unwrap() as Arc<dyn LocalDisk>;
        let store = self.store.clone() as Arc<dyn ObjectStore>;
        Volume::open(store, &disk, runtime as Arc<dyn Runtime>, options)
    }

    /// Ends it where the opening failed.
    pub(crate) fn end(self) {
        self.threads.shutdown_timeout(Duration::from_secs(60));
    }

    pub(crate) fn kill(self, volume: Volume) {
        self.threads.shutdown_timeout(Duration::from_secs(60));
        drop(volume);
    }
}

/// Waits until the mark behind the last record is there.
pub(crate) fn wait_for_mark(disk: &MemoryDisk) {
    crate::world::wait_for("the last mark", || {
        let log = disk.snapshot("log").unwrap();
        let mut sectors = log.chunks(512);
        let last = sectors.rfind(|sector| sector.starts_with(RECORD));
        last.is_some_and(|last| last[FLAGS_AT] & FLAG_MARK != 0)
    });
}

/// The sectors of the log that begin with these bytes.
pub(crate) fn sectors_with(disk: &MemoryDisk, bytes: &[u8]) -> Vec<u64> {
    let log = disk.snapshot("log").unwrap();
    let sectors = (0..).zip(log.chunks(512));
    let found = sectors.filter(|(_, sector)| sector.starts_with(bytes));
    found.map(|(number, _)| number).collect()
}

/// Writes four sectors' worth one after the other, each flushed, and lets the mark behind the last
/// get there.
pub(crate) fn four_flushed(process: &Process, disk: &MemoryDisk) -> Volume {
    let volume = process.open(disk, &options()).unwrap();
    for number in 1..=4_u8 {
        let data = [number; 4096];
        volume.write(u64::from(number) * 4096, &data).unwrap();
        volume.flush().unwrap();
    }
    wait_for_mark(disk);
    volume
}

/// A new volume, and the log that a process left behind which wrote [`four_flushed`] and was killed.
pub(crate) fn four_left() -> (Arc<MemoryStore>, MemoryDisk) {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let process = Process::new(&store);
    let volume = four_flushed(&process, &disk);
    process.kill(volume);
    (store, disk)
}

/// The same on the first of two machines, and the second has taken the volume over since, and closed it.
pub(crate) fn four_left_behind() -> (Arc<MemoryStore>, [MemoryDisk; 2]) {
    let (store, disk) = four_left();
    let hosts = [disk, MemoryDisk::new(512)];
    take_over_and_close(&store, &hosts[1]);
    (store, hosts)
}

/// A new volume, and the log that a process left behind whose sync had failed: what it wrote may be in a
/// cache alone.
pub(crate) fn unsynced_left() -> (Arc<MemoryStore>, MemoryDisk) {
    let store = Arc::new(MemoryStore::new());
    create(&store);
    let disk = MemoryDisk::new(512);
    let process = Process::new(&store);
    let volume = process.open(&disk, &options()).unwrap();
    disk.fail_next(DiskFault::Sync);
    for number in 0..OBJECT_BYTES / 16384 {
        // That of some the answer is an error is right; it is not what this is about.
        let _answer = volume.write(number * 16384, &[7; 16384]);
    }
    assert!(volume.flush().is_err(), "its sync failed");
    process.kill(volume);
    (store, disk)
}

/// Another process takes the volume over, stores what it has, and closes it.
pub(crate) fn take_over_and_close(store: &Arc<MemoryStore>, disk: &MemoryDisk) {
    let process = Process::new(store);
    let taking = OpenOptions {
        take_over: true,
        ..options()
    };
    let volume = process.open(disk, &taking).unwrap();
    process.store.mend();
    volume.close().unwrap();
    process.kill(volume);
}
