//! A full disk: the error is clear, nothing is left behind, and freed space is used again.
//!
//! The test proper runs in a process of its own, with a small tmpfs mounted where only it sees it,
//! and once more with a limit on the size of files. Where mounting is not allowed `LSVD_TEST_NO_MOUNT=1`
//! leaves the small disk out.

use std::process::Command;

use bytes::Bytes;
use lsvd::doors::store::{ObjectStore, StoreErrorKind};
use lsvd_store::LocalDirectory;
use pollster::block_on;

const DIRECTORY: &str = "LSVD_TEST_DIRECTORY";
const NO_MOUNT: &str = "LSVD_TEST_NO_MOUNT";
const MIB: usize = 1 << 20;

/// Mounts 8 MiB over the directory and runs the rest; the mount goes with the process.
const WITH_SMALL_DISK: &str =
    r#"mount -t tmpfs -o size=8m tmpfs "$LSVD_TEST_DIRECTORY" && exec "$0" "$@""#;

/// Allows files of at most 4 MiB (the unit of `ulimit -f` is 512 bytes), and lets a larger write
/// fail instead of killing the process.
const WITH_FILE_SIZE_LIMIT: &str = r#"trap "" XFSZ && ulimit -f 8192 && exec "$0" "$@""#;

fn run(program: &[&str], script: &str, test: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (first, rest) = program.split_first().expect("a program");
    let output = Command::new(first)
        .args(rest)
        .args(["sh", "-c", script])
        .arg(std::env::current_exe().expect("the test knows its own program"))
        .args(["--exact", test])
        .env(DIRECTORY, directory.path())
        .output()
        .map_err(|error| format!("{program:?} (package util-linux): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && text.contains("1 passed") {
        return Ok(());
    }
    Err(text.into_owned())
}

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
    if std::env::var_os(NO_MOUNT).is_none_or(|value| value != "1") {
        let way = may_mount().expect(
            "a small disk can be mounted in a namespace of its own (where that is not allowed, set \
             LSVD_TEST_NO_MOUNT=1 to leave this test out)",
        );
        run(way, WITH_SMALL_DISK, "fill_a_small_disk").expect("the test on a small disk passes");
    }
    run(&["env"], WITH_FILE_SIZE_LIMIT, "exceed_a_file_size_limit")
        .expect("the test with a limit passes");
}

fn names(store: &LocalDirectory) -> Vec<String> {
    let listed = block_on(store.list()).expect("listing works");
    listed.into_iter().map(|row| row.name).collect()
}

fn entries(directory: &std::ffi::OsStr) -> usize {
    std::fs::read_dir(directory)
        .expect("the directory can be read")
        .count()
}

fn body(len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![0x77; 4096]); len / 4096]
}

/// Runs inside the process that [`run`] starts.
#[test]
fn fill_a_small_disk() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    for open in [
        LocalDirectory::create_empty,
        LocalDirectory::open_with_hidden_names,
    ] {
        let store = open(&directory).expect("taken");
        block_on(store.put("data.00000000", body(4 * MIB))).expect("there is room");
        block_on(store.put("data.00000001", body(3 * MIB))).expect("there is room");
        for _ in 0..3 {
            let error =
                block_on(store.put("data.00000002", body(4 * MIB))).expect_err("there is no room");
            assert_eq!(error.kind(), StoreErrorKind::NoSpace);
            let message = error.to_string();
            assert!(
                message.contains("data.00000002: no space left"),
                "{message}"
            );
            assert_eq!(
                entries(&directory),
                2,
                "something was left: {:?}",
                names(&store)
            );
        }
        // What the failed puts took was given back: a small object still fits.
        block_on(store.put("data.00000003", body(MIB / 2))).expect("there is room");
        block_on(store.delete("data.00000000")).expect("it is there");
        block_on(store.put("data.00000002", body(4 * MIB))).expect("there is room again");
        assert_eq!(
            block_on(store.get("data.00000002"))
                .expect("it is there")
                .len(),
            4 * MIB
        );
        for name in names(&store) {
            block_on(store.delete(&name)).expect("it is there");
        }
    }
}

/// Runs inside the process that [`run`] starts.
#[test]
fn exceed_a_file_size_limit() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = LocalDirectory::create_empty(&directory).expect("taken");
    let error = block_on(store.put("data.00000000", body(8 * MIB))).expect_err("over the limit");
    assert_eq!(error.kind(), StoreErrorKind::NoSpace, "{error}");
    assert_eq!(entries(&directory), 0, "something was left");
    block_on(store.put("data.00000000", body(2 * MIB))).expect("below the limit");
}
