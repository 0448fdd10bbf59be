//! Opening a directory: what is refused, with which message, and what is cleaned up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use lsvd::ErrorKind;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd_store::{LocalDirectory, Missing, Occupied};
use pollster::block_on;
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

#[test]
fn an_absent_directory_is_made_but_not_its_parents() {
    let scratch = scratch();
    let path = scratch.path().join("a");
    LocalDirectory::create_empty(&path).unwrap();
    assert!(path.is_dir());
    assert_eq!(
        fs::read_dir(&path).unwrap().count(),
        0,
        "opening leaves nothing behind"
    );

    let deep = scratch.path().join("b/c");
    let error = LocalDirectory::create_empty(&deep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected = format!(
        "cannot make directory {}: its parent directory does not exist; make that first, or choose \
         another path",
        deep.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        LocalDirectory::open(&deep).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_left_alone() {
    let scratch = scratch();
    fs::write(scratch.path().join("data.00000000"), "x").unwrap();
    let error = LocalDirectory::create_empty(scratch.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEmpty);
    let expected = format!(
        "directory {} is not empty (1 entries, one is \"data.00000000\"); choose another, or \
         remove what is in it",
        scratch.path().display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        fs::read(scratch.path().join("data.00000000")).unwrap(),
        b"x"
    );
    LocalDirectory::open(scratch.path()).unwrap();
}

#[test]
fn a_directory_has_one_writer() {
    let scratch = scratch();
    let open: [fn(PathBuf) -> lsvd::Result<LocalDirectory>; 2] =
        [LocalDirectory::create_empty, LocalDirectory::open];
    for first in open {
        let store = first(scratch.path().into()).unwrap();
        let clone = store.clone();
        drop(store);
        let refused = || {
            for second in open {
                let error = second(scratch.path().into()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
                let expected = format!(
                    "directory {} is in use by another process, or by another volume of this one; \
                     stop that one, or choose another directory",
                    scratch.path().display()
                );
                assert_eq!(error.to_string(), expected);
            }
        };
        refused();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let object = vec![Bytes::from_static(b"x")];
        block_on(clone.put("data.00000000", object)).unwrap();
        refused();
        block_on(clone.delete("data.00000000")).unwrap();
        LocalDirectory::open_read_only(scratch.path()).unwrap();
        assert!(
            first(scratch.path().into()).is_err(),
            "a reader unlocked it"
        );
        drop(clone);
    }
}

#[test]
fn what_others_write_is_theirs() {
    let scratch = scratch();
    let store = LocalDirectory::open(scratch.path()).unwrap();
    let half = scratch.path().join(".lsvd-new.123.4");
    fs::write(&half, "half").unwrap();
    LocalDirectory::create_empty(scratch.path()).unwrap_err();
    LocalDirectory::open(scratch.path()).unwrap_err();
    assert!(half.exists(), "a file in use was removed");
    drop(store);
    fs::write(scratch.path().join("data.00000000"), "x").unwrap();
    let error = LocalDirectory::create_empty(scratch.path()).unwrap_err();
    assert!(error.to_string().contains("(1 entries"), "{error}");
    assert!(half.exists(), "a directory that was refused was changed");
}

#[test]
fn what_a_crash_left_half_written_is_removed_and_hides_from_everyone() {
    let scratch = scratch();
    let left = scratch.path().join(".lsvd-new.123.4");
    fs::write(&left, "half").unwrap();
    let store = LocalDirectory::create_empty(scratch.path()).unwrap();
    assert!(!left.exists());
    fs::write(&left, "half").unwrap();
    assert_eq!(block_on(store.list()).unwrap(), []);
    drop(store);
    LocalDirectory::open(scratch.path()).unwrap();
    assert!(!left.exists());
}

/// Hidden names that this process would use: another one with the same id, in a container of its own,
/// was killed there, or is at work.
fn occupy(place: &TempDir) {
    let pid = std::process::id();
    for n in 0..1000 {
        let name = place.path().join(format!(".lsvd-new.{pid}.{n}"));
        fs::write(name, "half").expect("the scratch directory is writable");
    }
}

#[test]
fn hidden_names_of_another_process_with_the_same_id_are_passed_over() {
    let scratch = scratch();
    let store = LocalDirectory::open_with_hidden_names(scratch.path()).unwrap();
    occupy(&scratch);
    block_on(store.put("data.00000000", vec![Bytes::from_static(b"x")])).unwrap();
    assert_eq!(block_on(store.get("data.00000000")).unwrap(), "x");
    let left = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 1001, "another's file was removed");
}

#[test]
fn what_a_killed_probe_left_stops_no_opening() {
    for occupied in [Occupied::Refuse, Occupied::TakeOver] {
        let volume = scratch();
        fs::write(volume.path().join("superblock.00000000"), "x").unwrap();
        occupy(&volume);
        let open = || LocalDirectory::open_volume(volume.path(), Missing::Refuse, occupied);
        drop(open().unwrap_or_else(|error| panic!("{occupied:?}: {error}")));
        let left = fs::read_dir(volume.path()).unwrap().count();
        assert_eq!(left, 2, "besides the superblock and the lock file");
    }
}

#[test]
fn a_file_is_no_directory() {
    let scratch = scratch();
    let path = scratch.path().join("file");
    fs::write(&path, "x").unwrap();
    for result in [
        LocalDirectory::create_empty(&path),
        LocalDirectory::open(&path),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(
            error
                .to_string()
                .contains("not a directory; choose another path"),
            "{error}"
        );
    }
    let below = LocalDirectory::create_empty(path.join("x")).unwrap_err();
    assert_eq!(below.kind(), ErrorKind::InvalidArgument, "{below}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_when_it_is_opened() {
    // The superuser may write everywhere but in /proc; everyone else is stopped by the mode.
    let scratch = scratch();
    let path = scratch.path().join("read-only");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    let writable = fs::write(path.join("x"), "").is_ok();
    let path = if writable { "/proc/self".into() } else { path };
    let error = LocalDirectory::open(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot create files in directory"),
        "{error}"
    );
    if !writable {
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    }
}

#[test]
fn opening_for_reading_changes_nothing_and_refuses_changes() {
    let scratch = scratch();
    let path = scratch.path().join("volume");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("data.00000000"), "whole").unwrap();
    fs::write(path.join(".lsvd-new.123.4"), "half").unwrap();
    let changed = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = changed();
    let store = LocalDirectory::open_read_only(&path).unwrap();
    let listed = block_on(store.list()).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(block_on(store.get("data.00000000")).unwrap(), "whole");
    let body = vec![Bytes::from_static(b"x")];
    for error in [
        block_on(store.put("data.00000001", body)).unwrap_err(),
        block_on(store.delete("data.00000000")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Permission);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("for reading only"), "{error}: {cause}");
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    assert_eq!(changed(), before);
    let absent = LocalDirectory::open_read_only(path.join("absent")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
}

#[test]
fn a_directory_that_cannot_be_written_is_opened_for_reading() {
    let scratch = scratch();
    fs::write(scratch.path().join("data.00000000"), "whole").unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let store = LocalDirectory::open_read_only(scratch.path()).unwrap();
    assert_eq!(block_on(store.get("data.00000000")).unwrap(), "whole");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The mode stops no superuser, but in /proc nobody creates files.
    LocalDirectory::open("/proc/self").unwrap_err();
    LocalDirectory::open_read_only("/proc/self").unwrap();
}

#[test]
fn impossible_names_are_refused_and_reach_no_file() {
    let scratch = scratch();
    let path = scratch.path().join("volume");
    let store = LocalDirectory::create_empty(&path).unwrap();
    fs::write(scratch.path().join("outside"), "secret").unwrap();
    let long = "x".repeat(256);
    for name in [
        "",
        ".",
        "..",
        "../outside",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "a\0b",
        &long,
    ] {
        let body = vec![Bytes::from_static(b"x")];
        let results = [
            block_on(store.put(name, body)).err(),
            block_on(store.get(name)).err(),
            block_on(store.get_range(name, 0..1)).err(),
            block_on(store.delete(name)).err(),
        ];
        for error in results {
            assert_eq!(
                error.unwrap().kind(),
                StoreErrorKind::Permission,
                "{name:?}"
            );
        }
        assert!(store.try_get_range(name, 0, &mut [0]).is_none(), "{name:?}");
    }
    assert_eq!(fs::read(scratch.path().join("outside")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn what_was_just_written_is_read_at_once() {
    let scratch = scratch();
    let store = LocalDirectory::create_empty(scratch.path()).unwrap();
    let body: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    block_on(store.put("data.00000000", vec![Bytes::from(body.clone())])).unwrap();
    let mut buffer = [0; 4096];
    match store.try_get_range("data.00000000", 5000, &mut buffer) {
        Some(answer) => answer.unwrap(),
        // tmpfs cannot say what is there at once; a disk's file system can.
        None => assert!(is_tmpfs(scratch.path()), "a read of new data had to wait"),
    }
    if !is_tmpfs(scratch.path()) {
        assert_eq!(buffer, body[5000..9096]);
    }
    assert!(
        store
            .try_get_range("data.00000000", 99_000, &mut buffer)
            .is_none()
    );
    assert!(
        store
            .try_get_range("data.00000001", 0, &mut buffer)
            .is_none()
    );
}

fn is_tmpfs(path: &std::path::Path) -> bool {
    rustix::fs::statfs(path).expect("it exists").f_type == 0x0102_1994
}

/// Whoever opens a FIFO as a file waits for one who writes to it.
#[test]
fn what_is_no_regular_file_is_no_object_and_not_waited_for() {
    let scratch = scratch();
    let store = LocalDirectory::create_empty(scratch.path()).unwrap();
    let fifo = scratch.path().join("data.00000000");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    fs::create_dir(scratch.path().join("data.00000001")).unwrap();
    for name in ["data.00000000", "data.00000001"] {
        let whole = block_on(store.get(name)).unwrap_err();
        let range = block_on(store.get_range(name, 0..512)).unwrap_err();
        for error in [whole, range] {
            assert_eq!(error.kind(), StoreErrorKind::Permission, "{error}");
            let named = error.to_string();
            assert!(named.contains(name), "{named}");
        }
        assert!(store.try_get_range(name, 0, &mut [0; 512]).is_none());
    }
    let put = block_on(store.put("data.00000000", vec![Bytes::from_static(b"x")]));
    assert_eq!(put.unwrap_err().kind(), StoreErrorKind::AlreadyExists);
    assert_eq!(block_on(store.list()).unwrap(), []);
}
