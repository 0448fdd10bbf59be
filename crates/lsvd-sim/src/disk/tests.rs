//! What a crash leaves, faults, and requests that are held.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use lsvd::doors::disk::{DiskFile, DiskWrite, LocalDisk, WriteDurability};
use pollster::block_on;

use super::*;

mod stop;

const SYNCED: WriteDurability = WriteDurability::Synced;
const UNSYNCED: WriteDurability = WriteDurability::Unsynced;

/// A disk with the file `f` of 8 units, whose name is durable.
fn disk_with_file(unit: usize) -> (MemoryDisk, Arc<OpenMemoryDisk>, Arc<dyn DiskFile>) {
    let disk = MemoryDisk::new(unit);
    let open = disk.open().unwrap();
    let file = block_on(open.create("new", 8 * unit as u64)).unwrap();
    block_on(open.rename("new", "f")).unwrap();
    (disk, open, file)
}

fn units(unit: usize, first: usize, stamps: &[u8]) -> Vec<DiskWrite> {
    let parts = stamps.iter().map(|stamp| Bytes::from(vec![*stamp; unit]));
    vec![DiskWrite {
        offset: (first * unit) as u64,
        parts: parts.collect(),
    }]
}

fn write(file: &dyn DiskFile, first: usize, stamps: &[u8], durability: WriteDurability) {
    block_on(file.write(units(file.block_bytes(), first, stamps), durability)).unwrap();
}

/// The stamps of the units of `f`, each of which must be whole.
fn stamps(disk: &MemoryDisk) -> Vec<u8> {
    let bytes = disk.snapshot("f").unwrap();
    let stamp = |unit: &[u8]| {
        assert!(unit.iter().all(|byte| *byte == unit[0]), "a torn unit");
        unit[0]
    };
    bytes.chunks(disk.shared.unit).map(stamp).collect()
}

#[test]
fn what_cannot_be_read_can_be_overwritten() {
    for unit in [512, 4096] {
        let (disk, _open, file) = disk_with_file(unit);
        write(&*file, 0, &[1; 8], SYNCED);
        let size = unit as u64;
        disk.spoil("f", 2 * size + 1, size);
        let kind = |disk: &MemoryDisk, first: u64, count: usize| {
            let open = disk.open().unwrap();
            let file = block_on(open.open("f")).unwrap().unwrap();
            let read = block_on(file.read(first * size, count * unit));
            read.err().map(|error| error.kind())
        };
        let crash = || disk.crash_with(Survivors::None);
        assert_eq!(kind(&crash(), 0, 8), Some(DiskErrorKind::Unreadable));
        assert_eq!(kind(&crash(), 3, 1), Some(DiskErrorKind::Unreadable));
        assert_eq!(kind(&crash(), 0, 2), None);
        assert_eq!(kind(&crash(), 4, 4), None);
        // Its bytes are not gone; a write that is lost leaves it as it was.
        write(&*file, 2, &[2, 2], UNSYNCED);
        assert_eq!(kind(&disk.crash_with(Survivors::All), 0, 8), None);
        assert_eq!(kind(&crash(), 0, 8), Some(DiskErrorKind::Unreadable));
        block_on(file.read(0, 8 * unit)).unwrap();
        write(&*file, 0, &[], SYNCED);
        assert_eq!(kind(&crash(), 0, 8), None);
        disk.spoil("f", 0, 1);
        block_on(file.read(0, unit)).unwrap_err();
        disk.mend("f");
        assert_eq!(&block_on(file.read(0, unit)).unwrap()[..], vec![1; unit]);
    }
}

#[test]
fn what_was_synced_survives_and_nothing_else_must() {
    for unit in [512, 4096] {
        let (disk, _open, file) = disk_with_file(unit);
        write(&*file, 0, &[1, 1, 1, 1], UNSYNCED);
        write(&*file, 4, &[2], SYNCED);
        write(&*file, 0, &[3, 3], UNSYNCED);
        write(&*file, 6, &[4, 4], UNSYNCED);
        assert_eq!(stamps(&disk), [3, 3, 1, 1, 2, 0, 4, 4]);
        assert_eq!(
            stamps(&disk.crash_with(Survivors::All)),
            [3, 3, 1, 1, 2, 0, 4, 4]
        );
        assert_eq!(
            stamps(&disk.crash_with(Survivors::None)),
            [1, 1, 1, 1, 2, 0, 0, 0]
        );
        let mut seen = BTreeSet::new();
        for seed in 0..1000 {
            let after = stamps(&disk.crash(seed));
            assert_eq!(after, stamps(&disk.crash(seed)), "the seed does not tell");
            assert_eq!(after[2..6], [1, 1, 2, 0]);
            assert!([1, 3].contains(&after[0]) && [1, 3].contains(&after[1]));
            assert!([0, 4].contains(&after[6]) && [0, 4].contains(&after[7]));
            seen.insert(after);
        }
        assert_eq!(seen.len(), 16, "units do not survive independently");
    }
}

