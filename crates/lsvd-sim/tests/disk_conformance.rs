//! The conformance suite on the real directory, past the page cache and through it, and on the
//! simulated disk.

use std::path::Path;
use std::sync::Arc;

use lsvd::doors::disk::{Directory, DirectoryOptions, DiskError, LocalDisk};
use lsvd_sim::disk::MemoryDisk;
use lsvd_sim::disk_conformance::files_may_exceed_4_gib;
use lsvd_sim::disk_conformance_tests;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A directory of the file system that has the build, which mostly is one that allows to pass the
/// page cache by.
fn on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made")
}

/// A directory in memory, where there is no direct I/O worth the name.
fn in_memory() -> TempDir {
    let tmpfs = Path::new("/dev/shm");
    let made = if tmpfs.is_dir() {
        tempfile::tempdir_in(tmpfs)
    } else {
        tempfile::tempdir()
    };
    made.expect("a directory can be made")
}

type Opened = Result<Arc<dyn LocalDisk>, DiskError>;

fn directory(temporary: TempDir, options: DirectoryOptions) -> (impl Fn() -> Opened, impl Sized) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("threads can be had");
    let handle = runtime.handle().clone();
    let path = temporary.path().join("made/on/the/way");
    let open = move || -> Opened {
        let disk = Directory::open_with(&path, handle.clone(), options)?;
        Ok(disk)
    };
    let guard: (TempDir, Runtime) = (temporary, runtime);
    (open, guard)
}

fn memory(unit: usize) -> (impl Fn() -> Opened, ()) {
    let disk = MemoryDisk::new(unit);
    let open = move || -> Opened {
        let disk = disk.open()?;
        Ok(disk)
    };
    (open, ())
}

fn usual() -> DirectoryOptions {
    DirectoryOptions::default()
}

fn buffered() -> DirectoryOptions {
    let mut options = usual();
    options.direct_io = false;
    options
}

fn large_units() -> DirectoryOptions {
    let mut options = usual();
    options.unit_min = 4096;
    options
}

fn sparse() -> DirectoryOptions {
    let mut options = usual();
    options.fill_new_files = false;
    options
}

disk_conformance_tests!(directory_on_disk, directory(on_disk(), usual()));
disk_conformance_tests!(directory_on_disk_buffered, directory(on_disk(), buffered()));
disk_conformance_tests!(
    directory_on_disk_of_large_units,
    directory(on_disk(), large_units())
);
disk_conformance_tests!(directory_of_sparse_files, directory(on_disk(), sparse()));
disk_conformance_tests!(directory_in_memory, directory(in_memory(), usual()));
disk_conformance_tests!(
    directory_in_memory_buffered,
    directory(in_memory(), buffered())
);
disk_conformance_tests!(memory_disk_of_512, memory(512));
disk_conformance_tests!(memory_disk_of_4096, memory(4096));

#[test]
fn files_above_4_gib_on_disk() {
    let (open, _guard) = directory(on_disk(), sparse());
    files_may_exceed_4_gib(&open);
}

#[test]
fn files_above_4_gib_in_memory() {
    let (open, _guard) = directory(in_memory(), sparse());
    files_may_exceed_4_gib(&open);
}

#[test]
fn files_above_4_gib_simulated() {
    let (open, ()) = memory(512);
    files_may_exceed_4_gib(&open);
}
