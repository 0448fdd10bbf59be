//! `lsvd info` on real objects, sound and damaged.

use std::fs;

use crate::harness::{Ended, Server, client, lsvd};

/// A directory with three objects of 1 MiB of data.
fn three_objects() -> crate::harness::ObjectDirectory {
    let server = Server::start("64M", &["--object-size", "1M"]);
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
    assert_eq!(summary["volumes"].as_array().unwrap().len(), 1, "{summary}");
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
        damaged[1].starts_with("data.00000001: it has 5000 bytes"),
        "{ended}"
    );
    assert_eq!(
        damaged[2],
        "data.00000003: its header says that it is data.00000002"
    );
    assert!(ended.stderr.contains("3 of 3 objects"), "{ended}");
}
