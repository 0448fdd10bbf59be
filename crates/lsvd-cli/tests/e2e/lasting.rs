//! Volumes that last: made, served, shown, listed, removed, and there again after every end.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

const SMALL_LOG: [&str; 2] = ["--log-size", "64M"];

fn serve(directory: ObjectDirectory, arguments: &[&str]) -> Server {
    Server::start_lasting(directory, &[&SMALL_LOG[..], arguments].concat())
}

/// Runs a script of libnbd's shell against a server.
#[track_caller]
fn nbdsh(server: &Server, script: &str) {
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]));
}

fn created(size: &str) -> ObjectDirectory {
    let directory = ObjectDirectory::new();
    let mut create = lsvd();
    create
        .arg("create")
        .arg(directory.objects())
        .args(["--size", size]);
    let uuid = Ended::success(&mut create).stdout;
    assert_eq!(uuid.trim().len(), 36, "{uuid}");
    assert_eq!(info(&directory)["volume"], uuid.trim());
    directory
}

#[track_caller]
fn info(directory: &ObjectDirectory) -> serde_json::Value {
    Ended::success(lsvd().arg("info").arg(directory.objects()).arg("--json")).json()
}

#[test]
fn what_was_written_is_there_after_an_orderly_end() {
    let server = serve(created("64M"), &[]);
    nbdsh(
        &server,
        "h.pwrite(b'a' * 65536, 0); h.pwrite(b'b' * 512, (64 << 20) - 512)",
    );
    let server = serve(server.close(), &[]);
    let check = "
assert h.get_size() == 64 << 20
assert h.pread(65536, 0) == b'a' * 65536
assert h.pread(512, (64 << 20) - 512) == b'b' * 512
assert h.pread(4096, 1 << 20) == bytes(4096)
";
    nbdsh(&server, check);
    server.close();
}

#[test]
fn what_was_flushed_is_there_after_a_crash() {
    let mut directory = created("64M");
    for round in 0..4 {
        let server = serve(directory, &["--seal-timeout", "50ms"]);
        let script = format!(
            "
for before in range({round}):
    assert h.pread(4096, before * 65536) == bytes([before + 1]) * 4096, before
    assert h.pread(4096, before * 65536 + 4096) == bytes(4096), before
h.pwrite(bytes([{round} + 1]) * 8192, {round} * 65536)
h.trim(4096, {round} * 65536 + 4096)
h.flush()
"
        );
        nbdsh(&server, &script);
        directory = server.kill();
    }
    let shown = info(&directory);
    assert_eq!(shown["epochs"].as_array().unwrap().len(), 4, "{shown}");
}

#[test]
fn a_write_with_fua_is_there_after_a_crash() {
    for mode in ["writeback", "writethrough"] {
        let server = serve(created("16M"), &["--durability", mode]);
        nbdsh(&server, "h.pwrite(b'f' * 4096, 8192, nbd.CMD_FLAG_FUA)");
        if mode == "writethrough" {
            nbdsh(&server, "h.pwrite(b'w' * 4096, 65536)");
        }
        let server = serve(server.kill(), &[]);
        nbdsh(&server, "assert h.pread(4096, 8192) == b'f' * 4096");
        if mode == "writethrough" {
            nbdsh(&server, "assert h.pread(4096, 65536) == b'w' * 4096");
        }
        server.kill();
    }
}

