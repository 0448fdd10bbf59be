//! What every local disk must do, as one suite of tests.
//!
//! [`disk_conformance_tests!`](crate::disk_conformance_tests) makes a test of every check here; each
//! check panics where the disk breaks the contract of [`LocalDisk`]. Requests are polled by plain
//! threads, so the suite also shows that a disk needs no executor around it.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lsvd::doors::disk::{
    DiskError, DiskErrorKind, DiskFile, DiskWrite, LocalDisk, WriteDurability,
};
use pollster::block_on;

use crate::random::Random;

/// Opens the disk under test, every time the same one.
pub type Open<'a> = &'a (dyn Fn() -> Result<Arc<dyn LocalDisk>, DiskError> + Sync);

const MIB: u64 = 1 << 20;

/// Makes one `#[test]` of every check, in a module of this name; the expression makes a new empty
/// disk, and whatever must live as long as it, as `(open, guard)`, where `open` is what
/// [`Open`](crate::disk_conformance::Open) says.
#[macro_export]
macro_rules! disk_conformance_tests {
    ($module:ident, $make:expr) => {
        mod $module {
            $crate::disk_conformance_tests!(@each $make;
                new_files_are_zeroes
                writes_are_read_back
                parts_may_lie_anywhere
                random_writes_agree_with_a_model
                what_is_not_whole_units_inside_is_refused
                names_are_created_once
                impossible_names_are_refused
                renaming_replaces
                removed_files_are_gone
                content_stays_when_the_disk_is_opened_again
                one_has_the_disk_at_a_time
                a_dropped_request_is_carried_out
                many_requests_run_at_once
            );
        }
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                #[allow(
                    unused_imports,
                    reason = "what makes the disk may come from around the module or not"
                )]
                use super::*;
                let (open, _guard) = $make;
                $crate::disk_conformance::$check(&open);
            }
        )*
    };
}

fn must_open(open: Open<'_>) -> Arc<dyn LocalDisk> {
    open().expect("the disk can be opened")
}

fn create(disk: &dyn LocalDisk, name: &str, bytes: u64) -> Arc<dyn DiskFile> {
    block_on(disk.create(name, bytes)).expect("a new file can be created")
}

fn open_file(disk: &dyn LocalDisk, name: &str) -> Arc<dyn DiskFile> {
    let file = block_on(disk.open(name)).expect("a file can be opened");
    file.unwrap_or_else(|| panic!("there is no {name}"))
}

fn write(file: &dyn DiskFile, offset: u64, bytes: &[u8], durability: WriteDurability) {
    let parts = vec![Bytes::copy_from_slice(bytes)];
    block_on(file.write(vec![DiskWrite { offset, parts }], durability)).expect("a write succeeds");
}

fn read(file: &dyn DiskFile, offset: u64, len: usize) -> Bytes {
    let bytes = block_on(file.read(offset, len)).expect("a read inside the file succeeds");
    assert_eq!(bytes.len(), len);
    bytes
}

fn content(file: &dyn DiskFile) -> Bytes {
    let len = usize::try_from(file.len()).expect("a small file");
    read(file, 0, len)
}

/// `len` bytes that tell their place and their `stamp`.
fn pattern(stamp: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(stamp);
    let words = std::iter::repeat_with(|| random.bits().to_le_bytes());
    words.flatten().take(len).collect()
}

fn names(disk: &dyn LocalDisk) -> Vec<String> {
    let mut names = block_on(disk.list()).expect("files can be listed");
    names.sort();
    names
}

fn assert_kind<T>(result: Result<T, DiskError>, kind: DiskErrorKind) -> String {
    match result {
        Ok(_) => panic!("{kind:?} was due, but it succeeded"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error.to_string()
        }
    }
}

/// A new file has the length that was asked for, and reads as zeroes.
///
/// # Panics
/// Where the disk breaks the contract; so do all checks.
pub fn new_files_are_zeroes(open: Open<'_>) {
    let disk = must_open(open);
    for bytes in [0, 4096, MIB - 4096, MIB, 3 * MIB + 8192] {
        let file = create(&*disk, &format!("f{bytes}"), bytes);
        assert!([512, 4096].contains(&file.block_bytes()));
        assert_eq!(file.len(), bytes);
        let found = content(&*file);
        assert_eq!(found.iter().position(|byte| *byte != 0), None);
    }
    for bytes in [1, 512, 4095, MIB + 512] {
        assert_kind(block_on(disk.create("odd", bytes)), DiskErrorKind::Failed);
    }
    assert_eq!(names(&*disk).len(), 5);
}

