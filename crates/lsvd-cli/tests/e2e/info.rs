//! `lsvd info` on real objects, sound and damaged.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd, may_mount};

/// A directory with three objects of 1 MiB of data.
fn three_objects() -> ObjectDirectory {
    three_objects_in(ObjectDirectory::new())
}

fn three_objects_in(directory: ObjectDirectory) -> ObjectDirectory {
    let server = Server::start_in(directory, "64M", &["--object-size", "1M"]);
    let write = "h.pwrite(b'abcd' * (3 << 18), 0)";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    server.close()
}

#[test]
fn the_objects_are_counted() {
    let directory = three_objects();
    let info = |arguments: &[&str]| {
        Ended::success(lsvd().arg("info").arg(directory.objects()).args(arguments))
    };
    let summary = info(&["--json"]).json();
    assert_eq!(summary["objects"], 3, "{summary}");
    assert_eq!(summary["data_bytes"], 3 << 20, "{summary}");
    assert_eq!(summary["first"], "data.00000000", "{summary}");
    assert_eq!(summary["last"], "data.00000002", "{summary}");
    assert_eq!(summary["volume"].as_str().unwrap().len(), 36, "{summary}");
    let on_disk: u64 = directory
        .names()
        .iter()
        .map(|name| fs::metadata(directory.objects().join(name)).unwrap().len())
        .sum();
    assert_eq!(summary["bytes"], on_disk, "{summary}");
    info(&[]).assert_stdout_has("3, data.00000000 to data.00000002");
}

#[test]
fn damage_is_named() {
    let directory = three_objects();
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = directory.objects().join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    damage("data.00000000", &|bytes| bytes[40] ^= 1);
    damage("data.00000001", &|bytes| bytes.truncate(5000));
    let objects = directory.objects();
    fs::rename(objects.join("data.00000002"), objects.join("data.00000003")).unwrap();
    let ended = Ended::run(lsvd().arg("info").arg(&objects).arg("--json")).assert_code(1);
    let damaged = ended.json()["damaged"].clone();
    let damaged: Vec<_> = damaged
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_str().unwrap())
        .collect();
    assert_eq!(damaged.len(), 3, "{ended}");
    assert!(
        damaged[0].starts_with("data.00000000: ") && damaged[0].contains("checksum"),
        "{ended}"
    );
    assert!(
        damaged[1].starts_with("data.00000001: it is 5000 bytes long"),
        "{ended}"
    );
    assert!(
        damaged[2].starts_with("data.00000003: it is object data.00000002 of volume "),
        "{ended}"
    );
    assert!(ended.stderr.contains("3 of 3 objects"), "{ended}");
}

#[test]
fn an_object_of_another_volume_is_damage() {
    let (ours, other) = (three_objects(), three_objects());
    let name = "data.00000001";
    fs::copy(other.objects().join(name), ours.objects().join(name)).unwrap();
    let ended = Ended::run(lsvd().arg("info").arg(ours.objects()).arg("--json")).assert_code(1);
    let damaged = &ended.json()["damaged"];
    assert_eq!(damaged.as_array().unwrap().len(), 1, "{ended}");
    let first = damaged[0].as_str().unwrap();
    assert!(
        first.starts_with("data.00000001: it is object data.00000001 of volume "),
        "{ended}"
    );
}

#[test]
fn a_volume_in_use_is_shown_and_left_as_it_is() {
    let server = Server::start("64M", &["--flush", "store"]);
    let objects = server.directory().objects();
    // What the server might be writing in this moment, on a file system where that has a name.
    let half_written = objects.join(".lsvd-new.1.0");
    fs::write(&half_written, "half").unwrap();
    let write = "h.pwrite(b'x' * 4096, 0); h.flush()";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    let changed = || fs::metadata(&objects).unwrap().modified().unwrap();
    let before = changed();
    let ended = Ended::success(lsvd().arg("info").arg(&objects).arg("--json"));
    assert_eq!(ended.json()["objects"], 1, "{ended}");
    assert_eq!(changed(), before, "info made or removed a file");
    assert_eq!(fs::read(&half_written).unwrap(), b"half");
    server.close();
}

#[test]
fn a_directory_that_is_not_writable_is_shown() {
    let shown = |directory: &ObjectDirectory| {
        let ended = Ended::success(lsvd().arg("info").arg(directory.objects()).arg("--json"));
        assert_eq!(ended.json()["objects"], 3, "{ended}");
    };
    let directory = three_objects();
    fs::set_permissions(directory.objects(), Permissions::from_mode(0o555)).unwrap();
    shown(&directory);
    fs::set_permissions(directory.objects(), Permissions::from_mode(0o755)).unwrap();
    // The mode stops no superuser; a disk that is mounted for reading only does.
    if may_mount() {
        let directory = three_objects_in(ObjectDirectory::on_disk_of("16m"));
        let mut remount = client("mount");
        remount.args(["-o", "remount,ro"]).arg(directory.objects());
        Ended::success(&mut remount);
        fs::write(directory.objects().join("x"), "").unwrap_err();
        shown(&directory);
    }
}

#[test]
fn a_place_without_objects_is_no_volume() {
    let directory = ObjectDirectory::new();
    fs::create_dir_all(directory.objects()).unwrap();
    fs::write(directory.objects().join("letter.txt"), "dear").unwrap();
    let ended = Ended::run(lsvd().arg("info").arg(directory.objects())).assert_code(1);
    assert!(ended.stderr.contains("no object of a volume"), "{ended}");
}

/// A volume whose server was killed.
fn killed() -> ObjectDirectory {
    let arguments = ["--create", "64M", "--log-size", "64M"];
    Server::start_lasting(ObjectDirectory::new(), &arguments).kill()
}

#[test]
fn the_log_of_a_server_that_was_killed_is_named() {
    let directory = killed();
    let log = directory.objects().join("cache");
    let written = format!("(epoch 0), not closed, its log is {}\n", log.display());
    Ended::success(lsvd().arg("info").arg(directory.objects())).assert_stdout_has(&written);
}

/// Listens in the place of a server that is stopped: it is connected to and never answers.
#[test]
fn a_server_that_does_not_answer_is_asked_once() {
    let directory = killed();
    let link = directory.path().join("link");
    symlink(directory.objects(), &link).unwrap();
    let socket = directory.objects().join("cache/control.sock");
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket).unwrap();
    let path = [directory.objects(), link];
    let shown = path.map(|path| Ended::run(lsvd().arg("info").arg(path)));
    for ended in shown {
        let ended = ended.assert_code(0);
        let said = ended.stdout.contains("a server that cannot be asked");
        assert!(said, "{ended}");
    }
    // All that connected wait to be accepted.
    listener.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| listener.accept().ok()).count();
    assert_eq!(asked, 2, "once by each `lsvd info`");
}