#[test]
fn serve_makes_the_volume_once() {
    let arguments = ["--create", "64M", "--object-size", "1M"];
    let server = serve(ObjectDirectory::new(), &arguments);
    nbdsh(&server, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let uuid = info(server.directory())["volume"].clone();
    let server = serve(server.kill(), &arguments);
    nbdsh(&server, "assert h.pread(4096, 0) == b'x' * 4096");
    let shown = info(server.directory());
    assert_eq!(shown["volume"], uuid, "it was made anew");
    assert_eq!(shown["object_size"], 1 << 20);
    let directory = server.kill();
    for (argument, value, found) in [("--create", "65M", "64M"), ("--object-size", "2M", "1M")] {
        let mut again = lsvd();
        again
            .arg("serve")
            .arg(directory.objects())
            .args([argument, value]);
        let ended = Ended::run(&mut again).assert_code(1);
        let said = format!("of {found} and not {value}");
        assert!(ended.stderr.contains(&said), "{ended}");
    }
}

#[test]
fn a_volume_is_removed_and_made_again() {
    let server = serve(created("16M"), &[]);
    nbdsh(&server, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let first = info(server.directory())["volume"].clone();
    let directory = server.close();
    let ended = Ended::success(lsvd().arg("rm").arg(directory.objects()));
    assert_eq!(ended.stdout, "");
    let names = directory.names();
    let kept = |name: &String| name.starts_with("superblock.") || name == "lsvd.lock";
    assert!(names.iter().all(kept), "{names:?}");
    for command in ["serve", "rm"] {
        let ended = Ended::run(lsvd().arg(command).arg(directory.objects())).assert_code(1);
        assert!(ended.stderr.contains("there is no volume in"), "{ended}");
    }
    let mut create = lsvd();
    create
        .arg("create")
        .arg(directory.objects())
        .args(["--size", "32M"]);
    Ended::success(&mut create);
    let server = serve(directory, &[]);
    nbdsh(
        &server,
        "assert h.get_size() == 32 << 20 and h.pread(4096, 0) == bytes(4096)",
    );
    assert_ne!(info(server.directory())["volume"], first);
    server.close();
}

/// Cut short behind the last object: the local state is still there, and would be in the way of the
/// next volume at this place.
#[test]
fn a_removal_that_was_cut_short_is_finished_by_the_next() {
    let server = serve(created("16M"), &[]);
    nbdsh(&server, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let directory = server.close();
    let cache = directory.objects().join("cache");
    let mut rm = lsvd();
    rm.arg("rm").arg(directory.objects());
    Ended::success(&mut rm);
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("log"), "what was not removed").unwrap();
    Ended::success(&mut rm);
    assert!(!cache.exists());
    let ended = Ended::run(&mut rm).assert_code(1);
    assert!(ended.stderr.contains("there is no volume in"), "{ended}");
    let server = serve(directory, &["--create", "16M"]);
    nbdsh(&server, "assert h.pread(4096, 0) == bytes(4096)");
    server.close();
}

#[test]
fn a_volume_that_is_served_is_not_removed() {
    // What is in its log alone stays there, or it would store an object meanwhile.
    let server = serve(created("16M"), &["--seal-timeout", "1h"]);
    nbdsh(&server, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let before = server.directory().names();
    for take_over in [false, true] {
        let mut rm = lsvd();
        rm.arg("rm").arg(server.directory().objects());
        if take_over {
            // Its write log has an owner, past whom nobody goes.
            rm.arg("--take-over");
        }
        let ended = Ended::run(&mut rm).assert_code(1);
        let holder = format!("in use by process {}", server.pid());
        assert!(ended.stderr.contains(&holder), "{ended}");
    }
    assert_eq!(server.directory().names(), before);
    nbdsh(&server, "h.pwrite(b'y' * 4096, 0); h.flush()");
    server.close();
}

#[test]
fn what_is_at_risk_is_shown_while_it_is() {
    let server = serve(created("64M"), &["--seal-timeout", "1h"]);
    let served = |server: &Server| info(server.directory())["served"].clone();
    assert_eq!(served(&server)["at_risk_bytes"], 0);
    nbdsh(&server, "h.pwrite(b'x' * 65536, 0); h.flush()");
    let shown = served(&server);
    assert!(shown["at_risk_bytes"].as_u64().unwrap() >= 65536, "{shown}");
    assert_eq!(shown["not_durable_bytes"], 0, "{shown}");
    assert!(shown["at_risk_seconds"].as_f64().is_some(), "{shown}");
    assert!(shown["log_used_bytes"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(shown["pid"], server.pid(), "{shown}");
    assert_eq!(shown["uri"], server.uri(), "{shown}");
    Ended::success(lsvd().arg("info").arg(server.directory().objects()))
        .assert_stdout_has("bytes not stored yet, the oldest for ");
    // A server that is stopped is there, and says nothing.
    server.stop();
    let shown = served(&server);
    server.signal(Signal::CONT);
    assert!(
        shown["error"].as_str().unwrap().contains("does not answer"),
        "{shown}"
    );
    let directory = server.close();
    let shown = info(&directory);
    assert_eq!(shown["served"], serde_json::Value::Null, "{shown}");
    assert_eq!(shown["objects"], 1, "{shown}");
    assert!(!directory.objects().join("cache/control.sock").exists());
}

/// A path that is longer than the address of a socket can be.
#[test]
fn a_volume_far_down_is_served_and_asked() {
    let directory = ObjectDirectory::new();
    let deep = directory.path().join("d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    let volume = deep.join("vol");
    let arguments = ["--create", "16M", "--log-size", "64M"];
    let server = Server::start_at(&volume, directory, &arguments);
    let shown = Ended::success(lsvd().arg("info").arg(&volume).arg("--json")).json();
    assert_eq!(shown["served"]["pid"], server.pid(), "{shown}");
    server.close();
}

#[test]
fn the_volumes_of_a_directory_are_listed() {
    let directory = created("64M");
    let parent = directory.path();
    for (name, size) in [("b", "32M"), ("c", "16M"), ("removed", "1M")] {
        let mut create = lsvd();
        create
            .arg("create")
            .arg(parent.join(name))
            .args(["--size", size]);
        Ended::success(&mut create);
    }
    Ended::success(lsvd().arg("rm").arg(parent.join("removed")));
    fs::create_dir(parent.join("other")).unwrap();
    fs::write(parent.join("other/letter"), "dear").unwrap();
    let server = Server::start_beside(&parent.join("c"), &["--log-size", "64M"]);
    let list = |code| Ended::run(lsvd().arg("list").arg(parent).arg("--json")).assert_code(code);
    let listed = list(0).json()["volumes"].clone();
    let shown: Vec<(String, u64, bool)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| {
            let url = volume["url"].as_str().unwrap();
            let name = url.rsplit('/').next().unwrap().to_owned();
            let size = volume["size"].as_u64().unwrap();
            (name, size, volume["closed"].as_bool().unwrap())
        })
        .collect();
    let expected = [("b", 32, true), ("c", 16, false), ("vol", 64, true)];
    assert_eq!(
        shown,
        expected.map(|(name, size, closed)| (name.to_owned(), size << 20, closed))
    );
    Ended::success(lsvd().arg("list").arg(parent)).assert_stdout_has("32M closed");
    server.close();
    fs::write(parent.join("b/superblock.00000000"), "junk").unwrap();
    let ended = list(1);
    assert!(ended.stderr.contains("1 of 3 volumes"), "{ended}");
    assert!(ended.stdout.contains("superblock.00000000"), "{ended}");
}

#[test]
fn a_local_state_elsewhere_is_found_by_its_claim() {
    let directory = created("16M");
    let server = Server::start_beside(&directory.objects(), &SMALL_LOG);
    let shown = info(&directory);
    assert_eq!(shown["served"]["pid"], server.pid(), "{shown}");
    assert!(!directory.objects().join("cache").exists());
    server.close();
}

/// No new volume gets a name with '@'; one that has it, as after a change of its name, stays usable,
/// and a directory above may be called as it likes.
#[test]
fn a_name_with_an_at_is_for_volumes_that_are_there() {
    let directory = created("16M");
    let renamed = directory.path().join("vol@old");
    fs::rename(directory.objects(), &renamed).unwrap();
    let arguments = [&SMALL_LOG[..], &["--create", "16M"]].concat();
    let server = Server::start_at(&renamed, directory, &arguments);
    nbdsh(&server, "h.pwrite(b'x' * 4096, 0); h.flush()");
    server.close();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("@home")).unwrap();
    let mut create = lsvd();
    create.arg("create").arg(folder.path().join("@home/vol"));
    Ended::success(create.args(["--size", "16M"]));
}
