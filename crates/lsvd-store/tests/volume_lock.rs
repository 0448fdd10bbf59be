//! The directory of a volume that lasts: one writer, whom the lock file names, and taking over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use lsvd::ErrorKind;
use lsvd::doors::store::ObjectStore;
use lsvd_store::{LocalDirectory, Missing, Occupied};
use pollster::block_on;
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn volume() -> TempDir {
    let scratch = scratch();
    fs::write(scratch.path().join("superblock.00000000"), "x").unwrap();
    scratch
}

fn open(path: &Path) -> lsvd::Result<LocalDirectory> {
    LocalDirectory::open_volume(path, Missing::Refuse, Occupied::Refuse)
}

fn take_over(path: &Path) -> lsvd::Result<LocalDirectory> {
    LocalDirectory::open_volume(path, Missing::Refuse, Occupied::TakeOver)
}

fn make(path: &Path) -> lsvd::Result<LocalDirectory> {
    LocalDirectory::open_volume(path, Missing::Make, Occupied::Refuse)
}

fn put(store: &LocalDirectory, name: &str) {
    block_on(store.put(name, vec![Bytes::from_static(b"x")])).unwrap();
}

#[track_caller]
fn assert_refused(result: lsvd::Result<LocalDirectory>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    let holder = format!("in use by process {} on host ", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let volume = volume();
    let first = open(volume.path()).unwrap();
    let attempts = [
        (open(volume.path()), "--take-over"),
        // Whoever is to make a volume has none to take over.
        (make(volume.path()), "choose another directory"),
    ];
    for (second, instead) in attempts {
        let error = second.as_ref().unwrap_err();
        assert!(error.to_string().contains(instead), "{error}");
        assert_refused(second);
    }
    assert_refused(LocalDirectory::create_empty(volume.path()));
    LocalDirectory::open_read_only(volume.path()).unwrap();
    put(&first, "data.00000000");
    drop(first);
    drop(open(volume.path()).unwrap());
    let left = fs::read(volume.path().join("lsvd.lock")).unwrap();
    assert_eq!(left, b"", "it names a writer that is gone");
}

#[test]
fn a_lock_file_that_a_killed_process_left_keeps_nobody_out() {
    let volume = volume();
    fs::write(volume.path().join("lsvd.lock"), "pid 1 host elsewhere\n").unwrap();
    let store = open(volume.path()).unwrap();
    assert_refused(open(volume.path()));
    drop(store);
}

#[test]
fn whoever_takes_over_goes_past_the_locks_and_holds_them_from_then_on() {
    let volume = volume();
    let first = open(volume.path()).unwrap();
    let half = volume.path().join(".lsvd-new.123.4");
    fs::write(&half, "half").unwrap();
    let second = take_over(volume.path()).unwrap();
    assert!(half.exists(), "a file in use was removed");
    put(&first, "data.00000000");
    put(&second, "data.00000001");
    assert_refused(open(volume.path()));
    drop(first);
    // The directory's own lock is free now, the file's is the second one's.
    assert_refused(open(volume.path()));
    let third = take_over(volume.path()).unwrap();
    drop(second);
    assert_refused(open(volume.path()));
    drop(third);
    open(volume.path()).unwrap();
}

#[test]
fn a_lock_file_removed_by_hand_lets_nobody_in_by_mistake() {
    let volume = volume();
    let first = open(volume.path()).unwrap();
    fs::remove_file(volume.path().join("lsvd.lock")).unwrap();
    let error = open(volume.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    let second = take_over(volume.path()).unwrap();
    put(&first, "data.00000000");
    put(&second, "data.00000001");
}

#[test]
fn a_place_without_a_volume_is_refused_or_made_and_a_foreign_one_not_touched() {
    let scratch = scratch();
    let absent = scratch.path().join("absent");
    assert_eq!(open(&absent).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!absent.exists());
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = open(&empty).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    drop(make(&empty).unwrap());
    // What a creation that was cut short leaves is no obstacle to the next.
    fs::create_dir(empty.join("cache")).unwrap();
    fs::write(empty.join(format!("probe.{:032x}", 1)), "x").unwrap();
    drop(make(&empty).unwrap());
    drop(make(&absent).unwrap());

    let foreign = scratch.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "dear").unwrap();
    for (result, kind) in [
        (make(&foreign), ErrorKind::NotEmpty),
        (open(&foreign), ErrorKind::NotFound),
        (take_over(&foreign), ErrorKind::NotFound),
    ] {
        assert_eq!(result.unwrap_err().kind(), kind);
    }
    let names: Vec<_> = fs::read_dir(&foreign).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_file_of_somebody_else_under_the_name_of_the_lock_is_kept() {
    let volume = volume();
    let path = volume.path().join("lsvd.lock");
    fs::write(&path, "my notes").unwrap();
    for result in [open(volume.path()), take_over(volume.path())] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEmpty, "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"my notes");
    fs::remove_file(&path).unwrap();
    // A link is not followed.
    let outside = scratch();
    let target = outside.path().join("target");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    open(volume.path()).unwrap_err();
    assert!(!target.exists());
}

#[test]
fn neither_the_lock_nor_local_state_is_an_object() {
    let volume = volume();
    fs::create_dir(volume.path().join("cache")).unwrap();
    fs::write(volume.path().join("cache/data.00000001"), "x").unwrap();
    let store = open(volume.path()).unwrap();
    let listed = block_on(store.list()).unwrap();
    let names: Vec<&str> = listed.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["superblock.00000000"]);
}
