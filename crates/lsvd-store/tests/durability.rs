//! The order of system calls behind a put, seen from outside: the power may fail between any two.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd_store::LocalDirectory;
use pollster::block_on;

const DIRECTORY: &str = "LSVD_TEST_DIRECTORY";
const HIDDEN_NAMES: &str = "LSVD_TEST_HIDDEN_NAMES";

/// What is traced; does nothing unless it is told a directory.
#[test]
fn one_put_in_a_process_of_its_own() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = match std::env::var_os(HIDDEN_NAMES) {
        Some(_) => LocalDirectory::open_with_hidden_names(directory),
        None => LocalDirectory::open(directory),
    }
    .expect("the directory is taken");
    let body = vec![Bytes::from(vec![1; 1 << 20]), Bytes::from_static(b"end")];
    block_on(store.put("data.00000000", body)).expect("the put succeeds");
}

/// What is traced; does nothing unless it is told a directory.
#[test]
fn one_creation_in_a_process_of_its_own() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        LocalDirectory::create_empty(directory).expect("the directory is taken");
    }
}

/// What fails when it is told to; does nothing unless it is told a directory.
#[test]
fn puts_on_a_failing_disk_in_a_process_of_its_own() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = LocalDirectory::open_with_hidden_names(&directory).expect("the directory is taken");
    let put = || block_on(store.put("data.00000000", vec![Bytes::from_static(b"whole")]));
    let error = put().expect_err("the directory could not be synced");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let inode = || {
        let path = Path::new(&directory).join("data.00000000");
        std::fs::metadata(path).expect("the name stays").ino()
    };
    let linked = inode();
    // Each thread that serves the puts has its own few failures ahead of it.
    for _ in 0..20 {
        let error = put().expect_err("the name is there");
        assert_eq!(inode(), linked, "the object was replaced");
        match error.kind() {
            StoreErrorKind::AlreadyExists => return,
            kind => assert_eq!(kind, StoreErrorKind::Unavailable, "{error}"),
        }
    }
    panic!("the disk works again, but nobody is told that the object is there");
}

/// The calls of one put that touch the directory or the new file, in order, with their results.
fn trace_put(directory: &Path, hidden_names: bool) -> Vec<String> {
    let names = hidden_names.then_some((HIDDEN_NAMES, "1"));
    let mut calls = trace("one_put_in_a_process_of_its_own", directory, names, &[]);
    let directory = directory.display().to_string();
    calls.retain(|call| call.contains(&directory));
    calls
}

/// The calls of one test of this file, in order, with their results.
fn trace(
    test: &str,
    directory: &Path,
    variable: Option<(&str, &str)>,
    faults: &[&str],
) -> Vec<String> {
    let log = directory.with_extension("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-qq", "-s", "64", "-e"])
        .arg(
            "trace=mkdirat,openat,write,writev,pwrite64,pwritev,fsync,fdatasync,syncfs,linkat,\
             unlinkat,close",
        )
        .args(faults)
        .arg("-o")
        .arg(&log)
        .arg(std::env::current_exe().expect("the test knows its own program"))
        .args(["--exact", test])
        .env(DIRECTORY, directory)
        .envs(variable);
    let output = command
        .output()
        .expect("strace runs (install the Debian package strace)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let log = std::fs::read_to_string(log).expect("strace wrote its log");
    log.lines().map(str::to_owned).collect()
}

/// Whether the calls contain these steps in this order, whatever lies between.
fn assert_order(calls: &[String], steps: &[(&str, &[&str])]) {
    let mut rest = calls.iter();
    for (step, words) in steps {
        let found = rest
            .by_ref()
            .find(|call| words.iter().all(|word| call.contains(word)));
        assert!(
            found.is_some(),
            "no {step} at its place in\n{}",
            calls.join("\n")
        );
    }
}

/// Index of the last call with this word.
fn last(calls: &[String], word: &str) -> usize {
    let found = calls.iter().rposition(|call| call.contains(word));
    found.unwrap_or_else(|| panic!("no {word} in\n{}", calls.join("\n")))
}

#[test]
fn a_file_is_synced_before_it_gets_its_name_and_the_directory_after() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let calls = trace_put(&directory, false);
    let directory_sync = format!("{}>)", directory.display());
    // Where the file system has no unnamed files there is a hidden name, which the other test sees.
    let unnamed = calls
        .iter()
        .any(|call| call.contains("O_TMPFILE") && !call.contains("= -1"));
    let created = if unnamed { "O_TMPFILE" } else { "O_EXCL" };
    assert_order(
        &calls,
        &[
            ("creation", &["openat(", created]),
            ("write", &["write"]),
            ("sync of the file", &["fdatasync(", "= 0"]),
            ("link", &["linkat(", "\"data.00000000\"", "= 0"]),
            ("sync of the directory", &["fsync(", &directory_sync, "= 0"]),
        ],
    );
    assert!(
        last(&calls, "write") < last(&calls, "fdatasync("),
        "{}",
        calls.join("\n")
    );
    assert!(
        last(&calls, "fdatasync(") < last(&calls, "linkat("),
        "{}",
        calls.join("\n")
    );
    assert!(
        last(&calls, "linkat(") < last(&calls, "fsync("),
        "{}",
        calls.join("\n")
    );
}

