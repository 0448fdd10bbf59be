//! The guest's first and only file system: busybox, the kernel's modules, and the program with its
//! libraries, in an archive as the kernel unpacks it (cpio, "newc").

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::Packages;
use crate::step::{Outcome, said};

/// Modules that the guest needs, with those that they name. What a kernel has built in is missing
/// among them, which shows when the guest finds no disk.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
];

/// What the guest does.
const INIT: &str = include_str!("init.sh");

/// A machine id like any other: a volume knows by it that its log is here.
const MACHINE_ID: &str = "6c7376642d706f7765722d6375742d31\n";

/// A program, or a library that nothing names.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) file: PathBuf,
    /// Its path in the guest.
    pub(super) to: PathBuf,
}

/// Writes the archive that boots into `serve`, shell commands that run these programs.
pub(super) fn write(to: &Path, packages: &Packages, programs: &[Program], serve: &str) -> Outcome {
    let mut archive = Archive::default();
    for folder in ["dev", "disk", "proc", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("serve", 0o755, serve.as_bytes());
    archive.file("etc/machine-id", 0o644, MACHINE_ID.as_bytes());
    archive.file("bin/busybox", 0o755, &read(&packages.busybox()?)?);
    let mut named = BTreeSet::new();
    for program in programs {
        archive.file(&inside(&program.to), 0o755, &read(&program.file)?);
        named.extend(libraries(&program.file)?);
    }
    for library in named {
        archive.file(&inside(&library), 0o755, &read(&library)?);
    }
    let mut order = String::new();
    for (name, module) in modules(packages)? {
        archive.file(&format!("modules/{name}.ko"), 0o644, &module);
        order += &format!("{name}\n");
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    fs::write(to, archive.end()).map_err(|error| format!("cannot write {}: {error}", to.display()))
}

/// A path of the guest as the archive has it.
fn inside(path: &Path) -> String {
    let path = path.strip_prefix("/").unwrap_or(path);
    path.to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The shared libraries of a program, and what loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let text = said(Command::new("ldd").arg(program))?;
    let mut libraries = Vec::new();
    for line in text.lines() {
        // `libc.so.6 => /lib/libc.so.6 (0x...)`, or the loader's path alone.
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path {
            libraries.push(PathBuf::from(path));
        } else if line.contains("not found") {
            return Err(format!("{} lacks {}", program.display(), line.trim()));
        }
    }
    Ok(libraries)
}

/// The modules in the order in which they have to be loaded.
fn modules(packages: &Packages) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = Vec::new();
    find(&packages.modules()?.join("kernel"), &mut files)?;
    let mut loaded = Vec::new();
    let mut seen = BTreeSet::new();
    for name in MODULES {
        load(name, &files, &mut seen, &mut loaded)?;
    }
    Ok(loaded)
}

/// All files below `folder`.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            find(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Adds a module behind those that it depends on.
fn load(
    name: &str,
    files: &[PathBuf],
    seen: &mut BTreeSet<String>,
    loaded: &mut Vec<(String, Vec<u8>)>,
) -> Outcome {
    let name = name.replace('-', "_");
    if !seen.insert(name.clone()) {
        return Ok(());
    }
    let is_it = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = file.split('.').next().unwrap_or_default();
        stem.replace('-', "_") == name
    };
    // One that is not there is built in.
    let Some(path) = files.iter().find(is_it) else {
        return Ok(());
    };
    let module = if path.extension().is_some_and(|ending| ending == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output();
        let output = output.map_err(|error| format!("cannot run xz: {error}"))?;
        if !output.status.success() {
            return Err(format!("xz cannot unpack {}", path.display()));
        }
        output.stdout
    } else {
        read(path)?
    };
    for needed in depends(&module) {
        load(&needed, files, seen, loaded)?;
    }
    loaded.push((name, module));
    Ok(())
}

/// The names that a module says it depends on: `depends=a,b` between two zero bytes.
fn depends(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|byte| *byte == 0);
    let names = strings.find_map(|string| string.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(names.unwrap_or_default()).into_owned();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// A cpio archive under way.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds a folder with those above it.
    fn folder(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        if self.folders.insert(path.to_owned()) {
            self.entry(path, 0o040_755, &[]);
        }
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, 0o100_000 | mode, content);
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_what_it_needs() {
        let module = b"\x7fELF\0depends=mbcache,jbd2\0intree=Y\0";
        assert_eq!(depends(module), ["mbcache", "jbd2"]);
        assert!(depends(b"\0depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }

    #[test]
    fn an_archive_is_what_cpio_reads() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.file("a/b/c", 0o644, b"content");
        archive.file("a/d", 0o755, b"more");
        let folder = std::env::temp_dir().join(format!("xtask-cpio-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("archive");
        fs::write(&file, archive.end()).unwrap();
        // Read by another's hand: tar knows the format where it is libarchive's, cpio is not
        // everywhere, Python's standard library has neither; so by the offsets of the format.
        let bytes = fs::read(&file).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let mut names = Vec::new();
        let mut at = 0;
        let field = |at: usize, index: usize| {
            let start = at + 6 + index * 8;
            let text = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (content, name) = (field(at, 6), field(at, 11));
            let start = at + 110;
            names.push(String::from_utf8_lossy(&bytes[start..start + name - 1]).into_owned());
            at = (start + name).next_multiple_of(4);
            at = (at + content).next_multiple_of(4);
        }
        assert_eq!(names, ["dev", "a", "a/b", "a/b/c", "a/d", "TRAILER!!!"]);
    }
}
