//! Where a volume keeps its write log: in a directory that the user names, which others may have had
//! before and may have after.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd, lsvd_within};

/// Longest time for what must be refused at once and would otherwise serve, in seconds.
const AT_ONCE: u32 = 60;

/// Serves the volume `name` once with its log in `cache`, flushes something, and ends it in order.
fn serve_once(folder: &Path, name: &str, size: &str, cache: &Path) -> PathBuf {
    let volume = folder.join(name);
    let log = ["--cache-dir", cache.to_str().unwrap(), "--log-size", "64M"];
    let arguments = [&["--create", size][..], &log].concat();
    let server = Server::start_at(&volume, ObjectDirectory::new(), &arguments);
    let write = "h.pwrite(b'x' * 4096, 0); h.flush()";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    server.close();
    volume
}

/// Tries to serve a volume, which must fail.
fn refused(volume: &Path, cache: &Path, create: &[&str]) -> Ended {
    let socket = volume.with_extension("s");
    let mut serve = lsvd_within(AT_ONCE);
    serve.arg("serve").arg(volume).args(create);
    serve.arg("--cache-dir").arg(cache);
    Ended::run(serve.arg("--socket").arg(socket))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_removed_volume_takes_its_write_log_with_it_wherever_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let volume = serve_once(folder.path(), "vol", "64M", &cache);
    fs::copy(cache.join("log"), cache.join("log.foreign.1")).unwrap();
    fs::write(cache.join("log.new"), "half made").unwrap();
    fs::write(cache.join("log.txt"), "a letter").unwrap();
    let ended = Ended::success(lsvd().arg("rm").arg(&volume));
    assert_eq!(ended.stderr, "", "{ended}");
    assert_eq!(names(&cache), ["lock", "log.txt"]);
    // The place and the directory are free for the next.
    serve_once(folder.path(), "vol", "128M", &cache);
}

#[test]
fn a_removed_volume_leaves_the_write_log_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let first = serve_once(folder.path(), "first", "64M", &cache);
    fs::remove_file(cache.join("log")).unwrap();
    let second = serve_once(folder.path(), "second", "64M", &cache);
    let log = fs::read(cache.join("log")).unwrap();
    fs::write(cache.join("log.foreign.1"), "whose?").unwrap();
    let ended = Ended::success(lsvd().arg("rm").arg(&first));
    let told = "nothing says whose write log this is";
    assert!(ended.stderr.contains(told), "{ended}");
    assert_eq!(names(&cache), ["lock", "log", "log.foreign.1"]);
    assert!(fs::read(cache.join("log")).unwrap() == log);
    serve_once(folder.path(), "second", "64M", &cache);
    assert!(second.exists());
}

#[test]
fn no_volume_is_made_where_its_write_log_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    serve_once(folder.path(), "first", "64M", &cache);
    let volume = folder.path().join("second");
    let ended = refused(&volume, &cache, &["--create", "128M"]).assert_code(1);
    let told = "holds the write log of another volume";
    assert!(ended.stderr.contains(told), "{ended}");
    assert!(
        !names(&volume)
            .iter()
            .any(|name| name.contains("superblock")),
        "{:?}",
        names(&volume)
    );
    // Nothing stands in the way of another size.
    serve_once(folder.path(), "second", "64M", &folder.path().join("other"));
    // The volume is there, so it is no wrong usage either.
    let ended = refused(&volume, &cache, &[]).assert_code(1);
    assert!(ended.stderr.contains(told), "{ended}");
}

#[test]
fn a_write_log_whose_path_is_no_text_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join(OsStr::from_bytes(b"c\xff"));
    let volume = folder.path().join("vol");
    let ended = refused(&volume, &cache, &["--create", "64M"]).assert_code(2);
    let message = "the path of the write log must be UTF-8";
    assert!(ended.stderr.contains(message), "{ended}");
    assert!(ended.stderr.contains("--cache-dir"), "{ended}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{ended}");
}
