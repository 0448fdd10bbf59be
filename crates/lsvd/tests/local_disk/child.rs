//! Tests that run in a process of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lsvd::doors::disk::{Directory, DiskError, DiskFile, DiskWrite, LocalDisk, WriteDurability};
use pollster::block_on;
use tokio::runtime::Runtime;

/// The directory that a test in a process of its own works in.
const DIRECTORY: &str = "LSVD_TEST_DIRECTORY";

/// The directory, in a process that [`command`] started; nothing in all others.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// `wrapper`, followed by this program running one test alone, which works in `directory`.
pub(crate) fn command(wrapper: &[&str], test: &str, directory: &Path) -> Command {
    let this = std::env::current_exe().expect("the test knows its own program");
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
        None => Command::new(this),
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory);
    command
}

/// Runs it to its end, and gives what it said where it did not pass.
pub(crate) fn run(mut command: Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?} (packages strace, util-linux): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && text.contains("1 passed") {
        return Ok(());
    }
    Err(text.into_owned())
}

/// A disk with the threads that it needs.
pub(crate) struct Disk {
    pub(crate) disk: Arc<Directory>,
    _runtime: Runtime,
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("threads can be had");
        Ok(Self {
            disk: Directory::open(path, runtime.handle().clone())?,
            _runtime: runtime,
        })
    }

    pub(crate) fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        block_on(self.disk.create(name, bytes))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        block_on(self.disk.list()).expect("files can be listed")
    }
}

/// Writes `bytes` bytes that are not zero, as one part, at `offset`.
pub(crate) fn write(
    file: &dyn DiskFile,
    offset: u64,
    bytes: usize,
    durability: WriteDurability,
) -> Result<(), DiskError> {
    let parts = vec![vec![7; bytes].into()];
    block_on(file.write(vec![DiskWrite { offset, parts }], durability))
}
