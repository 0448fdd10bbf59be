//! A real tree of files, gathered from the machine's own, and its comparison with a copy.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Bytes of the tree unless `LSVD_TEST_TREE_BYTES` says otherwise.
const DEFAULT_BYTES: u64 = 100 << 20;

/// Longest file that is taken: a tree is many files, not one large one.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Copies files and symbolic links into `target` until enough bytes are there; returns how many.
///
/// They come from the directories in `LSVD_TEST_TREES` (separated by colons), or from `/usr`.
pub(crate) fn gather(target: &Path) -> u64 {
    let wanted = std::env::var("LSVD_TEST_TREE_BYTES").map_or(DEFAULT_BYTES, |bytes| {
        bytes.parse().expect("LSVD_TEST_TREE_BYTES is a number")
    });
    let sources = std::env::var("LSVD_TEST_TREES").unwrap_or_else(|_| "/usr".to_owned());
    let mut bytes = 0;
    for (number, source) in sources.split(':').enumerate() {
        let below = target.join(number.to_string());
        copy(Path::new(source), &below, wanted, &mut bytes);
    }
    assert!(
        bytes >= wanted,
        "only {bytes} of {wanted} bytes in {sources}: name more directories in LSVD_TEST_TREES"
    );
    bytes
}

fn copy(from: &Path, to: &Path, wanted: u64, bytes: &mut u64) {
    fs::create_dir(to).unwrap();
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if *bytes >= wanted {
            return;
        }
        let target = to.join(path.file_name().unwrap());
        // The machine's own programs make and remove files there, as Python does its caches.
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.unwrap(),
        };
        if metadata.is_dir() {
            copy(&path, &target, wanted, bytes);
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), &target).unwrap();
        } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
            *bytes += match fs::copy(&path, &target) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                copied => copied.unwrap(),
            };
        }
    }
}

/// Every file of `left` is in `right` with the same content, and the other way round.
#[track_caller]
pub(crate) fn assert_same_tree(left: &Path, right: &Path) {
    let (names, others) = (listing(left), listing(right));
    let only = |a: &BTreeMap<PathBuf, Kind>, b: &BTreeMap<PathBuf, Kind>| {
        a.keys()
            .filter(|name| !b.contains_key(*name))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        only(&names, &others),
        Vec::<PathBuf>::new(),
        "only in {}",
        left.display()
    );
    assert_eq!(
        only(&others, &names),
        Vec::<PathBuf>::new(),
        "only in {}",
        right.display()
    );
    for (name, kind) in &names {
        assert_eq!(others.get(name), Some(kind), "{}", name.display());
        if *kind == Kind::File {
            let (a, b) = (fs::read(left.join(name)), fs::read(right.join(name)));
            assert!(a.unwrap() == b.unwrap(), "{} differs", name.display());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Link(PathBuf),
}

fn listing(root: &Path) -> BTreeMap<PathBuf, Kind> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            // Every ext4 has this one, whatever was put into it.
            if name == Path::new("lost+found") {
                continue;
            }
            let kind = if metadata.is_dir() {
                waiting.push(path);
                Kind::Directory
            } else if metadata.is_symlink() {
                Kind::Link(fs::read_link(&path).unwrap())
            } else {
                Kind::File
            };
            found.insert(name, kind);
        }
    }
    found
}