/// Writes are read back wherever they are, synced or not, several at once, and change nothing else.
pub fn writes_are_read_back(open: Open<'_>) {
    let disk = must_open(open);
    let file = create(&*disk, "f", MIB);
    let unit = file.block_bytes();
    let end = MIB - unit as u64;
    let at = |units: u64| units * unit as u64;
    write(&*file, 0, &pattern(1, unit), WriteDurability::Unsynced);
    write(&*file, end, &pattern(2, unit), WriteDurability::Synced);
    let several = [(3, at(2)), (4, at(5)), (5, at(3))].map(|(stamp, offset)| DiskWrite {
        offset,
        parts: vec![Bytes::from(pattern(stamp, unit))],
    });
    block_on(file.write(several.into(), WriteDurability::Synced)).expect("writes succeed");
    block_on(file.write(Vec::new(), WriteDurability::Synced)).expect("a mere sync succeeds");
    for (stamp, offset) in [(1, 0), (2, end), (3, at(2)), (4, at(5)), (5, at(3))] {
        assert_eq!(read(&*file, offset, unit), pattern(stamp, unit));
    }
    for units in [1, 4, 6, 20] {
        assert_eq!(read(&*file, at(units), unit), vec![0; unit]);
    }
    let empty = DiskWrite {
        offset: 0,
        parts: Vec::new(),
    };
    block_on(file.write(vec![empty], WriteDurability::Unsynced)).expect("nothing can be written");
    assert_eq!(read(&*file, 0, unit), pattern(1, unit));
    assert_eq!(read(&*file, at(3), 0), Bytes::new());
}

/// Parts of any length at any address are written as if they were one.
pub fn parts_may_lie_anywhere(open: Open<'_>) {
    let disk = must_open(open);
    let file = create(&*disk, "f", 16 * MIB);
    let memory = Bytes::from(pattern(6, 20 << 20));
    // Where the memory is aligned, so that all of a part, its start, its end or nothing of it is.
    let aligned = memory.as_ptr().align_offset(4096);
    let from = |shift: usize, len: usize| memory.slice(aligned + shift..aligned + shift + len);
    let cases: Vec<Vec<Bytes>> = vec![
        vec![from(0, 8192)],
        vec![from(1, 8192)],
        vec![from(512, 4096), from(0, 4096)],
        vec![from(7, 4096), from(4096, 8192), from(9, 4096)],
        vec![from(0, 4096 + 100), from(8192, 3996)],
        vec![from(0, 1), from(4096, 8191)],
        vec![from(0, 0), from(3, 0), from(4096, 4096), from(5, 0)],
        (0..4096).map(|part| from(part * 3, 1)).collect(),
        (0..3000).map(|part| from(part * 4096, 4096)).collect(),
        (0..1500)
            .flat_map(|part| [from(part * 8192, 4096), from(part * 4096 + 1, 4096)])
            .collect(),
    ];
    for (case, parts) in cases.into_iter().enumerate() {
        let bytes = parts.concat();
        let offset = 4096 * (case as u64 + 1);
        let one = DiskWrite { offset, parts };
        block_on(file.write(vec![one], WriteDurability::Synced)).expect("a write succeeds");
        assert!(read(&*file, offset, bytes.len()) == bytes, "case {case}");
    }
}

/// Hundreds of random writes and reads agree with a plain copy of the file.
pub fn random_writes_agree_with_a_model(open: Open<'_>) {
    let disk = must_open(open);
    let file = create(&*disk, "f", MIB);
    let unit = file.block_bytes();
    let units = MIB / unit as u64;
    let mut model = vec![0; 1 << 20];
    let mut random = Random::new(7);
    let mut number = |bound: u64| usize::try_from(random.below(bound)).expect("a small number");
    for step in 0..400 {
        let first = number(units);
        let count = 1 + number((units - first as u64).min(40));
        let range = first * unit..(first + count) * unit;
        let offset = range.start as u64;
        if number(3) == 0 {
            assert!(
                read(&*file, offset, range.len()) == model[range],
                "step {step}"
            );
            continue;
        }
        let bytes = Bytes::from(pattern(step, range.len()));
        let cut = number(range.len() as u64 + 1);
        let parts = vec![bytes.slice(..cut), bytes.slice(cut..)];
        let durability = if number(4) == 0 {
            WriteDurability::Synced
        } else {
            WriteDurability::Unsynced
        };
        block_on(file.write(vec![DiskWrite { offset, parts }], durability)).expect("succeeds");
        model[range].copy_from_slice(&bytes);
    }
    assert!(content(&*file) == model);
}

