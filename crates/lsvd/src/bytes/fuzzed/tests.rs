//! Golden files that a seed damages, into every decoder: a short fuzzing that every compiler can do.

use lsvd_sim::random::Random;

use super::{checkpoint, data_object, superblock, write_log};

/// So many damaged files of each golden one; a second or two for all decoders.
const ROUNDS: u64 = 10_000;

/// Values at the edges of what fields hold.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    511,
    512,
    1 << 32,
    1 << 48,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

/// One change: of a bit, a byte or a number, or of a run that is put elsewhere, left out or doubled.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let below = |random: &mut Random, bound: usize| {
        usize::try_from(random.below(bound as u64)).expect("it is below a length")
    };
    let at = below(random, bytes.len());
    match random.below(9) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.bits().to_le_bytes()[0],
        kind @ (3 | 4) => {
            let edge = EDGES[below(random, EDGES.len())];
            let value = edge
                .wrapping_add(random.below(3))
                .wrapping_sub(1)
                .to_le_bytes();
            // Fields of headers lie at multiples of their size.
            let size = [2, 4, 8][below(random, 3)];
            let at = if kind == 3 { at - at % size } else { at };
            let len = size.min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&value[..len]);
        }
        5 => bytes.truncate(at),
        // A varint of many bytes, up to the largest.
        6 => {
            let len = below(random, 10).min(bytes.len() - at);
            bytes[at..at + len].fill(0xff);
            if let Some(last) = bytes.get_mut(at + len) {
                *last = 1;
            }
        }
        kind => {
            let len = below(random, (bytes.len() - at).min(600) + 1);
            let run = bytes[at..at + len].to_vec();
            if kind == 7 {
                bytes.drain(at..at + len);
            }
            let to = below(random, bytes.len() + 1);
            bytes.splice(to..to, run);
        }
    }
}

/// Gives `check` each golden file as it is, and then damaged.
fn assert_bears_damage(golden: &[&[u8]], check: impl Fn(&[u8])) {
    check(&[]);
    for (file, golden) in (0..).zip(golden) {
        check(golden);
        for round in 0..ROUNDS {
            let mut random = Random::new(file << 32 | round);
            let mut bytes = golden.to_vec();
            for _ in 0..=random.below(4) {
                if !bytes.is_empty() {
                    change(&mut random, &mut bytes);
                }
            }
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes)));
            assert!(
                checked.is_ok(),
                "golden file {file}, round {round}: {bytes:02x?}"
            );
        }
    }
}

#[test]
fn damaged_data_objects_are_read_right_or_not_at_all() {
    let golden = include_bytes!("../../state/batch/golden-v1.object");
    assert_bears_damage(&[golden], data_object);
}

#[test]
fn damaged_superblocks_are_read_right_or_not_at_all() {
    let golden: [&[u8]; 3] = [
        include_bytes!("../superblock/golden-v1.superblock"),
        include_bytes!("../superblock/golden-v1-created.superblock"),
        include_bytes!("../superblock/golden-v1-given-up.superblock"),
    ];
    assert_bears_damage(&golden, superblock);
}

#[test]
fn damaged_checkpoints_are_read_right_or_not_at_all() {
    let golden: [&[u8]; 2] = [
        include_bytes!("../checkpoint/golden-v1.part"),
        include_bytes!("../checkpoint/golden-v1.root"),
    ];
    assert_bears_damage(&golden, checkpoint);
}

#[test]
fn damaged_logs_are_read_right_or_not_at_all() {
    let golden: [&[u8]; 3] = [
        include_bytes!("../log/golden-v1.log"),
        include_bytes!("../log/golden-v1-mark.log"),
        include_bytes!("../log/golden-v1-4096.log"),
    ];
    assert_bears_damage(&golden, write_log);
}
