//! What a request may be, and what it gets when it may not.

use std::sync::Arc;

use lsvd::{EphemeralOptions, ErrorKind, Volume};
use lsvd_store::{LocalDirectory, MemoryStore};

use crate::world::{MIB, open, read, runtime, small};

fn memory(options: EphemeralOptions) -> Volume {
    open(Arc::new(MemoryStore::new()), options)
}

#[test]
fn what_breaks_the_rules_is_refused_and_changes_nothing() {
    let volume = memory(small(MIB));
    volume.write(0, &[1; 1024]).unwrap();
    volume.write(MIB - 512, &[2; 512]).unwrap();
    let bad = [
        (1, 512),
        (511, 512),
        (0, 511),
        (MIB, 512),
        (MIB - 512, 1024),
        (u64::MAX - 511, 512),
    ];
    for (offset, len) in bad {
        let data = vec![9; len];
        let error = volume.write(offset, &data).unwrap_err();
        assert_eq!(
            (error.kind(), error.errno()),
            (ErrorKind::InvalidArgument, 22),
            "{error}"
        );
        assert!(error.to_string().contains(&offset.to_string()), "{error}");
        assert_eq!(
            volume.read(offset, &mut vec![0; len]).unwrap_err().errno(),
            22
        );
        assert_eq!(volume.discard(offset, len as u64).unwrap_err().errno(), 22);
        assert_eq!(
            volume.write_zeroes(offset, len as u64).unwrap_err().errno(),
            22
        );
        assert_eq!(
            volume
                .allocation(offset, len as u64, 9)
                .unwrap_err()
                .errno(),
            22
        );
    }
    assert_eq!(read(&volume, 0, 1024), [1; 1024]);
    assert_eq!(read(&volume, MIB - 512, 512), [2; 512]);
}

#[test]
fn empty_requests_succeed_even_at_the_end() {
    let volume = memory(small(MIB));
    for offset in [0, 512, MIB] {
        volume.write(offset, &[]).unwrap();
        volume.read(offset, &mut []).unwrap();
        volume.discard(offset, 0).unwrap();
        assert_eq!(volume.allocation(offset, 0, 9).unwrap(), []);
    }
    assert_eq!(volume.write(MIB + 512, &[]).unwrap_err().errno(), 22);
}

#[test]
fn what_was_never_written_reads_as_zeroes() {
    let volume = memory(small(4 * MIB));
    volume.write(MIB, &[5; 512]).unwrap();
    let mut expected = vec![0; 3 * 512];
    expected[512..1024].fill(5);
    assert_eq!(read(&volume, MIB - 512, 3 * 512), expected);
}

#[test]
fn writes_far_larger_than_a_batch_work() {
    let volume = memory(small(64 * MIB));
    let data: Vec<u8> = (0..17 * MIB)
        .map(|i| u8::try_from(i / 512 % 251).unwrap())
        .collect();
    volume.write(512, &data).unwrap();
    assert_eq!(read(&volume, 512, data.len()), data);
    assert_eq!(read(&volume, 0, 512), [0; 512]);
    assert_eq!(read(&volume, 512 + 17 * MIB, 512), [0; 512]);
}

#[test]
fn the_last_sector_of_a_huge_volume_works() {
    let size = 1 << 56;
    let volume = memory(small(size));
    volume.write(size - 512, &[3; 512]).unwrap();
    assert_eq!(
        read(&volume, size - 1024, 1024),
        [[0; 512], [3; 512]].concat()
    );
    volume.discard(0, size).unwrap();
    assert_eq!(read(&volume, size - 512, 512), [0; 512]);
    assert_eq!(volume.allocation(0, size, 100).unwrap(), [(0..size, false)]);
    assert_eq!(volume.write(size, &[3; 512]).unwrap_err().errno(), 22);
}

#[test]
fn discards_and_zeroes_are_ordered_with_writes() {
    let volume = memory(small(4 * MIB));
    volume.write(0, &[1; 4096]).unwrap();
    volume.discard(512, 1024).unwrap();
    volume.write(1024, &[2; 512]).unwrap();
    volume.write_zeroes(3584, 512).unwrap();
    let mut expected = vec![1; 4096];
    expected[512..1024].fill(0);
    expected[1024..1536].fill(2);
    expected[3584..].fill(0);
    assert_eq!(read(&volume, 0, 4096), expected);
    let runs = volume.allocation(0, 8192, 100).unwrap();
    assert_eq!(
        runs,
        [
            (0..512, true),
            (512..1024, false),
            (1024..3584, true),
            (3584..8192, false)
        ]
    );
    assert_eq!(volume.allocation(0, 8192, 2).unwrap(), runs[..2]);
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |change: fn(&mut EphemeralOptions)| {
        let mut options = small(MIB);
        change(&mut options);
        let store = Arc::new(MemoryStore::new());
        let error = Volume::open_ephemeral(store, runtime(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    };
    assert!(refused(|options| options.size = 0).contains("size"));
    assert!(refused(|options| options.size = 1000).contains("multiple of 512"));
    assert!(refused(|options| options.size = u64::MAX - 511).contains("size"));
    assert!(refused(|options| options.object_size = 4096).contains("object size"));
    assert!(refused(|options| options.object_size = MIB + 512).contains("4096"));
    assert!(refused(|options| options.object_size = 65 * MIB).contains("object size"));
    assert!(refused(|options| options.window = 0).contains("window"));
    assert!(refused(|options| options.window = 65).contains("window"));
    assert!(refused(|options| options.seal_timeout = std::time::Duration::ZERO).contains("seal"));
}

#[test]
fn a_place_that_is_not_empty_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let store = Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let error = Volume::open_ephemeral(store, runtime(), small(MIB)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEmpty);
    assert!(error.to_string().contains("letter.txt"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_closed_volume_refuses_everything() {
    let volume = memory(small(MIB));
    volume.write(0, &[1; 512]).unwrap();
    volume.close().unwrap();
    volume.close().unwrap();
    assert_eq!(
        volume.write(0, &[1; 512]).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        volume.read(0, &mut [0; 512]).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        volume.discard(0, 512).unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(volume.flush().unwrap_err().kind(), ErrorKind::Closed);
}
