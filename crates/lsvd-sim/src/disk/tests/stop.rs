//! Disks that stop, and what kills and crashes leave of them.

use super::*;

fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Stops the disk at its `number`th write from now, counted from 0.
fn stop_at_write(disk: &MemoryDisk, mut number: u64, reach: Reach) {
    disk.stop_when(move |request| {
        if !request.is_write() {
            return None;
        }
        let left = number.checked_sub(1);
        number = left.unwrap_or(0);
        left.is_none().then_some(reach)
    });
}

#[test]
fn what_was_not_synced_survives_kills_and_not_a_crash() {
    let (disk, open, file) = disk_with_file(512);
    write(&*file, 0, &[1, 1], SYNCED);
    write(&*file, 1, &[2, 2], UNSYNCED);
    let killed = disk.kill(0).kill(1);
    assert_eq!(stamps(&killed)[..4], [1, 2, 2, 0]);
    assert_eq!(
        stamps(&killed.crash_with(Survivors::None))[..4],
        [1, 1, 0, 0]
    );
    // The new disk is nobody's, and its own.
    let reopened = killed.open().unwrap();
    let found = block_on(reopened.open("f")).unwrap().unwrap();
    write(&*file, 0, &[3], SYNCED);
    assert_eq!(stamps(&killed)[..4], [1, 2, 2, 0]);
    // What is synced with it is all that was ever written, whoever wrote it.
    write(&*found, 4, &[4], SYNCED);
    assert_eq!(
        stamps(&killed.crash_with(Survivors::None))[..5],
        [1, 2, 2, 0, 4]
    );
    drop(open);
}

#[test]
fn what_a_failed_sync_lost_stays_lost_behind_a_kill() {
    let (disk, _open, file) = disk_with_file(512);
    disk.fail_next(Fault::Sync);
    block_on(file.write(units(512, 0, &[1]), SYNCED)).unwrap_err();
    let killed = disk.kill(0);
    let open = killed.open().unwrap();
    let found = block_on(open.open("f")).unwrap().unwrap();
    write(&*found, 1, &[2], SYNCED);
    assert_eq!(stamps(&killed)[..2], [1, 2]);
    assert_eq!(stamps(&killed.crash_with(Survivors::None))[..2], [0, 2]);
}

#[test]
fn a_disk_stops_at_a_write_as_far_as_that_is_to_reach() {
    let cases = [
        (Reach::Nothing, [0, 0], [0, 0]),
        (Reach::Unsynced, [2, 2], [0, 0]),
        (Reach::Whole, [2, 2], [2, 2]),
    ];
    for (reach, killed, crashed) in cases {
        let (disk, _open, file) = disk_with_file(512);
        stop_at_write(&disk, 1, reach);
        write(&*file, 0, &[1], SYNCED);
        assert!(!disk.is_stopped());
        let mut writing = file.write(units(512, 1, &[2, 2]), SYNCED);
        assert!(poll(&mut writing).is_pending());
        block_on(disk.until_stopped());
        let mut behind = file.write(units(512, 4, &[3]), SYNCED);
        assert!(poll(&mut behind).is_pending());
        assert!(poll(&mut file.read(0, 512)).is_pending());
        assert_eq!(stamps(&disk.kill(0))[1..3], killed, "{reach:?}");
        let after = stamps(&disk.crash_with(Survivors::None));
        assert_eq!(after[..1], [1]);
        assert_eq!(after[1..3], crashed, "{reach:?}");
        assert_eq!(after[4], 0);
        assert!(poll(&mut writing).is_pending() && poll(&mut behind).is_pending());
    }
}

#[test]
fn the_last_write_may_be_written_in_part() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (disk, _open, file) = disk_with_file(512);
        stop_at_write(&disk, 0, Reach::Part(seed));
        let mut writing = file.write(units(512, 0, &[1, 1, 1]), SYNCED);
        assert!(poll(&mut writing).is_pending());
        let left = stamps(&disk.kill(seed));
        assert_eq!(stamps(&disk), left, "the seed does not tell");
        assert_eq!(stamps(&disk.crash_with(Survivors::None)), [0; 8]);
        seen.insert(left);
    }
    assert_eq!(seen.len(), 8, "units are not written independently");
}

#[test]
fn a_stopped_disk_releases_nothing() {
    let (disk, _open, file) = disk_with_file(512);
    disk.hold_all();
    let mut writing = file.write(units(512, 0, &[1]), SYNCED);
    assert!(poll(&mut writing).is_pending());
    disk.stop();
    assert!(disk.release_next().is_none());
    disk.release_all();
    assert!(poll(&mut writing).is_pending());
    assert_eq!(stamps(&disk.kill(0))[0], 1);
    assert_eq!(stamps(&disk.crash_with(Survivors::None))[0], 0);
}

#[test]
fn a_name_that_was_changed_at_a_kill_may_be_lost_by_a_crash() {
    let rename = |reach| {
        let (disk, open, _file) = disk_with_file(512);
        block_on(open.create("g", 8192)).unwrap();
        disk.stop_when(move |request| matches!(request, Request::Rename { .. }).then_some(reach));
        assert!(poll(&mut open.rename("g", "f")).is_pending());
        disk
    };
    let length = |disk: &MemoryDisk| disk.snapshot("f").unwrap().len();
    let disk = rename(Reach::Unsynced).kill(0);
    assert_eq!(disk.names(), ["f"]);
    assert_eq!(length(&disk), 8192);
    assert_eq!(length(&disk.crash_with(Survivors::All)), 8192);
    assert_eq!(length(&disk.crash_with(Survivors::None)), 4096);
    let seen: BTreeSet<_> = (0..100).map(|seed| disk.crash(seed).names()).collect();
    assert_eq!(seen.len(), 2, "created and renamed, created, or neither");
    // Whatever syncs the directory makes all of it durable.
    block_on(disk.open().unwrap().remove("nothing")).unwrap();
    assert_eq!(length(&disk.crash_with(Survivors::None)), 8192);
    assert_eq!(rename(Reach::Nothing).kill(0).names(), ["f", "g"]);
    let whole = rename(Reach::Whole).kill(0);
    assert_eq!(length(&whole.crash_with(Survivors::None)), 8192);
    let seeds = 0..50;
    let parts: BTreeSet<_> = seeds
        .map(|seed| rename(Reach::Part(seed)).kill(0).names())
        .collect();
    assert_eq!(parts.len(), 2);
}
