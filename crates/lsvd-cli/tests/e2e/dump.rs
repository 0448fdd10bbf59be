//! `lsvd dump` on sound and on damaged objects.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

/// A volume with one data object of two writes and a discard, in five blocks.
fn volume() -> ObjectDirectory {
    // Only the flush is to end the object, however long the client takes.
    let arguments = ["--create", "16M", "--log-size", "64M", "--flush", "store"];
    let arguments = [&arguments[..], &["--seal-timeout", "1h"]].concat();
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
    for name in ["data.00000000", "superblock.00000001", "ckpt.00000000"] {
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

/// Objects of a checkpoint, the bytes that the format's own tests guard: a root, and the part that it
/// names.
const GOLDEN: [(&str, &[u8]); 2] = [
    (
        "ckpt.30000000004",
        include_bytes!("../../../lsvd/src/bytes/checkpoint/golden-v1.part"),
    ),
    (
        "ckpt.30000000005",
        include_bytes!("../../../lsvd/src/bytes/checkpoint/golden-v1.root"),
    ),
];

fn golden() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in GOLDEN {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let [part, root] = GOLDEN.map(|(name, _)| folder.path().join(name));
    (folder, part, root)
}

/// The numbers in these columns of a table.
fn numbers<const N: usize>(table: &Value, columns: [&str; N]) -> Vec<[u64; N]> {
    let rows = table.as_array().unwrap().iter();
    let number = |value: &Value| value.as_u64().unwrap();
    rows.map(|row| columns.map(|column| number(&row[column])))
        .collect()
}

fn words<'a>(table: &'a Value, column: &str) -> Vec<&'a str> {
    let rows = table.as_array().unwrap().iter();
    rows.map(|row| row[column].as_str().unwrap()).collect()
}

const EXTENT: [&str; 4] = ["lba", "sectors", "slot", "data_offset"];

#[test]
fn a_checkpoint_is_shown_to_its_last_extent() {
    let (_folder, part, root) = golden();
    let (shown, _) = dump(&root, 0);
    assert_eq!(shown["kind"], "ckpt");
    let head = &shown["checkpoint"];
    assert_eq!(head["form"], "2 (root)");
    assert_eq!(head["object_count"], 2);
    assert_eq!(head["sectors"], 1 << 30);
    assert_eq!(head["region_sectors"], 1 << 13);
    assert_eq!(head["cut"], "data.30000000033");
    assert_eq!(words(&shown["references"], "object"), ["ckpt.30000000004"]);
    assert_eq!(
        words(&shown["pieces"], "kind"),
        ["objects", "extents", "extents", "extents"]
    );
    assert_eq!(words(&shown["pieces"], "checksum"), ["matches"; 4]);
    assert_eq!(
        words(&shown["objects"], "object"),
        ["data.30000000012", "data.30000000033"]
    );
    assert_eq!(
        numbers(&shown["objects"], ["slot", "header_length", "data_length"]),
        [[0, 160, 51_200], [1, 112, 8 << 20]]
    );
    let region = 1 << 13;
    let in_part = [
        [region + 3, 1, 1, 5 * 512],
        [region + 4, 1, 0, 9 * 512],
        [4 * region + 16, 8, 1, 0],
        [4 * region + 24, 8, 0, 72 * 512],
        [4 * region + 800, 64, 1, 8 * 512],
    ];
    let own = [[(1 << 30) - 7, 7, 1, 93 * 512]];
    assert_eq!(
        numbers(&shown["extents"], EXTENT),
        [&in_part[..], &own].concat()
    );
    let objects = words(&shown["extents"], "object");
    assert_eq!(objects[..2], ["data.30000000033", "data.30000000012"]);
    Ended::success(lsvd().arg("dump").arg(&root)).assert_stdout_has(
        "extents: 6\n  lba 8195 sectors 1 slot 1 object data.30000000033 data offset 2560\n",
    );

    let (shown, _) = dump(&part, 0);
    assert_eq!(shown["checkpoint"]["form"], "1 (part)");
    assert_eq!(shown["objects"].as_array().unwrap().len(), 0);
    assert_eq!(numbers(&shown["extents"], EXTENT), in_part);
    assert_eq!(shown["extents"][0]["object"], Value::Null);
}