#[test]
fn a_crash_may_leave_any_older_version_of_a_unit() {
    let (disk, _open, file) = disk_with_file(512);
    for stamp in 1..4 {
        write(&*file, 0, &[stamp], UNSYNCED);
    }
    let seen: BTreeSet<u8> = (0..200).map(|seed| stamps(&disk.crash(seed))[0]).collect();
    assert_eq!(seen, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn what_a_crash_leaves_is_durable_and_the_old_disk_goes_on() {
    let (disk, _open, file) = disk_with_file(512);
    write(&*file, 0, &[1], UNSYNCED);
    let after = disk.crash_with(Survivors::All);
    after.open().unwrap();
    assert_eq!(stamps(&after.crash_with(Survivors::None))[0], 1);
    write(&*file, 0, &[2], SYNCED);
    assert_eq!(stamps(&after)[0], 1);
    assert_eq!(stamps(&disk)[0], 2);
}

#[test]
fn a_name_is_durable_when_it_was_renamed() {
    let (disk, open, _file) = disk_with_file(512);
    block_on(open.create("g", 8192)).unwrap();
    assert_eq!(disk.crash_with(Survivors::None).names(), ["f"]);
    assert_eq!(disk.crash_with(Survivors::All).names(), ["f", "g"]);
    block_on(open.rename("g", "f")).unwrap();
    let after = disk.crash_with(Survivors::None);
    assert_eq!(after.snapshot("f").unwrap().len(), 8192);
    block_on(open.remove("f")).unwrap();
    assert!(disk.crash_with(Survivors::All).names().is_empty());
}

#[test]
fn a_failed_write_leaves_half_of_it() {
    let (disk, _open, file) = disk_with_file(512);
    disk.fail_after(1, Fault::Write);
    write(&*file, 0, &[1, 1], SYNCED);
    block_on(file.write(units(512, 0, &[2, 2, 2, 2]), SYNCED)).unwrap_err();
    assert_eq!(stamps(&disk)[..4], [2, 2, 0, 0]);
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[..4], [1, 1, 0, 0]);
    write(&*file, 0, &[3], SYNCED);
}

#[test]
fn no_sync_makes_good_for_one_that_failed() {
    let (disk, _open, file) = disk_with_file(512);
    write(&*file, 0, &[1], UNSYNCED);
    disk.fail_next(Fault::Sync);
    block_on(file.write(units(512, 1, &[1]), SYNCED)).unwrap_err();
    write(&*file, 2, &[2], SYNCED);
    assert_eq!(stamps(&disk)[..3], [1, 1, 2]);
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[..3], [0, 0, 2]);
    assert_eq!(stamps(&disk.crash_with(Survivors::All))[..3], [1, 1, 2]);
    // Written anew they are synced like any other.
    write(&*file, 0, &[3, 3], SYNCED);
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[..3], [3, 3, 2]);
}

#[test]
fn reads_fail_when_they_are_to() {
    let (disk, _open, file) = disk_with_file(512);
    disk.fail_next(Fault::Read);
    write(&*file, 0, &[1], SYNCED);
    block_on(file.read(0, 512)).unwrap_err();
    block_on(file.read(0, 512)).unwrap();
}

#[test]
fn a_full_disk_takes_no_file() {
    let (disk, open, _file) = disk_with_file(512);
    disk.limit(8192);
    let error = block_on(open.create("g", 8192)).unwrap_err();
    assert_eq!(error.kind(), DiskErrorKind::NoSpace);
    assert_eq!(disk.names(), ["f"]);
    block_on(open.create("g", 4096)).unwrap();
    block_on(open.create("h", 4096)).unwrap_err();
    block_on(open.remove("g")).unwrap();
    block_on(open.create("h", 4096)).unwrap();
}

