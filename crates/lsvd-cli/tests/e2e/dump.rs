//! `lsvd dump` on sound and on damaged objects.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

/// A volume with one data object of two writes and a discard, in five blocks.
fn volume() -> ObjectDirectory {
    let arguments = ["--create", "16M", "--log-size", "64M", "--flush", "store"];
    let server = Server::start_lasting(ObjectDirectory::new(), &arguments);
    let write = "
h.pwrite(b'a' * 16384, 0)
h.pwrite(b'b' * 512, 65536)
h.trim(4096, 4096)
h.flush()
";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    server.close()
}

fn dump(path: &PathBuf, code: i32) -> (Value, Ended) {
    let ended = Ended::run(lsvd().arg("dump").arg(path).arg("--json")).assert_code(code);
    (ended.json(), ended)
}

fn problems(shown: &Value) -> Vec<String> {
    let problems = shown["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|problem| problem.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_field_of_an_object_is_shown() {
    let directory = volume();
    let path = directory.objects().join("data.00000000");
    let (shown, _) = dump(&path, 0);
    assert_eq!(shown["kind"], "data");
    let header = &shown["header"];
    assert_eq!(header["magic"], "LSVDob\\r\\n");
    assert_eq!(header["id"], "data.00000000");
    assert_eq!(header["data_length"], 16896);
    assert_eq!(header["entry_count"], 3);
    assert_eq!(header["checksum"], "matches");
    assert_eq!(header["predecessor"], Value::Null);
    let entries = shown["entries"].as_array().unwrap();
    let kinds: Vec<&str> = entries
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["write", "write", "discard"]);
    assert_eq!(
        (&entries[1]["lba"], &entries[1]["sectors"]),
        (&128.into(), &1.into())
    );
    assert_eq!(entries[1]["data_offset"], 16384);
    let blocks = shown["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 5);
    assert!(
        blocks.iter().all(|block| block["checksum"] == "matches"),
        "{shown}"
    );
    assert_eq!(problems(&shown), Vec::<String>::new());
    let text = Ended::success(lsvd().arg("dump").arg(&path));
    text.assert_stdout_has("entry 1 kind write lba 128 sectors 1 data offset 16384");
}

#[test]
fn a_superblock_is_shown() {
    let directory = volume();
    let (shown, _) = dump(&directory.objects().join("superblock.00000001"), 0);
    assert_eq!(shown["kind"], "superblock");
    assert_eq!(shown["state"]["change"], "claim");
    assert_eq!(shown["state"]["size"], 16 << 20);
    assert_eq!(shown["header"]["predecessor"], "superblock.00000000");
}

#[test]
fn of_what_is_damaged_all_is_shown_that_can_be_read() {
    let directory = volume();
    let path = directory.objects().join("data.00000000");
    let sound = fs::read(&path).unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let (shown, ended) = dump(&path, 1);
        assert!(
            ended.stderr.starts_with("lsvd: ") && ended.stderr.lines().count() == 1,
            "{ended}"
        );
        (problems(&shown), shown)
    };
    let header_len = 112 + 3 * 16;
    let (said, shown) = damaged(&|bytes| bytes[header_len + 4100 + 7] ^= 1);
    assert_eq!(said, ["the checksum of block 1 does not match"]);
    assert_eq!(shown["header"]["checksum"], "matches");
    assert_eq!(shown["blocks"][1]["checksum"], "does not match");
    assert_eq!(shown["blocks"][2]["checksum"], "matches");

    let (said, shown) = damaged(&|bytes| bytes[70] ^= 1);
    assert_eq!(said, ["the checksum of the header does not match"]);
    assert_eq!(shown["header"]["entry_count"], 3);
    assert_eq!(shown["entries"].as_array().unwrap().len(), 3);
    assert_eq!(shown["blocks"][4]["checksum"], "matches");

    let (said, shown) = damaged(&|bytes| bytes.truncate(header_len + 4100 + 100));
    assert!(said[0].contains("bytes long and should be"), "{said:?}");
    assert_eq!(shown["blocks"][0]["checksum"], "matches");
    assert_eq!(shown["blocks"][1]["checksum"], "is cut off");

    // Its name still says what it should be.
    let (_, shown) = damaged(&|bytes| bytes[0] = b'X');
    assert_eq!(shown["kind"], "data");
    assert_eq!(shown["header"]["data_length"], 16896);
    let (_, shown) = damaged(&|bytes| bytes.truncate(50));
    assert_eq!(shown["header"]["id"], "data.00000000");
    assert_eq!(shown["header"]["data_length"], Value::Null);
    let (said, _) = damaged(&Vec::clear);
    assert!(!said.is_empty());
    fs::write(&path, &sound).unwrap();

    let other = directory.objects().join("data.00000007");
    fs::copy(&path, &other).unwrap();
    let (shown, _) = dump(&other, 1);
    assert_eq!(
        problems(&shown),
        ["the file is data.00000007 and the object data.00000000"]
    );
}

