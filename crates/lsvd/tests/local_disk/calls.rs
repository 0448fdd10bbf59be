//! The system calls behind the requests, seen from outside: their order, for the power may fail
//! between any two, and what happens when one fails.

use std::path::Path;
use std::process::Command;

use lsvd::doors::disk::{DiskErrorKind, LocalDisk, WriteDurability};
use pollster::block_on;

use super::child::{self, Disk, write};

/// What a process of its own must find: a unit, or an error.
const EXPECTED: &str = "LSVD_TEST_EXPECTED";

#[test]
fn one_of_each_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    let file = disk.create("new", 2 << 20).expect("a file can be created");
    write(&*file, 0, 4096, WriteDurability::Unsynced).expect("it can be written");
    write(&*file, 8192, 4096, WriteDurability::Synced).expect("it can be written");
    block_on(disk.disk.rename("new", "f")).expect("it can be renamed");
    block_on(disk.disk.remove("f")).expect("it can be removed");
}

/// The calls of that process which touch what is in `above`, or itself, in order.
fn trace(above: &Path, directory: &Path) -> Vec<String> {
    let log = above.join("trace");
    let log_name = log.display().to_string();
    let calls = "trace=mkdirat,openat,flock,fallocate,pwrite64,pwritev,fsync,fdatasync,renameat,\
                 renameat2,unlinkat";
    let wrapper = [
        "strace", "-f", "-y", "-qq", "-s", "16", "-e", calls, "-o", &log_name,
    ];
    let test = "calls::one_of_each_in_a_process_of_its_own";
    child::run(child::command(&wrapper, test, directory)).expect("the test passes");
    let log = std::fs::read_to_string(log).expect("strace wrote its log");
    let above = above.display().to_string();
    let calls = log.lines().filter(|line| line.contains(&above));
    calls.map(str::to_owned).collect()
}

/// Whether the calls are these and no others of their kind, in this order: each a list of words.
fn assert_calls(calls: &[String], kinds: &[&str], expected: &[&[&str]]) {
    let of_kind = |call: &&String| kinds.iter().any(|kind| call.contains(kind));
    let mut found: Vec<&String> = calls.iter().filter(of_kind).collect();
    // Several pieces of zeroes are one step.
    found.dedup_by(|call, before| call.contains("pwrite64(") && before.contains("pwrite64("));
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(call, words)| {
            words.iter().all(|word| call.contains(word)) && !call.contains("= -1")
        });
    assert!(fits, "not {expected:#?}, but\n{found:#?}");
}

#[test]
fn each_step_is_synced_before_the_next() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let directory = temporary.path().join("a/log");
    std::fs::create_dir(temporary.path().join("a")).expect("a directory can be made");
    let calls = trace(temporary.path(), &directory);
    let parent_sync = format!("{}>)", temporary.path().join("a").display());
    let above_sync = format!("{}>)", temporary.path().display());
    let directory_sync = format!("{}>)", directory.display());
    let kinds = [
        "mkdirat(",
        "flock(",
        "O_EXCL",
        "fallocate(",
        "pwrite64(",
        "pwritev(",
        "fsync(",
        "fdatasync(",
        "renameat",
        "unlinkat(",
    ];
    assert_calls(
        &calls,
        &kinds,
        &[
            // Who made what is there may have been killed before the sync, and nothing is made in it
            // before.
            &["fsync(", &above_sync],
            &["mkdirat("],
            &["fsync(", &parent_sync],
            &["flock(", "/lock>", "LOCK_EX|LOCK_NB"],
            // Who has the lock.
            &["pwrite64(", "/lock>"],
            &["openat(", "O_EXCL", "\"new\""],
            &["fallocate(", "/new>", "0, 2097152"],
            &["pwrite64(", "/new>", "1048576"],
            &["fsync(", "/new>"],
            &["fsync(", &directory_sync],
            &["pwritev(", "/new>", ", 0)"],
            &["pwritev(", "/new>", ", 8192)"],
            &["fdatasync(", "/new>"],
            &["renameat", "\"new\"", "\"f\""],
            &["fsync(", &directory_sync],
            &["unlinkat(", "\"f\""],
            &["fsync(", &directory_sync],
            &["flock(", "/lock>", "LOCK_UN"],
        ],
    );
}

#[test]
fn no_directory_is_made_in_one_whose_name_may_go() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let place = |name: &str| temporary.path().join(name);
    let mut calls = trace(temporary.path(), &place("a/b/log"));
    let locked = calls.iter().position(|call| call.contains("flock("));
    calls.truncate(locked.expect("the directory is locked"));
    let shown = |path: &Path| (path.display().to_string(), format!("{}>)", path.display()));
    let (_, above) = shown(temporary.path());
    let (a, in_a) = shown(&place("a"));
    let (b, in_b) = shown(&place("a/b"));
    let (log, _) = shown(&place("a/b/log"));
    assert_calls(
        &calls,
        &["mkdirat(", "fsync("],
        &[
            &["mkdirat(", &a],
            &["fsync(", &above],
            &["mkdirat(", &b],
            &["fsync(", &in_a],
            &["mkdirat(", &log],
            &["fsync(", &in_b],
        ],
    );
}

