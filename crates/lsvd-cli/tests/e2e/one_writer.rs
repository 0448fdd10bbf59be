//! At most one writer: a second server is refused and told who the first is, or takes over.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd};

const SMALL: [&str; 4] = ["--create", "64M", "--log-size", "64M"];

fn first() -> Server {
    Server::start_lasting(ObjectDirectory::new(), &SMALL)
}

fn taking_over(first: &Server) -> Server {
    let arguments = ["--take-over", "--log-size", "64M"];
    Server::start_beside(&first.directory().objects(), &arguments)
}

/// An orderly close of a server that has told what was lost when it took over.
#[track_caller]
fn close_told(second: Server) {
    second.signal(Signal::TERM);
    let (ended, _) = second.wait();
    let ended = ended.assert_code(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    assert!(
        ended
            .stderr
            .contains("without the write log of the last writer"),
        "{ended}"
    );
}

#[track_caller]
fn nbdsh(server: &Server, script: &str) {
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]));
}

#[test]
fn a_second_server_is_refused_and_told_who_the_first_is() {
    let first = first();
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0); h.flush()");
    for create in [&[][..], &["--create", "64M"]] {
        let mut second = lsvd();
        second.arg("serve").arg(first.directory().objects());
        let ended = Ended::run(second.args(create)).assert_code(1);
        let holder = format!("in use by process {} on host ", first.pid());
        assert!(ended.stderr.contains(&holder), "{ended}");
        assert_eq!(ended.stdout, "", "{ended}");
    }
    nbdsh(&first, "h.pwrite(b'y' * 4096, 0); h.flush()");
    first.close();
}

/// Lets a server find out that it is fenced, which it does the next time that it looks.
fn wait_until_fenced(server: &Server) {
    let started = Instant::now();
    let write = "h.pwrite(b'late' * 1024, 32768); h.flush()";
    loop {
        let ended = Ended::run(client("nbdsh").args(["-u", server.uri(), "-c", write]));
        if ended.code != Some(0) {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it was never fenced"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

const FAILS: &str = "
for request in [
    lambda: h.pread(4096, 0),
    lambda: h.pwrite(b'z' * 4096, 0),
    lambda: h.trim(4096, 0),
    lambda: h.zero(4096, 0),
    lambda: h.flush(),
]:
    try:
        request()
    except nbd.Error:
        continue
    assert False, request
";

#[test]
fn whoever_takes_over_fences_the_first() {
    let first = first();
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0)");
    // It is in the store, so that the second one has it.
    let stored = || {
        let names = first.directory().names();
        names.iter().any(|name| name.starts_with("data."))
    };
    wait_for("the first write is stored", stored);
    let second = taking_over(&first);
    nbdsh(&second, "assert h.pread(4096, 0) == b'x' * 4096");
    nbdsh(&second, "h.pwrite(b'second' * 4096, 65536); h.flush()");
    wait_until_fenced(&first);
    nbdsh(&first, FAILS);
    nbdsh(&second, "assert h.pread(24576, 65536) == b'second' * 4096");
    let ended = Ended::run(
        lsvd()
            .arg("info")
            .arg(first.directory().objects())
            .arg("--json"),
    );
    assert_eq!(ended.json()["served"]["pid"], second.pid(), "{ended}");

    // It is told to end, and says at once why it cannot do so in order.
    first.signal(Signal::TERM);
    let (ended, directory) = first.wait();
    let ended = ended.assert_code(1);
    assert!(ended.stderr.contains("fenced"), "{ended}");
    // The third is refused, though the directory's first holder is gone.
    let mut third = lsvd();
    third.arg("serve").arg(directory.objects());
    let ended = Ended::run(&mut third).assert_code(1);
    let holder = format!("in use by process {} on host ", second.pid());
    assert!(ended.stderr.contains(&holder), "{ended}");
    nbdsh(
        &second,
        "assert h.pread(24576, 65536) == b'second' * 4096; h.flush()",
    );
    close_told(second);
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what}: this never came"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server that is stopped in the midst of everything and wakes up behind another one's work.
#[test]
fn a_stalled_server_wakes_up_fenced_and_harms_nothing() {
    let first = first();
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0); h.flush()");
    first.stop();
    let second = taking_over(&first);
    nbdsh(&second, "h.pwrite(b'second' * 4096, 65536); h.flush()");
    first.signal(Signal::CONT);
    wait_until_fenced(&first);
    nbdsh(&first, FAILS);
    first.signal(Signal::KILL);
    // The directory goes with the last who has it.
    let (_killed, _directory) = first.wait();
    nbdsh(
        &second,
        "assert h.pread(24576, 65536) == b'second' * 4096; h.flush()",
    );
    close_told(second);
}

#[test]
fn removing_the_lock_file_by_hand_breaks_nothing() {
    let first = first();
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let objects = first.directory().objects();
    fs::remove_file(objects.join("lsvd.lock")).unwrap();
    let mut second = lsvd();
    let ended = Ended::run(second.arg("serve").arg(&objects)).assert_code(1);
    assert!(ended.stderr.contains("in use"), "{ended}");
    let second = taking_over(&first);
    nbdsh(&second, "h.pwrite(b'second' * 4096, 65536); h.flush()");
    wait_until_fenced(&first);
    nbdsh(&first, FAILS);
    nbdsh(
        &second,
        "assert h.pread(24576, 65536) == b'second' * 4096; h.flush()",
    );
    close_told(second);
}

/// The log of a living process is its own, also for one that would take the volume over.
#[test]
fn a_write_log_in_use_is_not_taken_over() {
    let first = first();
    let folder = tempfile::tempdir().unwrap();
    let mut second = lsvd();
    second.arg("serve").arg(first.directory().objects());
    second
        .args(["--take-over", "--socket"])
        .arg(folder.path().join("s"));
    let ended = Ended::run(&mut second).assert_code(1);
    let holder = format!("in use by process {}", first.pid());
    assert!(
        ended.stderr.contains("write log") && ended.stderr.contains(&holder),
        "{ended}"
    );
    // It has lost nothing by that, not even its place in the lock file.
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0); h.flush()");
    let ended = Ended::run(lsvd().arg("serve").arg(first.directory().objects())).assert_code(1);
    assert!(ended.stderr.contains(&holder), "{ended}");
    first.close();
}