/// What is not made of whole units inside the file is refused, and changes nothing.
pub fn what_is_not_whole_units_inside_is_refused(open: Open<'_>) {
    let disk = must_open(open);
    let file = create(&*disk, "f", 8192);
    let unit = file.block_bytes();
    let before = pattern(8, 8192);
    write(&*file, 0, &before, WriteDurability::Synced);
    let cases = [
        (1, unit),
        (0, 1),
        (0, unit + 1),
        (unit as u64 - 1, 1),
        (8192, unit),
        (0, 8192 + unit),
        (8192 - unit as u64, 2 * unit),
        (u64::MAX - 4095, 4096),
        (u64::MAX - 511, 512),
        (1 << 63, 4096),
    ];
    for (offset, len) in cases {
        let parts = vec![Bytes::from(vec![0xee; len])];
        let written = file.write(vec![DiskWrite { offset, parts }], WriteDurability::Synced);
        assert_kind(block_on(written), DiskErrorKind::Failed);
        assert_kind(block_on(file.read(offset, len)), DiskErrorKind::Failed);
    }
    assert_eq!(content(&*file), before);
}

/// A second creation of a name fails and changes nothing; what is not there is not opened.
pub fn names_are_created_once(open: Open<'_>) {
    let disk = must_open(open);
    let absent = block_on(disk.open("f")).expect("looking for a file succeeds");
    assert!(absent.is_none());
    let file = create(&*disk, "f", 4096);
    write(&*file, 0, &pattern(9, 4096), WriteDurability::Unsynced);
    let message = assert_kind(block_on(disk.create("f", 8192)), DiskErrorKind::Failed);
    assert!(message.contains('f'), "{message}");
    assert_eq!(content(&*open_file(&*disk, "f")), pattern(9, 4096));
    assert_eq!(names(&*disk), ["f"]);
}

/// Names that could lead out of the directory, or to its lock, are refused by every verb.
pub fn impossible_names_are_refused(open: Open<'_>) {
    let disk = must_open(open);
    create(&*disk, "f", 4096);
    let long = "x".repeat(256);
    for name in [
        "", ".", "..", "../f", "a/b", "/f", ".hidden", "nul\0", "lock", &long,
    ] {
        assert_kind(block_on(disk.open(name)), DiskErrorKind::Failed);
        assert_kind(block_on(disk.create(name, 4096)), DiskErrorKind::Failed);
        assert_kind(block_on(disk.rename(name, "g")), DiskErrorKind::Failed);
        assert_kind(block_on(disk.rename("f", name)), DiskErrorKind::Failed);
        assert_kind(block_on(disk.remove(name)), DiskErrorKind::Failed);
    }
    assert_eq!(names(&*disk), ["f"]);
    create(&*disk, &"x".repeat(255), 4096);
}

/// A renamed file replaces what had the name; who has that open keeps it.
pub fn renaming_replaces(open: Open<'_>) {
    let disk = must_open(open);
    let old = create(&*disk, "f", 4096);
    write(&*old, 0, &pattern(1, 4096), WriteDurability::Synced);
    let new = create(&*disk, "new", 8192);
    write(&*new, 0, &pattern(2, 8192), WriteDurability::Synced);
    block_on(disk.rename("new", "f")).expect("a file can be renamed");
    assert_eq!(names(&*disk), ["f"]);
    assert_eq!(content(&*open_file(&*disk, "f")), pattern(2, 8192));
    assert_eq!(content(&*old), pattern(1, 4096));
    write(&*new, 0, &pattern(3, 8192), WriteDurability::Unsynced);
    assert_eq!(content(&*open_file(&*disk, "f")), pattern(3, 8192));
    assert_kind(block_on(disk.rename("new", "g")), DiskErrorKind::Failed);
    assert_eq!(names(&*disk), ["f"]);
}

/// A removed file is gone, also when it was not there; who has it open keeps it.
pub fn removed_files_are_gone(open: Open<'_>) {
    let disk = must_open(open);
    block_on(disk.remove("f")).expect("what is not there can be removed");
    let file = create(&*disk, "f", 4096);
    let other = create(&*disk, "g", 4096);
    block_on(disk.remove("f")).expect("a file can be removed");
    assert_eq!(names(&*disk), ["g"]);
    assert!(
        block_on(disk.open("f"))
            .expect("looking succeeds")
            .is_none()
    );
    write(&*file, 0, &pattern(1, 4096), WriteDurability::Synced);
    assert_eq!(content(&*file), pattern(1, 4096));
    assert_eq!(content(&*other), vec![0; 4096]);
    assert_eq!(content(&*create(&*disk, "f", 4096)), vec![0; 4096]);
}

