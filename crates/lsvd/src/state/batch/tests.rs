//! The bytes that a batch becomes.

use super::*;
use crate::state::in_flight::InFlight;
use crate::state::object_table::ObjectTable;
use crate::state::progress::{Persists, Progress};
use crate::state::uploads::{SealedBatch, UploadQueue};
use crate::words::name::{Epoch, VolumeUuid};
use crate::words::units::{Lba, LbaRange};

/// A whole object of format version 1. It never changes: a program of tomorrow reads it.
const GOLDEN: &[u8] = include_bytes!("golden-v1.object");

fn sample_batch() -> Arc<Batch> {
    let identity = Identity {
        volume: VolumeUuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        session: 0xdead_beef_0000_0000_0000_0000_0000_0000,
    };
    let in_flight = Arc::new(InFlight::default());
    let objects = Arc::new(ObjectTable::default());
    let pool = BufferPool::new(4 * BLOCK_BYTES, 2);
    let uploads = Arc::new(UploadQueue::default());
    let batcher = Batcher::new(
        identity,
        Epoch(3),
        None,
        pool,
        objects,
        in_flight,
        Arc::new(Progress::new(None, Persists::WhenAnswered)),
        Sink::Uploads(Arc::clone(&uploads)),
    );
    let data: Vec<u8> = (0..9 * 512_u32)
        .map(|i| u8::try_from(i * 7 % 256).unwrap())
        .collect();
    let range = |start, sectors| LbaRange::with_len(Lba(start), sectors);
    let append = |range, entry| batcher.append(range, entry).unwrap().unwrap();
    append(range(16, 9), NewEntry::Write).fill(&data);
    drop(append(range(1 << 40, 1 << 30), NewEntry::Discard));
    append(range(77, 1), NewEntry::Write).fill(&data[..512]);
    drop(append(range(3, 5), NewEntry::WriteZeroes));
    batcher.seal().unwrap();
    match uploads.take(1) {
        Some((0, SealedBatch::Memory(batch))) => batch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_golden_object_is_written_and_read() {
    let batch = sample_batch();
    pollster::block_on(batch.filled());
    let header = batch.header(1_700_000_000_000_000_000, None);
    let mut object = header.encode().unwrap();
    for part in batch.stored_blocks() {
        object.extend_from_slice(&part);
    }
    if let Some(path) = std::env::var_os("LSVD_WRITE_GOLDEN") {
        std::fs::write(path, &object).unwrap();
    }
    assert!(object == GOLDEN, "the bytes of an object have changed");
    assert_eq!(DataHeader::decode_object(GOLDEN).as_ref(), Ok(header));
}