/// `test` in a process of its own, in which calls on the file `new` fail as `faults` say.
fn with_failing_calls(test: &str, faults: &[&str], expected: Option<&str>) {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let directory = temporary.path().join("log");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let path = directory.join("new").display().to_string();
    let log = temporary.path().join("trace");
    let log_name = log.display().to_string();
    let mut wrapper = vec!["strace", "-f", "-qq", "-o", &log_name, "-P", &path];
    let faults: Vec<String> = faults
        .iter()
        .map(|fault| format!("inject={fault}"))
        .collect();
    wrapper.extend(faults.iter().flat_map(|fault| ["-e", fault]));
    let test = format!("calls::{test}_in_a_process_of_its_own");
    let mut command = child::command(&wrapper, &test, &directory);
    if let Some(expected) = expected {
        command.env(EXPECTED, expected);
    }
    child::run(command).expect("the test passes");
    let log = std::fs::read_to_string(log).expect("strace wrote its log");
    let injected = log.matches("(INJECTED)").count();
    assert!(injected >= faults.len(), "not all calls failed:\n{log}");
}

#[test]
fn interrupted_calls_are_repeated() {
    let calls = [
        "pwritev",
        "pwrite64",
        "pread64",
        "fdatasync",
        "fsync",
        "fallocate",
    ];
    let faults = calls.map(|call| format!("{call}:error=EINTR:when=1+3"));
    let faults = faults.each_ref().map(String::as_str);
    with_failing_calls("writes_and_reads", &faults, None);
}

#[test]
fn files_are_created_without_reservation_where_there_is_none() {
    with_failing_calls("writes_and_reads", &["fallocate:error=EOPNOTSUPP"], None);
}

#[test]
fn writes_and_reads_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    let file = disk.create("new", 4 << 20).expect("a file can be created");
    if let Ok(unit) = std::env::var(EXPECTED) {
        assert_eq!(file.block_bytes().to_string(), unit);
    }
    for number in 0..10 {
        write(&*file, number * 8192, 4096, WriteDurability::Synced).expect("it can be written");
    }
    let found = block_on(file.read(0, 4 << 20)).expect("it can be read");
    for (number, block) in found.chunks(4096).enumerate() {
        let written = number < 20 && number % 2 == 0;
        assert_eq!(block, [if written { 7 } else { 0 }; 4096]);
    }
}

#[test]
fn a_kernel_that_says_nothing_of_direct_access_is_tried_out() {
    with_failing_calls("writes_and_reads", &["statx:error=ENOSYS"], None);
}

/// As on a disk with large sectors, where writing 512 bytes fails.
#[test]
fn large_sectors_are_found_out() {
    let faults = ["statx:error=ENOSYS", "pwrite64:error=EINVAL:when=1"];
    with_failing_calls("writes_and_reads", &faults, Some("4096"));
}

/// As on a file system that promises direct access and then refuses it.
#[test]
fn files_that_refuse_direct_access_go_through_the_page_cache() {
    let faults = ["statx:error=ENOSYS", "pwrite64:error=EINVAL:when=1..2"];
    with_failing_calls("writes_and_reads", &faults, Some("512"));
}

#[test]
fn what_the_medium_does_not_give_is_told_from_other_failures() {
    for error in ["EIO", "ENODATA", "EILSEQ", "ESTALE"] {
        let fault = format!("pread64:error={error}");
        with_failing_calls("a_read_that_fails", &[&fault], Some(error));
    }
}

#[test]
fn a_read_that_fails_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    let file = disk.create("new", 1 << 20).expect("a file can be created");
    let error = block_on(file.read(4096, 8192)).expect_err("the read fails");
    let is_medium = std::env::var(EXPECTED).is_ok_and(|errno| errno != "ESTALE");
    let kind = match is_medium {
        true => DiskErrorKind::Unreadable,
        false => DiskErrorKind::Failed,
    };
    assert_eq!(error.kind(), kind, "{error}");
    let message = error.to_string();
    assert!(message.contains("read bytes 4096..12288 of"), "{message}");
}

#[test]
fn a_failed_sync_is_an_error_once() {
    with_failing_calls("a_sync_that_fails", &["fdatasync:error=EIO:when=1"], None);
}

#[test]
fn a_sync_that_fails_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    let file = disk.create("new", 1 << 20).expect("a file can be created");
    let error = write(&*file, 0, 4096, WriteDurability::Synced).expect_err("the sync fails");
    assert_eq!(error.kind(), DiskErrorKind::Failed);
    let message = error.to_string();
    assert!(message.contains("sync bytes 0..1048576 of"), "{message}");
    assert!(message.contains("the disk may be failing"), "{message}");
}

#[test]
fn a_file_that_could_not_be_synced_is_not_created() {
    with_failing_calls("a_creation_that_fails", &["fsync:error=EIO:when=1"], None);
}

#[test]
fn a_creation_that_fails_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    let error = disk.create("new", 1 << 20).expect_err("the sync fails");
    assert_eq!(error.kind(), DiskErrorKind::Failed);
    assert!(disk.names().is_empty(), "{:?}", disk.names());
}

/// Where the file system tells which parts of a file were never written, none is left so: their
/// first overwriting would have to change that.
#[test]
fn a_new_file_is_written_all_over() {
    let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = Disk::open(temporary.path()).expect("the directory is free");
    disk.create("new", 4 << 20).expect("a file can be created");
    let reserved = temporary.path().join("reserved");
    let allocate = Command::new("fallocate")
        .args(["-l", "4M"])
        .arg(&reserved)
        .status();
    let allocated = allocate.is_ok_and(|status| status.success());
    let extents = |path: &Path| {
        let output = Command::new("filefrag").arg("-v").arg(path).output();
        let output = output.expect("filefrag runs (install the Debian package e2fsprogs)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Whether this file system tells at all.
    if allocated && extents(&reserved).contains("unwritten") {
        let found = extents(&temporary.path().join("new"));
        assert!(
            found.contains("extent found") || found.contains("extents found"),
            "{found}"
        );
        assert!(!found.contains("unwritten"), "{found}");
    }
}