#[test]
fn a_reader_beside_a_writer_sees_what_was_stored_and_changes_nothing() {
    let writer = Server::start_lasting(
        ObjectDirectory::new(),
        &[&SMALL[..], &["--flush", "store"]].concat(),
    );
    nbdsh(&writer, "h.pwrite(b'stored' * 2048, 0); h.flush()");
    let objects = writer.directory().objects();
    let before = writer.directory().names();
    let reader = Server::start_at(&objects, ObjectDirectory::new(), &["--read-only"]);
    let refused = "
assert h.is_read_only()
assert h.pread(12288, 0) == b'stored' * 2048
assert h.pread(4096, 65536) == bytes(4096)
h.set_strict_mode(0)
for request in [
    lambda: h.pwrite(b'z' * 4096, 0),
    lambda: h.trim(4096, 0),
    lambda: h.zero(4096, 0),
]:
    try:
        request()
    except nbd.Error as error:
        assert error.errno == 'EPERM', error
        continue
    assert False
h.flush()
";
    nbdsh(&reader, refused);
    let names = writer.directory().names();
    assert_eq!(names, before, "a reader made or removed a file");
    nbdsh(&writer, "h.pwrite(b'later.' * 2048, 0); h.flush()");
    nbdsh(&reader, "assert h.pread(12288, 0) == b'stored' * 2048");
    reader.close();
    nbdsh(&writer, "assert h.pread(12288, 0) == b'later.' * 2048");
    writer.close();
}

#[test]
fn a_take_over_says_what_the_volume_has_and_since_when() {
    let first = first();
    // In the log alone.
    nbdsh(&first, "h.flush()");
    let second = taking_over(&first);
    second.signal(Signal::TERM);
    let (ended, _) = second.wait();
    assert!(ended.stderr.contains("nothing was ever stored"), "{ended}");
    drop(first);

    let first = self::first();
    nbdsh(&first, "h.pwrite(b'x' * 4096, 0)");
    let stored = || {
        let names = first.directory().names();
        names.iter().any(|name| name.starts_with("data."))
    };
    wait_for("the first write is stored", stored);
    let second = taking_over(&first);
    second.signal(Signal::TERM);
    let (ended, _) = second.wait();
    let made = ended
        .stderr
        .split_once("made=\"")
        .unwrap_or_else(|| panic!("{ended}"));
    let made = made.1.split('"').next().unwrap_or_default();
    let form = |byte: u8| match byte {
        b'0'..=b'9' => '0',
        other => char::from(other),
    };
    let form: String = made.bytes().map(form).collect();
    assert_eq!(form, "0000-00-00T00:00:00Z", "{ended}");
    assert!(ended.stderr.contains("last=\"data.00000000\""), "{ended}");
}
