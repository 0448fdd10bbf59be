//! A write log of more than 4 GiB: places in it need more than 32 bits.

use std::sync::Arc;

use futures_util::FutureExt as _;
use lsvd::{CreateOptions, FlushTarget, OpenOptions, Volume};
use lsvd_sim::disk::MemoryDisk;
use lsvd_store::{Fault, Faulty, MemoryStore, Verb};

use crate::host::open_on;
use crate::world::{MIB, read, runtime, wait_for};

/// Of these a segment is 64 MiB: a place that loses its upper bits is another batch's.
const OBJECT_BYTES: u64 = 14_549 * 4096;

const LOG_BYTES: u64 = 5 << 30;

/// As many as take the log beyond 4 GiB, each in a segment of its own.
const BATCHES: u64 = (4 << 30) / (64 * MIB) + 8;

fn place(batch: u64) -> u64 {
    batch * MIB
}

fn content(batch: u64) -> Vec<u8> {
    let byte = u8::try_from(batch).unwrap() + 1;
    vec![byte; 8192]
}

fn check(volume: &Volume) {
    for batch in 0..BATCHES {
        assert_eq!(read(volume, place(batch), 8192), content(batch), "{batch}");
    }
}

#[test]
fn what_lies_behind_four_gibibytes_is_read_back_and_recovered() {
    let memory = Arc::new(MemoryStore::new());
    let made = CreateOptions {
        object_size: OBJECT_BYTES,
        ..CreateOptions::new(1 << 30)
    };
    Volume::create(memory.clone(), runtime(), made).unwrap();
    let store = Arc::new(Faulty::new(memory.clone()));
    let disk = MemoryDisk::new(512);
    let options = OpenOptions {
        log_bytes: LOG_BYTES,
        flush: FlushTarget::Store,
        ..OpenOptions::new("this machine")
    };
    let volume = open_on(store.clone(), &disk, &options).unwrap();
    store.fail_next_of("data.", Verb::Put, u64::MAX, Fault::Hang);
    for batch in 0..BATCHES {
        volume.write(place(batch), &content(batch)).unwrap();
        // It seals what is open, and then waits for the store, for which nobody waits here.
        assert!(volume.flush_async().now_or_never().is_none());
    }
    wait_for("the log", || volume.status().not_durable_bytes == 0);
    assert!(volume.status().log_used_bytes > 4 << 30);
    check(&volume);
    let behind_power_loss = disk.crash(1);
    drop(volume);

    let volume = open_on(memory, &behind_power_loss, &options).unwrap();
    check(&volume);
    volume.flush().unwrap();
    assert_eq!(volume.status().at_risk_bytes, 0);
    check(&volume);
}
