//! What lies where a file should be and is none: a FIFO, which lets whoever opens it wait for ever.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Ended, ObjectDirectory, client, lsvd_within};

/// Seconds that are more than enough for what waits for nobody, and far below a store's patience.
const AT_ONCE: u32 = 20;

/// A directory with a FIFO in the place of the first superblock.
fn a_volume_of_fifos() -> (ObjectDirectory, PathBuf) {
    let directory = ObjectDirectory::new();
    fs::create_dir(directory.objects()).unwrap();
    let fifo = directory.objects().join("superblock.00000000");
    Ended::success(client("mkfifo").arg(&fifo));
    (directory, fifo)
}

#[test]
fn a_fifo_is_named_and_not_waited_for() {
    let (directory, fifo) = a_volume_of_fifos();
    let objects = directory.objects();
    let socket = directory.socket();
    let [objects, fifo, socket] = [&objects, &fifo, &socket].map(|path| path.to_str().unwrap());
    for arguments in [
        &["dump", fifo][..],
        &["info", objects],
        &["serve", objects, "--socket", socket],
        &["serve", objects, "--socket", socket, "--create", "64M"],
        &["serve", objects, "--socket", socket, "--read-only"],
        &["create", objects, "--size", "64M"],
        &["rm", objects],
    ] {
        let ended = Ended::run(lsvd_within(AT_ONCE).args(arguments)).assert_code(1);
        let named = ended.stderr.contains(fifo) || ended.stderr.contains("superblock.00000000");
        let said = ended.stderr.contains("it is no regular file");
        assert!(named && said, "{ended}");
    }
}

#[test]
fn a_fifo_does_not_keep_the_other_volumes_from_being_listed() {
    let (directory, _) = a_volume_of_fifos();
    let mut create = lsvd_within(AT_ONCE);
    create.arg("create").arg(directory.path().join("sound"));
    Ended::success(create.args(["--size", "64M"]));
    let mut list = lsvd_within(AT_ONCE);
    let ended = Ended::run(list.arg("list").arg(directory.path())).assert_code(1);
    assert!(ended.stdout.contains("64M closed"), "{ended}");
    assert!(ended.stdout.contains("it is no regular file"), "{ended}");
    assert!(ended.stderr.contains("1 of 2 volumes"), "{ended}");
}
