//! What cannot be seen from outside: which memory is copied, calls that do a part of the work, syncs
//! that fail for one another, and how access to a file is chosen.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::path::Path;

use bytes::Bytes;
use pollster::block_on;

use super::access::{Access, try_out, write_first_unit};
use super::aligned::AlignedBuffer;
use super::file::{read_all, write_all};
use super::gather::Gathered;
use super::*;
use crate::doors::disk::{DiskWrite, WriteDurability};

const DIRECT: Access = Access {
    unit: 512,
    memory: 512,
};

/// Aligned memory whose bytes tell their place.
fn memory(len: usize) -> Bytes {
    let mut buffer = AlignedBuffer::zeroed(len, 4096);
    for (place, byte) in buffer.bytes_mut().iter_mut().enumerate() {
        *byte = u8::try_from(place * 31 % 251).unwrap();
    }
    buffer.freeze()
}

#[test]
fn memory_is_aligned_however_much_it_is() {
    for alignment in [1, 512, 4096] {
        for len in [0, 1, 511, 512, 4096, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(len, alignment);
            assert_eq!(buffer.bytes(), vec![0; len]);
            // What is empty is not anywhere.
            assert!(len == 0 || buffer.bytes().as_ptr().addr().is_multiple_of(alignment));
            buffer.bytes_mut().fill(1);
            let address = buffer.bytes().as_ptr();
            let frozen = buffer.freeze();
            assert_eq!(frozen, vec![1; len]);
            assert!(len == 0 || frozen.as_ptr() == address);
        }
    }
}

#[test]
fn aligned_parts_are_not_copied() {
    let memory = memory(64 << 10);
    // The parts, and what of the write may not be copied, both as start and length.
    type Ranges = &'static [(usize, usize)];
    let cases: [(Ranges, Ranges); 8] = [
        (&[(0, 8192)], &[(0, 8192)]),
        (&[(512, 512), (4096, 4096)], &[(0, 512), (512, 4096)]),
        (&[(1, 512), (4096, 4096)], &[(512, 4096)]),
        (
            &[(0, 4096), (5, 512), (8192, 4096)],
            &[(0, 4096), (4608, 4096)],
        ),
        (
            &[(0, 4196), (8192, 412), (512, 512)],
            &[(0, 4096), (4608, 512)],
        ),
        (&[(0, 100), (512, 412), (8192, 512)], &[(512, 512)]),
        (&[(0, 0), (512, 512)], &[(0, 512)]),
        (&[(3, 512)], &[]),
    ];
    for (parts, not_copied) in cases {
        let part = |(start, len): &(usize, usize)| memory.slice(*start..start + len);
        let parts: Vec<Bytes> = parts.iter().map(part).collect();
        let offset = 0;
        let write = DiskWrite { offset, parts };
        let gathered = Gathered::new(&write, DIRECT);
        let slices = gathered.slices();
        let mut found = Vec::new();
        let mut at = 0;
        for slice in &slices {
            assert!(slice.as_ptr().addr().is_multiple_of(512));
            assert!(!slice.is_empty() && slice.len().is_multiple_of(512));
            if memory.as_ptr_range().contains(&slice.as_ptr()) {
                found.push((at, slice.len()));
            }
            at += slice.len();
        }
        assert_eq!(found, not_copied, "{write:?}");
        assert_eq!(
            slices
                .iter()
                .map(|slice| &**slice)
                .collect::<Vec<_>>()
                .concat(),
            write.parts.concat()
        );
    }
}

#[test]
fn through_the_page_cache_whole_units_are_never_copied() {
    let memory = memory(8192);
    let parts = vec![memory.slice(1..513), memory.slice(7..1031)];
    let write = DiskWrite { offset: 0, parts };
    let buffered = Access {
        unit: 512,
        memory: 1,
    };
    let gathered = Gathered::new(&write, buffered);
    for slice in gathered.slices() {
        assert!(memory.as_ptr_range().contains(&slice.as_ptr()));
    }
}

