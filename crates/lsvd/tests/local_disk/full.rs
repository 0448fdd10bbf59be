//! A full disk: the error is clear, nothing is left behind, and freed space is used again.
//!
//! The test proper runs in a process of its own, with a small tmpfs mounted where only it sees it,
//! and once more with a limit on the size of files. Where mounting is not allowed `LSVD_TEST_NO_MOUNT=1`
//! leaves the small disk out.

use std::path::Path;
use std::process::Command;

use lsvd::doors::disk::{DiskError, DiskErrorKind, LocalDisk, WriteDurability};
use pollster::block_on;

use super::child::{self, Disk, write};

const NO_MOUNT: &str = "LSVD_TEST_NO_MOUNT";
const MIB: u64 = 1 << 20;

/// Mounts 8 MiB over the directory and runs the rest; the mount goes with the process.
const WITH_SMALL_DISK: &str =
    r#"mount -t tmpfs -o size=8m tmpfs "$LSVD_TEST_DIRECTORY" && exec "$0" "$@""#;

/// Allows files of at most 4 MiB (the unit of `ulimit -f` is 512 bytes), and lets a larger write
/// fail instead of killing the process.
const WITH_FILE_SIZE_LIMIT: &str = r#"trap "" XFSZ && ulimit -f 8192 && exec "$0" "$@""#;

fn may_mount() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--mount"],
        &["unshare", "--mount", "--map-root-user"],
    ];
    let works = |way: &&[&str]| {
        let tried = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    WAYS.into_iter().find(works)
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing() {
    if std::env::var_os(NO_MOUNT).is_some_and(|value| value == "1") {
        return;
    }
    let way = may_mount().expect(
        "a small disk can be mounted in a namespace of its own (where that is not allowed, set \
         LSVD_TEST_NO_MOUNT=1 to leave this test out)",
    );
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let wrapper = [way, &["sh", "-c", WITH_SMALL_DISK]].concat();
    let test = "full::fill_a_small_disk_in_a_process_of_its_own";
    child::run(child::command(&wrapper, test, temporary.path())).expect("the test passes");
}

#[test]
fn a_limit_on_files_is_a_clear_error_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let disk = Disk::open(temporary.path()).expect("the directory is free");
    disk.create("large", 8 * MIB)
        .expect("there is no limit yet");
    drop(disk);
    let wrapper = ["sh", "-c", WITH_FILE_SIZE_LIMIT];
    let test = "full::exceed_a_file_size_limit_in_a_process_of_its_own";
    child::run(child::command(&wrapper, test, temporary.path())).expect("the test passes");
}

fn assert_no_space<T>(result: Result<T, DiskError>, expected: &str) {
    let Err(error) = result else {
        panic!("there is room: {expected}");
    };
    assert_eq!(error.kind(), DiskErrorKind::NoSpace, "{error}");
    let message = error.to_string();
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("free some space"), "{message}");
}

#[test]
fn fill_a_small_disk_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    disk.create("a", 3 * MIB).expect("there is room");
    let file = disk.create("b", 3 * MIB).expect("there is room");
    for _ in 0..3 {
        assert_no_space(disk.create("c", 4 * MIB), "/c with 4194304 bytes");
        assert_eq!(
            disk.names().len(),
            2,
            "something was left: {:?}",
            disk.names()
        );
    }
    // What is there can be written as before.
    write(&*file, 0, 4096, WriteDurability::Synced).expect("overwriting needs no space");
    // What the failed ones took was given back.
    disk.create("c", MIB).expect("there is room");
    block_on(disk.disk.remove("a")).expect("it is there");
    disk.create("a", 3 * MIB).expect("there is room again");
    // A disk without any room, not even for the holder's name: what has its space can be used.
    drop((disk, file));
    fill_up(&directory);
    let disk = Disk::open(&directory).expect("it is locked all the same");
    assert!(Disk::open(&directory).is_err(), "it is held");
    let file = block_on(disk.disk.open("b")).expect("it can be opened");
    let file = file.expect("it is there");
    write(&*file, 0, 4096, WriteDurability::Synced).expect("overwriting needs no space");
}

/// Takes all space that is left.
fn fill_up(directory: &Path) {
    let filler = directory.join("filler");
    for bytes in [MIB, 4096, 1] {
        let bytes = vec![0; usize::try_from(bytes).expect("it is small")];
        let mut file = std::fs::OpenOptions::new();
        let mut file = file
            .append(true)
            .create(true)
            .open(&filler)
            .expect("a file");
        while std::io::Write::write_all(&mut file, &bytes).is_ok() {}
    }
}

#[test]
fn exceed_a_file_size_limit_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    assert_no_space(disk.create("new", 8 * MIB), "/new with 8388608 bytes");
    assert_eq!(disk.names(), ["large"]);
    disk.create("new", 2 * MIB).expect("it is below the limit");
    // The system writes what is below the limit, and says that it wrote less than asked.
    let large = block_on(disk.disk.open("large")).expect("it can be opened");
    let large = large.expect("it is there");
    let across = write(&*large, 3 * MIB, 2 << 20, WriteDurability::Synced);
    assert_no_space(across, "write bytes 3145728..5242880 of");
    let found = block_on(large.read(0, 8 << 20)).expect("it can be read");
    assert_eq!((found[(3 << 20) - 1], found[3 << 20]), (0, 7));
    assert_eq!((found[(4 << 20) - 1], found[4 << 20]), (7, 0));
}
