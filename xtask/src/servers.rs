//! The servers that the judge is tried on: ours, and others where the answer is known or worth
//! knowing. Each is asked for what it promises and no more.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::needs;
use crate::step::said;

/// A server that can be killed, or lose its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// A lasting volume of ours
    Lsvd,
    /// qemu-nbd on a raw file, cache=writeback
    QemuNbd,
    /// The same with cache=unsafe, which ignores flushes
    QemuNbdUnsafe,
    /// nbdkit on a raw file
    NbdkitFile,
    /// nbdkit, a disk in memory: it loses everything
    NbdkitMemory,
}

impl Server {
    pub(crate) const ALL: [Self; 5] = [
        Self::Lsvd,
        Self::QemuNbd,
        Self::QemuNbdUnsafe,
        Self::NbdkitFile,
        Self::NbdkitMemory,
    ];

    /// As the tables have it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Lsvd => "`lsvd serve`",
            Self::QemuNbd => "`qemu-nbd`, raw file, `cache=writeback`",
            Self::QemuNbdUnsafe => "`qemu-nbd`, raw file, `cache=unsafe`",
            Self::NbdkitFile => "`nbdkit file`",
            Self::NbdkitMemory => "`nbdkit memory`",
        }
    }

    /// The program of another project.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Lsvd => None,
            Self::QemuNbd | Self::QemuNbdUnsafe => Some("qemu-nbd"),
            Self::NbdkitFile | Self::NbdkitMemory => Some("nbdkit"),
        }
    }

    /// What this machine lacks for it.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        self.program().filter(|program| !needs::is_there(program))
    }

    /// What it says of its version.
    pub(crate) fn version(self, lsvd: &Path) -> Result<String, String> {
        let program = self.program().map_or(lsvd, Path::new);
        let said = said(Command::new(program).arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// What it owes, in the judge's words. Ours keeps a prefix and each write of up to 1 MiB whole.
    /// The others are disks: NBD asks for what was flushed, promises no order, and does not say what
    /// a trimmed sector shows.
    pub(crate) const fn owes(self) -> &'static [&'static str] {
        match self {
            Self::Lsvd => &["--expect", "flushed"],
            Self::QemuNbd | Self::QemuNbdUnsafe | Self::NbdkitFile | Self::NbdkitMemory => {
                &["--expect", "disk", "--no-trim"]
            }
        }
    }

    /// The command of another project's server, for the shell: it serves the file `disk` at
    /// `address`, its own options for that.
    fn foreign(self, disk: &str, address: &str) -> Option<String> {
        let command = match self {
            Self::Lsvd => return None,
            Self::QemuNbd => format!(
                "qemu-nbd -t -e 64 -f raw --discard=unmap --cache=writeback {address} {disk}"
            ),
            Self::QemuNbdUnsafe => {
                format!("qemu-nbd -t -e 64 -f raw --discard=unmap --cache=unsafe {address} {disk}")
            }
            Self::NbdkitFile => format!("nbdkit -f {address} file {disk}"),
            Self::NbdkitMemory => format!("nbdkit -f {address} memory 256M"),
        };
        Some(command)
    }

    /// Serves the file `disk` in its own folder at the socket `s` there.
    pub(crate) fn at_socket(self) -> Option<String> {
        let socket = match self.program()? {
            // It takes no relative path.
            "qemu-nbd" => "-k \"$PWD/s\"",
            _ => "-U s",
        };
        self.foreign("disk", socket)
    }

    /// Serves the file `disk` at a port of all addresses.
    pub(crate) fn at_port(self, disk: &str, port: u16) -> Option<String> {
        let address = match self.program()? {
            "qemu-nbd" => format!("-b 0.0.0.0 -p {port}"),
            _ => format!("-i 0.0.0.0 -p {port}"),
        };
        self.foreign(disk, &address)
    }

    /// The files that another project's server consists of, besides the libraries that these name.
    pub(crate) fn files(self) -> Result<Vec<PathBuf>, String> {
        let Some(program) = self.program() else {
            return Ok(Vec::new());
        };
        let path = needs::find(program).ok_or_else(|| format!("there is no {program}"))?;
        let mut files = vec![path];
        if self == Self::NbdkitFile {
            let config = said(Command::new("nbdkit").arg("--dump-config"))?;
            let folder = config
                .lines()
                .find_map(|line| line.strip_prefix("plugindir="));
            let folder = folder.ok_or("nbdkit does not say where its plugins are")?;
            files.push(Path::new(folder).join("nbdkit-file-plugin.so"));
        }
        Ok(files)
    }
}