/// Each byte of the headers changed, and every length: something is said, and nothing falls over.
#[test]
fn no_damage_makes_it_fall_over() {
    let directory = volume();
    for name in ["data.00000000", "superblock.00000001"] {
        let path = directory.objects().join(name);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len().min(200)).step_by(3) {
            let mut bytes = sound.clone();
            bytes[at] = !bytes[at];
            fs::write(&path, &bytes).unwrap();
            dump(&path, 1);
            fs::write(&path, &sound[..at]).unwrap();
            dump(&path, 1);
        }
    }
}

/// A volume whose server was killed with three flushed writes in its log alone.
fn log() -> (ObjectDirectory, PathBuf) {
    let arguments = [
        "--create",
        "16M",
        "--log-size",
        "64M",
        "--seal-timeout",
        "1h",
    ];
    let server = Server::start_lasting(ObjectDirectory::new(), &arguments);
    let write = "
for number in range(3):
    h.pwrite(b'%d' % number * 4096, number * 65536)
    h.flush()
";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    let directory = server.kill();
    let path = directory.objects().join("cache/log");
    (directory, path)
}

#[test]
fn a_write_log_is_shown_record_by_record() {
    let (_directory, path) = log();
    let (shown, _) = dump(&path, 0);
    assert_eq!(shown["kind"], "write log");
    let batches = shown["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 1, "{shown}");
    assert_eq!(batches[0]["batch"], "data.00000000");
    assert_eq!(
        (&batches[0]["entries"], &batches[0]["end"]),
        (&3.into(), &"open".into())
    );
    let records = shown["records"].as_array().unwrap();
    let sectors = records
        .iter()
        .map(|record| record["sectors"].as_u64().unwrap());
    assert_eq!(sectors.sum::<u64>(), 3 * 8, "{shown}");
    Ended::success(lsvd().arg("dump").arg(&path)).assert_stdout_has("batches: 1");
}

#[test]
fn a_damaged_write_log_is_shown_as_far_as_it_goes() {
    let (_directory, path) = log();
    let sound = fs::read(&path).unwrap();
    let (shown, _) = dump(&path, 0);
    let place = shown["records"][1]["place"].as_u64().unwrap();
    let block = shown["header"]["block_bytes"].as_u64().unwrap();
    let damaged = |at: u64| {
        let mut bytes = sound.clone();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (shown, _) = dump(&path, 1);
        (problems(&shown), shown)
    };
    // Its data, in the block behind its header.
    let (said, shown) = damaged(8192 + place + block + 100);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("data.00000000 was durable up to byte "),
        "{said:?}"
    );
    assert_eq!(shown["batches"][0]["entries"], 1);
    assert_eq!(shown["batches"][0]["end"], "damaged");
    let (said, _) = damaged(100);
    assert_eq!(said, ["copy 0 of the header: its checksum does not match"]);
    let (said, shown) = damaged(0);
    assert!(said[0].starts_with("copy 0 of the header: "), "{said:?}");
    assert_eq!(
        shown["batches"][0]["entries"], 3,
        "the second copy was not used"
    );
}
