//! What the volatile disk keeps and what it may forget.

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
            lost: 2
        }
    );
    assert_eq!(disk.read(0, 3 * UNIT), [unit(1), unit(2), unit(0)].concat());
    // The next loss finds nothing to lose.
    let loss = disk.lose_power(Survivors::None);
    assert_eq!(
        loss,
        Loss {
            unflushed: 0,
            lost: 0
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
            lost: 0
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
        let lost = usize::from(first != 2) + usize::from(second != 9);
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