#[test]
fn damage_in_a_checkpoint_is_named_with_its_place() {
    let (_folder, part, root) = golden();
    let damaged = |path: &Path, at: usize| {
        let sound = fs::read(path).unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
        let (shown, ended) = dump(&root, 1);
        fs::write(path, sound).unwrap();
        (problems(&shown), shown, ended)
    };
    // The first extents of the root are the last piece of the part, the second of its two.
    let (shown, _) = dump(&root, 0);
    let at = |piece: usize| usize::try_from(shown["pieces"][piece]["at"].as_u64().unwrap());
    let (said, shown, ended) = damaged(&part, at(1).unwrap());
    let expected = format!(
        "piece 1, at byte {} of ckpt.30000000004: its checksum does not match",
        at(1).unwrap()
    );
    assert_eq!(said, [expected.as_str()]);
    assert!(ended.stderr.contains(&expected), "{ended}");
    assert_eq!(
        words(&shown["pieces"], "checksum"),
        ["matches", "does not match", "matches", "matches"]
    );
    assert_eq!(shown["extents"].as_array().unwrap().len(), 4);

    // Without the rows nobody knows the objects of the extents, which is told once.
    let (said, shown, _) = damaged(&root, at(0).unwrap());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("piece 0, at byte "), "{said:?}");
    assert_eq!(shown["extents"].as_array().unwrap().len(), 6);

    // A list that does not check is shown, and what it lists is not believed.
    let (said, shown, _) = damaged(&root, 112 + 40 + 8 + 32 + 4);
    assert_eq!(said, ["the checksum of the header does not match"]);
    assert_eq!(shown["pieces"].as_array().unwrap().len(), 4);
    assert_eq!(shown["extents"], Value::Null);

    fs::remove_file(&part).unwrap();
    let (shown, _) = dump(&root, 1);
    let said = problems(&shown);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("cannot read ") && said[0].contains("ckpt.30000000004: No such file"),
        "{said:?}"
    );
    assert_eq!(shown["extents"].as_array().unwrap().len(), 1);

    let bytes = fs::read(&root).unwrap();
    fs::write(&root, &bytes[..bytes.len() - 1]).unwrap();
    let (shown, _) = dump(&root, 1);
    let said = problems(&shown);
    assert!(said.iter().any(|said| said.ends_with("it is cut off")));
    assert!(said.contains(&"it is 310 bytes long and should be 311".to_owned()));
}

/// What a server wrote, and what is in it.
#[test]
fn the_checkpoint_of_a_closed_volume_is_its_map() {
    let directory = volume();
    let (shown, _) = dump(&directory.objects().join("ckpt.00000000"), 0);
    assert_eq!(shown["checkpoint"]["sectors"], (16 << 20) / 512);
    assert_eq!(shown["checkpoint"]["cut"], "data.00000000");
    assert_eq!(
        numbers(&shown["objects"], ["slot", "header_length", "data_length"]),
        [[0, 160, 16_896]]
    );
    assert_eq!(
        numbers(&shown["extents"], EXTENT),
        [[0, 8, 0, 0], [16, 16, 0, 8192], [128, 1, 0, 16_384]]
    );
    assert_eq!(words(&shown["extents"], "object"), ["data.00000000"; 3]);

    // The next one names what has not changed.
    let server = Server::start_lasting(directory, &["--log-size", "64M"]);
    let write = "h.pwrite(b'c' * 512, (16 << 20) - 512)";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", write]));
    let directory = server.close();
    let (shown, _) = dump(&directory.objects().join("ckpt.10000000000"), 0);
    assert_eq!(shown["header"]["predecessor"], "ckpt.00000000");
    assert_eq!(words(&shown["references"], "object"), ["ckpt.00000000"]);
    assert_eq!(
        numbers(&shown["extents"], EXTENT),
        [
            [0, 8, 0, 0],
            [16, 16, 0, 8192],
            [128, 1, 0, 16_384],
            [32_767, 1, 1, 0]
        ]
    );
    assert_eq!(shown["extents"][3]["object"], "data.10000000000");
}

/// Everything that a served volume leaves in its directory, by its name.
#[test]
fn every_file_of_a_volume_is_shown_or_refused_with_its_name() {
    let directory = volume();
    let mut kinds = Vec::new();
    let mut names = directory.names();
    names.push("cache/log".to_owned());
    for name in names {
        let path = directory.objects().join(&name);
        if path.is_dir() {
            continue;
        }
        if name == "lsvd.lock" {
            let ended = Ended::run(lsvd().arg("dump").arg(&path)).assert_code(1);
            assert!(ended.stderr.contains("lsvd.lock is neither an object nor"));
            assert_eq!(ended.stdout, "");
            continue;
        }
        kinds.push(dump(&path, 0).0["kind"].as_str().unwrap().to_owned());
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["ckpt", "data", "superblock", "write log"]);
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
fn a_write_log_too_short_for_its_header_does_not_check() {
    let (_directory, path) = log();
    let whole = fs::read(&path).unwrap();
    for (len, missing) in [(0, 2), (100, 2), (4096, 1)] {
        fs::write(&path, &whole[..len]).unwrap();
        let (shown, ended) = dump(&path, 1);
        let of_headers = problems(&shown);
        let of_headers = of_headers.iter().filter(|told| told.starts_with("copy "));
        assert_eq!(of_headers.count(), missing, "{len} bytes: {ended}");
    }
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
    // Damaged in both copies of its header it is still what its name says.
    let mut bytes = sound.clone();
    (bytes[0], bytes[4096]) = (b'X', b'X');
    fs::write(&path, bytes).unwrap();
    let (shown, _) = dump(&path, 1);
    assert_eq!(shown["kind"], "write log");
    assert_eq!(problems(&shown).len(), 2, "{shown}");
}