#[test]
fn a_held_write_is_neither_synced_nor_answered() {
    let (disk, _open, file) = disk_with_file(512);
    disk.hold_when(Request::is_sync);
    write(&*file, 0, &[1], UNSYNCED);
    let mut writing = file.write(units(512, 1, &[2, 2]), SYNCED);
    let mut context = Context::from_waker(Waker::noop());
    assert!(writing.as_mut().poll(&mut context).is_pending());
    block_on(disk.until_held(1));
    let held = Request::Write {
        name: "new".to_owned(),
        writes: vec![Write {
            offset: 512,
            bytes: [[2; 512], [2; 512]].concat().into(),
            is_over: false,
        }],
        durability: SYNCED,
    };
    assert_eq!(disk.held(), [held]);
    let seen: BTreeSet<_> = (0..500).map(|seed| stamps(&disk.crash(seed))).collect();
    assert_eq!(seen.len(), 8);
    disk.release_all();
    assert!(writing.as_mut().poll(&mut context).is_ready());
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[..3], [1, 2, 2]);
    write(&*file, 0, &[3], SYNCED);
}

#[test]
fn held_requests_are_released_in_any_order_and_also_when_nobody_waits() {
    let (disk, _open, file) = disk_with_file(512);
    disk.hold_all();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut writing = pin!(file.write(units(512, 0, &[1]), SYNCED));
        assert!(writing.as_mut().poll(&mut context).is_pending());
    }
    let mut reading = file.read(0, 512);
    assert!(reading.as_mut().poll(&mut context).is_pending());
    assert!(matches!(disk.release(1), Some(Request::Read { .. })));
    assert!(matches!(
        reading.as_mut().poll(&mut context),
        Poll::Ready(Ok(_))
    ));
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[0], 0);
    assert!(
        disk.release_next()
            .is_some_and(|request| request.is_write())
    );
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[0], 1);
    assert!(disk.release_next().is_none());
}

#[test]
fn a_crash_finds_held_changes_of_names_done_or_not() {
    let (disk, open, _file) = disk_with_file(512);
    disk.hold_all();
    let mut context = Context::from_waker(Waker::noop());
    let mut requests: Vec<lsvd::doors::BoxFuture<'_, ()>> = vec![
        Box::pin(async { open.rename("f", "g").await.unwrap() }),
        Box::pin(async { drop(open.create("h", 4096).await.unwrap()) }),
        Box::pin(async { open.remove("h").await.unwrap() }),
    ];
    for request in &mut requests {
        assert!(request.as_mut().poll(&mut context).is_pending());
    }
    let seen: BTreeSet<_> = (0..200).map(|seed| disk.crash(seed).names()).collect();
    let expected = [&["f"] as &[_], &["f", "h"], &["g"], &["g", "h"]];
    assert_eq!(
        seen,
        expected
            .map(|names| names.iter().map(ToString::to_string).collect())
            .into()
    );
    disk.release_all();
    for request in &mut requests {
        assert!(request.as_mut().poll(&mut context).is_ready());
    }
    assert_eq!(disk.names(), ["g"]);
}

#[test]
fn a_held_request_has_the_disk() {
    let (disk, open, file) = disk_with_file(512);
    disk.hold_all();
    {
        let mut reading = pin!(file.read(0, 512));
        let mut context = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut context).is_pending());
    }
    drop((open, file));
    assert_eq!(disk.open().unwrap_err().kind(), DiskErrorKind::InUse);
    disk.release_all();
    disk.open().unwrap();
}

#[test]
fn damage_is_durable_at_once() {
    let (disk, _open, file) = disk_with_file(512);
    write(&*file, 0, &[1, 1, 1, 1], SYNCED);
    write(&*file, 1, &[2], UNSYNCED);
    for place in [510, 700, 1025] {
        disk.flip("f", place);
    }
    for (survivors, newest) in [(Survivors::All, 2), (Survivors::None, 1)] {
        let found = disk.crash_with(survivors).snapshot("f").unwrap();
        assert_eq!(found[509..512], [1, !1, 1]);
        assert_eq!(found[699..702], [newest, !newest, newest]);
        assert_eq!(found[1024..1027], [1, !1, 1]);
    }
    disk.cut("f", 1030);
    let found = disk.snapshot("f").unwrap();
    assert_eq!((found.len(), found[1029]), (1030, 1));
    block_on(file.read(1024, 512)).unwrap_err();
    disk.put("g", &[1, 2, 3]);
    assert_eq!(
        disk.crash_with(Survivors::None).snapshot("g").unwrap(),
        [1, 2, 3]
    );
}

#[test]
fn requests_are_counted() {
    let (disk, _open, file) = disk_with_file(512);
    write(&*file, 0, &[1], SYNCED);
    write(&*file, 0, &[1], UNSYNCED);
    block_on(file.read(0, 512)).unwrap();
    let counts = Counts {
        writes: 2,
        syncs: 1,
        reads: 1,
        creations: 1,
    };
    assert_eq!(disk.counts(), counts);
}