/// Content, synced or not, and names are there when the disk is opened again without a crash.
pub fn content_stays_when_the_disk_is_opened_again(open: Open<'_>) {
    let path = {
        let disk = must_open(open);
        let file = create(&*disk, "new", MIB);
        write(&*file, 0, &pattern(1, 8192), WriteDurability::Synced);
        write(
            &*file,
            MIB - 8192,
            &pattern(2, 8192),
            WriteDurability::Unsynced,
        );
        block_on(disk.rename("new", "f")).expect("a file can be renamed");
        disk.path()
    };
    let disk = must_open(open);
    assert_eq!(disk.path(), path);
    assert_eq!(names(&*disk), ["f"]);
    let file = open_file(&*disk, "f");
    assert_eq!(file.len(), MIB);
    assert_eq!(read(&*file, 0, 8192), pattern(1, 8192));
    assert_eq!(read(&*file, 8192, 8192), vec![0; 8192]);
    assert_eq!(read(&*file, MIB - 8192, 8192), pattern(2, 8192));
}

/// As long as somebody has the disk or a file of it, nobody else gets it, and is told where it is.
pub fn one_has_the_disk_at_a_time(open: Open<'_>) {
    let disk = must_open(open);
    let path = disk.path();
    let refused = || {
        let message = assert_kind(open(), DiskErrorKind::InUse);
        assert!(message.contains(&path), "{message}");
    };
    refused();
    let file = create(&*disk, "f", 4096);
    drop(disk);
    refused();
    drop(file);
    let disk = must_open(open);
    let file = open_file(&*disk, "f");
    drop(disk);
    refused();
    assert_eq!(content(&*file), vec![0; 4096]);
    drop(file);
    must_open(open);
}

/// A request that nobody waits for any more is carried out to its end, and has the disk so long.
pub fn a_dropped_request_is_carried_out(open: Open<'_>) {
    let disk = must_open(open);
    let file = create(&*disk, "f", MIB);
    let parts = vec![Bytes::from(pattern(1, 1 << 20))];
    let mut writing = file.write(
        vec![DiskWrite { offset: 0, parts }],
        WriteDurability::Synced,
    );
    // Once is enough to begin it; whether it is done by then does not matter.
    let _ = writing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    drop(writing);
    drop(file);
    drop(disk);
    let begun = Instant::now();
    let disk = loop {
        match open() {
            Ok(disk) => break disk,
            Err(error) => assert_eq!(error.kind(), DiskErrorKind::InUse, "{error}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never ends");
        thread::yield_now();
    };
    assert!(content(&*open_file(&*disk, "f")) == pattern(1, 1 << 20));
}

/// Requests to one file and to several, from many threads, do not disturb one another.
pub fn many_requests_run_at_once(open: Open<'_>) {
    const THREADS: u64 = 8;
    let disk = must_open(open);
    let shared = create(&*disk, "shared", THREADS * 65536);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (disk, shared) = (&disk, &shared);
            scope.spawn(move || {
                let own = create(&**disk, &format!("own{number}"), 65536);
                for round in 0..20 {
                    let bytes = pattern(number * 100 + round, 65536);
                    let durability = match round % 2 {
                        0 => WriteDurability::Synced,
                        _ => WriteDurability::Unsynced,
                    };
                    write(&**shared, number * 65536, &bytes, durability);
                    write(&*own, 0, &bytes, durability);
                    assert!(read(&**shared, number * 65536, 65536) == bytes);
                    assert!(content(&*own) == bytes);
                }
                let name = format!("own{number}");
                block_on(disk.rename(&name, &format!("done{number}"))).expect("it is there");
            });
        }
    });
    assert_eq!(names(&*disk).len() as u64, THREADS + 1);
}

/// A file above 4 GiB is addressed in all its length. Not among the tests that the macro makes:
/// disks that fill new files take long for it.
pub fn files_may_exceed_4_gib(open: Open<'_>) {
    const LEN: u64 = (4 << 30) + (16 << 20);
    let disk = must_open(open);
    let file = create(&*disk, "f", LEN);
    assert_eq!(file.len(), LEN);
    let offsets = [
        0,
        8192,
        (4 << 30) - 8192,
        4 << 30,
        (4 << 30) + 8192,
        LEN - 8192,
    ];
    for (stamp, offset) in (0..).zip(offsets) {
        write(
            &*file,
            offset,
            &pattern(stamp, 8192),
            WriteDurability::Synced,
        );
    }
    drop(file);
    let file = open_file(&*disk, "f");
    assert_eq!(file.len(), LEN);
    for (stamp, offset) in (0..).zip(offsets) {
        assert_eq!(
            read(&*file, offset, 8192),
            pattern(stamp, 8192),
            "at {offset}"
        );
    }
    assert_kind(block_on(file.read(LEN, 4096)), DiskErrorKind::Failed);
}
