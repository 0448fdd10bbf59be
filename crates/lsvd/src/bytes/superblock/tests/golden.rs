//! Superblocks of format version 1 with what the sample has not: without a writer, without a log,
//! closed, and behind a log that was given up. The files never change: a program of tomorrow reads
//! them.

use super::{sample, *};

fn log() -> LogPlace {
    LogPlace {
        uuid: VolumeUuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        path: "/var/lib/lsvd/vol-\u{e9}".to_owned(),
    }
}

/// A new volume: no predecessor, no epoch, no writer.
fn created() -> Superblock {
    let mut superblock = sample();
    superblock.number = 0;
    superblock.persisted = None;
    superblock.state = VolumeState {
        predecessor: None,
        change: Change::Create,
        first_epoch: 0,
        epochs: Vec::new(),
        checkpoints: Vec::new(),
        writer: None,
        ..superblock.state
    };
    superblock
}

fn written_by(change: Change, close: Option<CloseState>, given_up: Option<GivenUp>) -> Superblock {
    let mut superblock = sample();
    superblock.state.change = change;
    superblock.state.writer = Some(Writer {
        epoch: 2,
        machine: "9f2c".to_owned(),
        log: None,
        window: 64,
        close,
        given_up,
    });
    superblock
}

/// Closed with all of it stored, by a writer without a log.
fn clean() -> Superblock {
    written_by(Change::Close, Some(CloseState::Clean), None)
}

/// A claim without the log of a writer that said, when it ended, what was in it alone.
fn given_up() -> Superblock {
    let given_up = GivenUp {
        machine: "77aa".to_owned(),
        log: Some(log()),
        log_bytes: Some(1 << 33),
    };
    let mut superblock = written_by(Change::Claim, None, Some(given_up));
    let writer = superblock.state.writer.as_mut().unwrap();
    writer.log = Some(log());
    superblock
}

/// The same of a writer without a log, of which nothing more is known.
fn given_up_unknown() -> Superblock {
    let given_up = GivenUp {
        machine: String::new(),
        log: None,
        log_bytes: None,
    };
    written_by(Change::Tombstone, None, Some(given_up))
}

/// A golden file: its name, its bytes, and what they say.
type Golden = (&'static str, &'static [u8], Superblock);

#[test]
fn the_golden_superblocks_of_every_form_are_written_and_read() {
    let golden: [Golden; 4] = [
        (
            "golden-v1-created.superblock",
            include_bytes!("../golden-v1-created.superblock"),
            created(),
        ),
        (
            "golden-v1-clean.superblock",
            include_bytes!("../golden-v1-clean.superblock"),
            clean(),
        ),
        (
            "golden-v1-given-up.superblock",
            include_bytes!("../golden-v1-given-up.superblock"),
            given_up(),
        ),
        (
            "golden-v1-given-up-unknown.superblock",
            include_bytes!("../golden-v1-given-up-unknown.superblock"),
            given_up_unknown(),
        ),
    ];
    for (name, bytes, superblock) in golden {
        let written = superblock.encode().unwrap();
        if let Some(folder) = std::env::var_os("LSVD_WRITE_GOLDEN_SUPERBLOCKS") {
            std::fs::write(std::path::Path::new(&folder).join(name), &written).unwrap();
        }
        assert!(written == bytes, "the bytes of {name} have changed");
        let number = superblock.number;
        assert_eq!(Superblock::decode(bytes, number), Ok(superblock), "{name}");
    }
    assert!(created().state.is_closed() && clean().state.is_closed());
    assert!(!given_up().state.is_closed());
}
