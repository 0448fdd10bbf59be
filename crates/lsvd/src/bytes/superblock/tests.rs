//! Round trips, the golden file, and every way a superblock can be damaged.

mod golden;

use super::*;

fn sample() -> Superblock {
    Superblock {
        number: 7,
        volume: VolumeUuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        write_id: 0xdead_beef_0000_0000_0000_0000_0000_0001,
        wall_time_ns: 1_700_000_000_000_000_000,
        persisted: Some(ObjectId::from_u64(1 << 40 | 0x33)),
        state: VolumeState {
            predecessor: Some(0xfeed),
            change: Change::Close,
            size: 10 << 30,
            object_size: 8 << 20,
            first_epoch: 1,
            epochs: vec![
                EpochEnd {
                    epoch: 1,
                    objects: Some(52),
                },
                EpochEnd {
                    epoch: 2,
                    objects: None,
                },
            ],
            checkpoints: vec![
                KeptCheckpoint {
                    object: ObjectId::from_u64(1 << 40 | 7),
                    cut: ObjectId::from_u64(1 << 40 | 3),
                },
                KeptCheckpoint {
                    object: ObjectId::from_u64(1 << 40 | 8),
                    cut: ObjectId::from_u64(1 << 40 | 0x33),
                },
            ],
            writer: Some(Writer {
                epoch: 2,
                machine: "9f2c".to_owned(),
                log: Some(LogPlace {
                    uuid: VolumeUuid::from_u128(5),
                    path: "/var/lib/lsvd/\"quoted\"".to_owned(),
                }),
                window: 8,
                close: Some(CloseState::Unclean { log_bytes: 4096 }),
                given_up: None,
            }),
        },
    }
}

/// A superblock of format version 1. It never changes: a program of tomorrow reads it.
const GOLDEN: &[u8] = include_bytes!("golden-v1.superblock");

#[test]
fn the_golden_superblock_is_written_and_read() {
    let encoded = sample().encode().unwrap();
    if let Some(path) = std::env::var_os("LSVD_WRITE_GOLDEN_SUPERBLOCK") {
        std::fs::write(path, &encoded).unwrap();
    }
    assert!(encoded == GOLDEN, "the bytes of a superblock have changed");
    assert_eq!(Superblock::decode(GOLDEN, 7).unwrap(), sample());
}

#[test]
fn every_truncation_and_every_longer_object_is_rejected() {
    let mut bytes = sample().encode().unwrap();
    for len in 0..bytes.len() {
        let error = Superblock::decode(&bytes[..len], 7).unwrap_err();
        assert!(
            matches!(error, ObjectError::Truncated { needed } if needed > len),
            "{len}: {error}"
        );
    }
    bytes.push(0);
    let error = Superblock::decode(&bytes, 7).unwrap_err();
    assert!(matches!(error, ObjectError::ObjectLength { .. }), "{error}");
}

#[test]
fn every_flipped_bit_is_rejected() {
    let mut bytes = sample().encode().unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&bytes, 7).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_superblock_under_another_number_is_rejected() {
    let bytes = sample().encode().unwrap();
    let error = Superblock::decode(&bytes, 8).unwrap_err();
    assert!(matches!(error, ObjectError::Identity { .. }), "{error}");
}

#[test]
fn what_breaks_a_rule_is_neither_written_nor_read() {
    type Break = fn(&mut Superblock);
    let breaks: [(Break, &str); 15] = [
        (|s| s.state.size = 513, "size"),
        (|s| s.state.size = VOLUME_BYTES_MAX + 512, "size"),
        (|s| s.state.object_size = 4096, "object size"),
        (|s| s.state.predecessor = None, "predecessor"),
        (|s| s.number = 0, "predecessor"),
        (|s| s.state.epochs.reverse(), "order"),
        (|s| s.state.first_epoch = 2, "before the first"),
        (|s| s.state.epochs[1].epoch = 1 << 24, "range"),
        (|s| s.state.checkpoints.reverse(), "order"),
        (
            |s| s.state.checkpoints[0].cut = s.state.checkpoints[1].cut,
            "order",
        ),
        (
            |s| s.persisted = Some(ObjectId::from_u64(1 << 40 | 0x32)),
            "order",
        ),
        (
            |s| s.state.checkpoints.insert(0, s.state.checkpoints[0]),
            "order",
        ),
        (
            |s| {
                s.state.epochs.remove(0);
            },
            "reach back",
        ),
        (|s| s.state.writer = None, "writer"),
        (|s| s.state.writer.as_mut().unwrap().window = 0, "window"),
    ];
    for (break_it, what) in breaks {
        let mut superblock = sample();
        break_it(&mut superblock);
        let error = superblock.encode().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    // The same, from somebody who writes it all the same.
    let good = sample();
    let (header, text) = {
        let bytes = good.encode().unwrap();
        let (header, text) =
            ObjectHeader::decode(&bytes, bytes.len(), ObjectKind::Superblock).unwrap();
        (header, String::from_utf8(text.to_vec()).unwrap())
    };
    for (from, to) in [
        ("\"window\":8", "\"window\":0"),
        ("\"window\":8", "\"window\":8,\"later\":1"),
        ("\"size\":", "\"sise\":"),
        ("ckpt.10000000007", "data.10000000007"),
        ("ckpt.10000000007", "ckpt.010000000007"),
        ("feed\"", "fee\""),
        ("feed\"", "FEED\""),
        ("}\n", ""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let bytes = header.encode(changed.as_bytes()).unwrap();
        let error = Superblock::decode(&bytes, 7).unwrap_err();
        assert!(matches!(error, ObjectError::Text(_)), "{to}: {error}");
    }
}

#[test]
fn epochs_end_before_they_wrap() {
    let mut state = sample().state;
    assert_eq!(state.next_epoch(), Some(Epoch(3)));
    state.epochs.clear();
    assert_eq!(state.next_epoch(), Some(Epoch(1)));
    state.epochs = vec![EpochEnd {
        epoch: ObjectId::EPOCH_MAX,
        objects: Some(0),
    }];
    assert_eq!(state.next_epoch(), None);
}