/// Who made the directory may have been killed before its name was synced.
#[test]
fn the_name_of_the_directory_is_synced_whoever_made_it() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    let parent_sync = format!("{}>)", temporary.path().display());
    for made in ["= 0", "EEXIST"] {
        let test = "one_creation_in_a_process_of_its_own";
        let calls = trace(test, &directory, None, &[]);
        let name = directory.display().to_string();
        assert_order(
            &calls,
            &[
                ("creation", &["mkdirat(", &name, made]),
                ("sync of the parent", &["fsync(", &parent_sync, "= 0"]),
            ],
        );
    }
}

/// As in a parent that may not be read, or on a file system that syncs no directories.
#[test]
fn where_the_parent_cannot_be_synced_the_file_system_is() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    let directory_sync = format!("{}>)", directory.display());
    let test = "one_creation_in_a_process_of_its_own";
    let faults = ["-e", "inject=fsync:error=EINVAL:when=1"];
    let calls = trace(test, &directory, None, &faults);
    assert_order(
        &calls,
        &[
            ("sync of the parent", &["fsync(", "INJECTED"]),
            (
                "sync of the file system",
                &["syncfs(", &directory_sync, "= 0"],
            ),
        ],
    );
}

/// Others may have seen an object as soon as it has its name, so it keeps it; but nobody is told that
/// it is stored before a sync of the directory went well.
#[test]
fn a_name_that_was_not_synced_stays_and_is_synced_before_anybody_relies_on_it() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let log = directory.with_extension("trace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=fsync,unlinkat,linkat"])
        .args(["-e", "inject=fsync:error=EIO:when=1..2"])
        .arg("-o")
        .arg(&log)
        .arg(std::env::current_exe().expect("the test knows its own program"))
        .args(["--exact", "puts_on_a_failing_disk_in_a_process_of_its_own"])
        .env(DIRECTORY, &directory)
        .output()
        .expect("strace runs (install the Debian package strace)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    let calls = std::fs::read_to_string(log).expect("strace wrote its log");
    let calls: Vec<&str> = calls.lines().collect();
    let exists = |call: &&str| call.contains("linkat(") && call.contains("EEXIST");
    let last = calls.iter().rposition(exists).expect("it was repeated");
    let is_synced = |call: &&str| call.contains("fsync(") && call.contains("= 0");
    let synced = calls.iter().position(is_synced);
    assert!(synced > Some(last), "{}", calls.join("\n"));
    let stored = std::fs::read(directory.join("data.00000000"));
    assert_eq!(stored.expect("it was stored"), b"whole");
}

#[test]
fn each_put_syncs_a_directory_descriptor_of_its_own() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let mut calls = trace_put(&directory, true);
    let synced = calls.iter().find(|call| call.contains(" fsync("));
    let synced = synced.expect("the directory is synced").clone();
    let (thread, synced) = synced.split_once(" fsync(").expect("as just found");
    // The volume itself is opened by another thread.
    calls.retain(|call| call.starts_with(thread));
    let (descriptor, _) = synced.split_once(')').expect("its descriptor is shown");
    let opened = format!("= {descriptor}");
    assert_order(
        &calls,
        &[
            (
                "opening for the put",
                &["openat(", "\".\"", "O_DIRECTORY", &opened],
            ),
            ("link", &["linkat(", "\"data.00000000\"", "= 0"]),
            ("sync of the directory", &["fsync(", descriptor, "= 0"]),
        ],
    );
}

#[test]
fn a_hidden_name_is_gone_before_the_directory_is_synced() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path().join("volume");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let calls = trace_put(&directory, true);
    let directory_sync = format!("{}>)", directory.display());
    assert_order(
        &calls,
        &[
            ("creation", &["openat(", "\".lsvd-new.", "O_EXCL"]),
            ("write", &["write"]),
            ("sync of the file", &["fdatasync(", ".lsvd-new.", "= 0"]),
            (
                "link",
                &["linkat(", "\".lsvd-new.", "\"data.00000000\"", "= 0"],
            ),
            (
                "removal of the hidden name",
                &["unlinkat(", "\".lsvd-new.", "= 0"],
            ),
            ("sync of the directory", &["fsync(", &directory_sync, "= 0"]),
        ],
    );
    assert!(
        last(&calls, "write") < last(&calls, "fdatasync("),
        "{}",
        calls.join("\n")
    );
}
