//! What the volatile disk keeps and what it may forget.

use std::os::unix::fs::FileExt;

use super::{Loss, VolatileDisk};
use crate::disk::Survivors;

const UNIT: usize = 512;

fn unit(byte: u8) -> Vec<u8> {
    vec![byte; UNIT]
}

#[test]
fn what_was_flushed_stays_and_what_was_not_goes() {
    let disk = VolatileDisk::new(UNIT, 8 * UNIT as u64);
    disk.preset(0, &unit(1));
    disk.write(512, &unit(2));
    disk.flush();
    disk.write(512, &unit(3));
    disk.write(1024, &unit(4));
    assert_eq!(disk.read(512, 2 * UNIT), [unit(3), unit(4)].concat());
    let loss = disk.lose_power(Survivors::None);
    assert_eq!(
        loss,
        Loss {
            unflushed: 2,
            lost: vec![1, 2]
        }
    );
    assert_eq!(disk.read(0, 3 * UNIT), [unit(1), unit(2), unit(0)].concat());
    // The next loss finds nothing to lose.
    let loss = disk.lose_power(Survivors::None);
    assert_eq!(
        loss,
        Loss {
            unflushed: 0,
            lost: Vec::new()
        }
    );
}

#[test]
fn all_may_survive() {
    let disk = VolatileDisk::new(UNIT, 8 * UNIT as u64);
    disk.write(0, &unit(1));
    disk.write(0, &unit(2));
    let loss = disk.lose_power(Survivors::All);
    assert_eq!(
        loss,
        Loss {
            unflushed: 1,
            lost: Vec::new()
        }
    );
    assert_eq!(disk.read(0, UNIT), unit(2));
}

#[test]
fn each_unit_is_kept_or_lost_by_itself_and_is_never_newer_than_written() {
    let mut kept = [0; 3];
    for seed in 0..200 {
        let disk = VolatileDisk::new(UNIT, 2 * UNIT as u64);
        disk.write(0, &unit(1));
        disk.write(0, &[unit(2), unit(9)].concat());
        let loss = disk.lose_power(Survivors::Random(seed));
        let found = disk.read(0, 2 * UNIT);
        let (first, second) = (found[0], found[UNIT]);
        assert_eq!(found, [unit(first), unit(second)].concat());
        assert!(first <= 2 && (second == 0 || second == 9));
        kept[usize::from(first)] += 1;
        let lost = [(0, first != 2), (1, second != 9)];
        let lost = lost.into_iter().filter(|(_, is_lost)| *is_lost);
        let lost: Vec<u64> = lost.map(|(number, _)| number).collect();
        assert_eq!((loss.unflushed, loss.lost), (2, lost));
        // What was kept is durable now.
        disk.lose_power(Survivors::None);
        assert_eq!(disk.read(0, 2 * UNIT), found);
    }
    assert!(kept.iter().all(|count| *count > 10), "{kept:?}");
}

#[test]
#[should_panic(expected = "are not units of this disk")]
fn half_a_unit_cannot_be_written() {
    VolatileDisk::new(4096, 8192).write(512, &[0; 4096]);
}

#[test]
fn what_is_saved_is_what_was_flushed() {
    let disk = VolatileDisk::new(UNIT, 8 * UNIT as u64);
    disk.write(512, &[unit(1), unit(2)].concat());
    disk.write(5 * 512, &unit(3));
    disk.flush();
    disk.write(0, &unit(4));
    let file = tempfile::tempfile().unwrap();
    // What was in the file before is gone.
    file.write_all_at(&[9; 20 * UNIT], 0).unwrap();
    disk.save(&file).unwrap();
    let mut found = vec![0; 8 * UNIT];
    assert_eq!(file.metadata().unwrap().len(), found.len() as u64);
    file.read_exact_at(&mut found, 0).unwrap();
    disk.lose_power(Survivors::None);
    assert_eq!(found, disk.read(0, 8 * UNIT));
}
