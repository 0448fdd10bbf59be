//! The servers, and the storage that each gets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Listening, own_program};

/// A server with its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lsvd,
    LsvdLasting,
    LsvdNull,
    QemuNull,
    NbdkitNull,
    QemuFile,
    QemuFileUring,
    NbdkitFile,
    NbdkitMemory,
}

/// A new folder with room for a socket, a file or a volume. Dropping it removes all of it.
#[derive(Debug)]
pub(crate) struct Storage {
    folder: TempDir,
    bytes: u64,
}

impl Storage {
    pub(crate) fn new(directory: &Path, bytes: u64) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", directory.display());
        // Its path goes into the URI of a socket, where it must be whole.
        let directory = std::path::absolute(directory).map_err(failed)?;
        let folder = tempfile::Builder::new()
            .prefix("lsvd-bench-")
            .tempdir_in(directory)
            .map_err(failed)?;
        Ok(Self { folder, bytes })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket().display())
    }

    /// A sparse file of the size of the disk.
    pub(crate) fn file(&self) -> Result<PathBuf, String> {
        let path = self.folder.path().join("disk");
        File::create(&path)
            .and_then(|file| file.set_len(self.bytes))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Kind {
    /// What requests a second are measured of; a volume that lasts answers them as an ephemeral one
    /// does.
    pub(crate) const ALL: [Self; 8] = [
        Self::Lsvd,
        Self::QemuFile,
        Self::QemuFileUring,
        Self::NbdkitFile,
        Self::NbdkitMemory,
        Self::LsvdNull,
        Self::QemuNull,
        Self::NbdkitNull,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lsvd => "lsvd, ephemeral, local directory",
            Self::LsvdLasting => "lsvd, lasting, local directory",
            Self::LsvdNull => "lsvd-nbd, null device",
            Self::QemuNull => "qemu-nbd, null-co",
            Self::NbdkitNull => "nbdkit null",
            Self::QemuFile => "qemu-nbd, raw file, writeback",
            Self::QemuFileUring => "qemu-nbd, raw file, writeback, io_uring",
            Self::NbdkitFile => "nbdkit file",
            Self::NbdkitMemory => "nbdkit memory",
        }
    }

    /// Why it cannot be measured here, if it cannot.
    pub(crate) fn unavailable(self) -> Option<String> {
        let storage = match Storage::new(&std::env::temp_dir(), 1 << 20) {
            Ok(storage) => storage,
            Err(error) => return Some(error),
        };
        self.start(&storage).err()
    }

    /// Starts it.
    pub(crate) fn start(self, storage: &Storage) -> Result<Listening, String> {
        let socket = storage.socket();
        let mut command = self.command(storage)?;
        Listening::start(&mut command, &socket)
    }

    fn command(self, storage: &Storage) -> Result<Command, String> {
        let socket = storage.socket();
        let bytes = storage.bytes.to_string();
        let mut command;
        match self {
            Self::Lsvd => {
                command = Command::new(own_program("lsvd")?);
                command.arg("serve").arg(storage.folder.path().join("vol"));
                command.args(["--ephemeral", "--create", &bytes, "--socket"]);
                command.arg(socket);
            }
            Self::LsvdLasting => {
                command = Command::new(own_program("lsvd")?);
                command.arg("serve").arg(storage.folder.path().join("vol"));
                command.args(["--create", &bytes, "--socket"]).arg(socket);
            }
            Self::LsvdNull => {
                command = Command::new(own_program("null")?);
                command.arg(socket).arg(bytes);
            }
            Self::QemuNull => {
                command = qemu_nbd(&socket);
                let options = format!("driver=raw,file.driver=null-co,file.size={bytes}");
                command.args(["--image-opts", &options]);
            }
            Self::QemuFile => {
                command = qemu_nbd(&socket);
                command
                    .args(["--cache=writeback", "-f", "raw"])
                    .arg(storage.file()?);
            }
            Self::QemuFileUring => {
                command = qemu_nbd(&socket);
                command.args(["--cache=writeback", "--aio=io_uring", "-f", "raw"]);
                command.arg(storage.file()?);
            }
            Self::NbdkitNull => {
                command = nbdkit(&socket);
                command.args(["null", &bytes]);
            }
            Self::NbdkitMemory => {
                command = nbdkit(&socket);
                command.args(["memory", &bytes]);
            }
            Self::NbdkitFile => {
                command = nbdkit(&socket);
                command.arg("file").arg(storage.file()?);
            }
        }
        Ok(command)
    }
}

fn qemu_nbd(socket: &Path) -> Command {
    let mut command = Command::new("qemu-nbd");
    command.args(["--persistent", "--shared=16", "--discard=unmap", "-k"]);
    command.arg(socket);
    command
}

fn nbdkit(socket: &Path) -> Command {
    let mut command = Command::new("nbdkit");
    command.args(["--foreground", "-U"]).arg(socket);
    command
}
