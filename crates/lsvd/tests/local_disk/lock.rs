//! Who is refused is told which process has the directory.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use lsvd::doors::disk::{DiskError, DiskErrorKind};

use super::child::{self, Disk};

/// Has the directory until its input ends.
#[test]
fn holder_in_a_process_of_its_own() {
    let Some(directory) = child::directory() else {
        return;
    };
    let disk = Disk::open(&directory).expect("the directory is free");
    println!("\nheld");
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("the input can be read");
    drop(disk);
}

fn start_holder(directory: &Path) -> Child {
    let mut command = child::command(&[], "lock::holder_in_a_process_of_its_own", directory);
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test can be started");
    let said = holder.stdout.as_mut().expect("its output is piped");
    let held = BufReader::new(said)
        .lines()
        .map_while(Result::ok)
        .any(|line| line == "held");
    assert!(held, "the holder does not get the directory");
    holder
}

fn refusal(directory: &Path) -> DiskError {
    match Disk::open(directory) {
        Ok(_) => panic!("two have the directory"),
        Err(error) => error,
    }
}

#[test]
fn the_process_that_has_the_directory_is_named() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let directory = temporary.path().join("log");
    for ended_by_force in [true, false] {
        let mut holder = start_holder(&directory);
        let error = refusal(&directory);
        assert_eq!(error.kind(), DiskErrorKind::InUse);
        let message = error.to_string();
        // The system shows 15 bytes of a program's name.
        let who = format!("in use by process {} (local_disk", holder.id());
        for expected in [
            &*directory.to_string_lossy(),
            &who,
            "; end that process, or choose",
        ] {
            assert!(message.contains(expected), "{message}");
        }
        if ended_by_force {
            holder.kill().expect("it can be killed");
        } else {
            drop(holder.stdin.take());
        }
        holder.wait().expect("it ends");
        Disk::open(&directory).expect("nobody has the directory any more");
    }
}

#[test]
fn a_second_one_in_this_process_is_told_so() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let disk = Disk::open(temporary.path()).expect("the directory is free");
    let message = refusal(temporary.path()).to_string();
    assert!(
        message.contains("another volume of this process"),
        "{message}"
    );
    drop(disk);
    // Nobody is named that is gone.
    let lock = std::fs::read(temporary.path().join("lock")).expect("the lock file stays");
    assert!(lock.is_empty(), "{lock:?}");
}

#[test]
fn what_is_in_the_way_is_told() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let file = temporary.path().join("file");
    std::fs::write(&file, "").expect("a file can be made");
    for path in [file.clone(), file.join("below")] {
        let error = refusal(&path);
        assert_eq!(error.kind(), DiskErrorKind::Failed);
        let message = error.to_string();
        assert!(
            message.contains("not a directory; choose another"),
            "{message}"
        );
    }
    let directory = temporary.path().join("log");
    std::fs::create_dir_all(directory.join("lock")).expect("a directory can be made");
    let message = refusal(&directory).to_string();
    assert!(message.contains("log/lock"), "{message}");
}
