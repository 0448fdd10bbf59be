//! When checkpoints are made.

use std::time::Duration;

use lsvd::ErrorKind;
use lsvd::words::name::ObjectKind;

use super::{
    OBJECT, assert_disk, created, model, names, open, present, superblock, try_open, write,
};
use crate::world::wait_for;

/// However little is in them: an opening reads the header of each.
#[test]
fn many_objects_make_a_checkpoint_by_themselves() {
    let store = created();
    let mut model = model();
    let volume = try_open(store.clone(), 200).unwrap();
    for n in 0..200_usize {
        let byte = u8::try_from(n).unwrap() + 1;
        volume.write(n as u64 * 512, &[byte; 512]).unwrap();
        volume.flush().unwrap();
        model[n * 512..(n + 1) * 512].fill(byte);
    }
    wait_for("a checkpoint", || {
        !superblock(&store).state.checkpoints.is_empty()
    });
    drop(volume);
    let cut = superblock(&store).state.checkpoints[0].cut;
    assert_eq!(cut.sequence(), 199, "it came before it was due");
    assert_disk(&open(&store), &model);
}

/// Long before they are many: reading them takes longer than reading a checkpoint.
#[test]
fn much_data_makes_a_checkpoint_by_itself() {
    let store = created();
    let mut model = model();
    let volume = open(&store);
    for n in 0..1000_usize {
        let at = n * OBJECT;
        write(&volume, &mut model, at, u8::try_from(n % 251).unwrap());
    }
    volume.flush().unwrap();
    wait_for("a checkpoint", || {
        !superblock(&store).state.checkpoints.is_empty()
    });
    drop(volume);
    assert_disk(&open(&store), &model);
}

/// Each opening with data is a row in every superblock until a checkpoint is behind it.
#[test]
fn many_openings_make_a_checkpoint_by_themselves() {
    let store = created();
    let mut model = model();
    // One that was dropped may be about to name its checkpoint: the claim loses against it once.
    let open = || loop {
        match try_open(store.clone(), u32::MAX) {
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            opened => return opened.unwrap(),
        }
    };
    for n in 0..65_usize {
        let volume = open();
        write(
            &volume,
            &mut model,
            n * OBJECT,
            u8::try_from(n).unwrap() + 1,
        );
        volume.flush().unwrap();
    }
    let volume = open();
    wait_for("a checkpoint", || {
        !superblock(&store).state.checkpoints.is_empty()
    });
    assert_disk(&volume, &model);
}

#[test]
fn little_data_is_not_worth_a_checkpoint() {
    let store = created();
    let mut model = model();
    let volume = try_open(store.clone(), 300).unwrap();
    for n in 0..250_usize {
        write(&volume, &mut model, n * OBJECT, 1);
    }
    volume.flush().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(present(&store).len(), 0);
}

#[test]
fn without_anything_new_there_is_no_new_checkpoint() {
    let store = created();
    let volume = open(&store);
    volume.checkpoint().unwrap();
    assert_eq!(present(&store).len(), 0, "there is nothing to keep");
    volume.write(0, &[1; 512]).unwrap();
    volume.checkpoint().unwrap();
    let superblocks = names(&store, ObjectKind::Superblock).len();
    volume.checkpoint().unwrap();
    assert_eq!(names(&store, ObjectKind::Superblock).len(), superblocks);
    volume.close().unwrap();
    assert_eq!(present(&store).len(), 1);
    let again = open(&store);
    again.checkpoint().unwrap();
    assert_eq!(present(&store).len(), 1, "nothing was written since");
    assert_eq!(again.checkpoint().map_err(|error| error.kind()), Ok(()));
}