#[test]
fn calls_that_write_less_than_asked_are_continued() {
    let memory = memory(3 << 20);
    for most in [512, 513, 1000, 4096, 5000, 1 << 20, usize::MAX] {
        let written = RefCell::new(vec![0; 4096 + memory.len()]);
        let pwritev = |slices: &[IoSlice<'_>], offset: u64| {
            assert!(slices.len() <= 1024);
            let bytes = slices
                .iter()
                .map(|slice| &**slice)
                .collect::<Vec<_>>()
                .concat();
            let count = bytes.len().min(most);
            let start = usize::try_from(offset).unwrap();
            assert!(start.is_multiple_of(512));
            written.borrow_mut()[start..start + count].copy_from_slice(&bytes[..count]);
            Ok(count)
        };
        // Small calls take long with many slices.
        let end = if most < 100_000 {
            64 << 10
        } else {
            memory.len()
        };
        let mut slices: Vec<_> = memory[..end].chunks(1536).map(IoSlice::new).collect();
        write_all(&mut slices, 4096, 512, pwritev).unwrap();
        assert!(
            written.borrow()[4096..4096 + end] == memory[..end],
            "{most}"
        );
    }
}

#[test]
fn calls_that_do_nothing_end_it() {
    let memory = memory(1024);
    let mut slices = [IoSlice::new(&memory)];
    let result = write_all(&mut slices, 0, 512, |_, _| Ok(511));
    assert_eq!(result, Err(Errno::IO));
    let mut slices = [IoSlice::new(&memory)];
    let result = write_all(&mut slices, 0, 512, |_, _| Err(Errno::NOSPC));
    assert_eq!(result, Err(Errno::NOSPC));
    let result = read_all(&mut [0; 1024], 0, 512, |_, _| Ok(511));
    assert_eq!(result, Ok(0));
    let result = read_all(&mut [0; 1024], 0, 512, |_, _| Err(Errno::IO));
    assert_eq!(result, Err(Errno::IO));
}

#[test]
fn calls_that_read_less_than_asked_are_continued() {
    let memory = memory(65536);
    for most in [512, 513, 5000, usize::MAX] {
        let calls = Cell::new(0);
        let pread = |buffer: &mut [u8], offset: u64| {
            calls.set(calls.get() + 1);
            let start = usize::try_from(offset).unwrap();
            let count = buffer.len().min(most).min(memory.len() - start);
            buffer[..count].copy_from_slice(&memory[start..start + count]);
            Ok(count)
        };
        let mut buffer = vec![0; 32768];
        assert_eq!(read_all(&mut buffer, 1024, 512, pread), Ok(32768));
        assert!(buffer == memory[1024..1024 + 32768], "{most}");
        assert!(most < 32768 || calls.get() == 1);
        // At the end of the file.
        let end = memory.len() as u64 - 1024;
        assert_eq!(read_all(&mut buffer, end, 512, pread), Ok(1024));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
}

fn create(path: &Path, runtime: &Handle) -> DirectoryFile {
    let disk = Directory::open(path, runtime.clone()).unwrap();
    disk.place.create_file("f", 8192).unwrap()
}

fn sync(file: &DirectoryFile) -> Result<(), DiskError> {
    block_on(file.write(Vec::new(), WriteDurability::Synced))
}

#[test]
fn a_failed_sync_fails_all_whose_data_it_may_have_been() {
    let runtime = runtime();
    let temporary = tempfile::tempdir().unwrap();
    let file = create(temporary.path(), runtime.handle());
    sync(&file).unwrap();
    // As if another sync had failed between a write and its own sync.
    let before = file.shared.syncs.lock().failed;
    file.shared.syncs.lock().failed += 1;
    let error = file.shared.sync(before).unwrap_err();
    assert_eq!(error.kind(), DiskErrorKind::Failed);
    assert!(error.to_string().contains("sync bytes 0..8192"), "{error}");
    // What is written after it knows nothing of it.
    sync(&file).unwrap();
}

#[test]
fn what_the_kernel_does_not_say_is_found_out() {
    let places = [std::env::temp_dir(), "/dev/shm".into()];
    for place in places.iter().filter(|place| place.is_dir()) {
        let file = tempfile::tempfile_in(place).unwrap().into();
        let access = try_out(&file, &write_first_unit).unwrap();
        assert!([512, 4096].contains(&access.unit), "{place:?}: {access:?}");
        let bytes = AlignedBuffer::zeroed(access.unit, access.memory);
        let offset = access.unit as u64;
        let count = rustix::io::pwrite(&file, bytes.bytes(), offset).unwrap();
        assert_eq!(count, access.unit);
    }
}
