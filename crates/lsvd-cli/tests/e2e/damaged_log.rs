//! A server whose write log is damaged: it says so and does not serve, until it is told to cut.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd_within};

/// Longest time for what must be refused and would otherwise serve, in seconds.
const AT_ONCE: u32 = 60;

const ARGUMENTS: [&str; 4] = ["--log-size", "64M", "--seal-timeout", "1h"];

#[track_caller]
fn nbdsh(server: &Server, script: &str) {
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]));
}

#[test]
fn a_damaged_log_is_refused_and_cut_where_that_is_asked_for() {
    let create = [&ARGUMENTS[..], &["--create", "16M"]].concat();
    let server = Server::start_lasting(ObjectDirectory::new(), &create);
    for byte in ["a", "b", "c"] {
        let script = format!("h.pwrite(b'{byte}' * 4096, 8192 * ord('{byte}')); h.flush()");
        nbdsh(&server, &script);
    }
    let directory = server.kill();
    let log = directory.objects().join("cache/log");
    let mut bytes = fs::read(&log).unwrap();
    let data = bytes.windows(512).position(|run| run == [b'b'; 512]);
    bytes[data.unwrap()] = b'x';
    fs::write(&log, &bytes).unwrap();
    let mut serve = lsvd_within(AT_ONCE);
    serve.arg("serve").arg(directory.objects()).args(ARGUMENTS);
    serve.arg("--socket").arg(directory.socket());
    let refused = Ended::run(&mut serve).assert_code(1);
    assert!(refused.stderr.contains("is damaged"), "{refused}");
    assert!(refused.stderr.contains("--cut-log"), "{refused}");
    assert!(fs::read(&log).unwrap() == bytes, "it was changed");

    let cut = [&ARGUMENTS[..], &["--cut-log"]].concat();
    let server = Server::start_lasting(directory, &cut);
    let there = "
assert h.pread(4096, 8192 * ord('a')) == b'a' * 4096
assert h.pread(4096, 8192 * ord('b')) == bytes(4096)
assert h.pread(4096, 8192 * ord('c')) == bytes(4096)
";
    nbdsh(&server, there);
    server.signal(Signal::TERM);
    let (ended, directory) = server.wait();
    assert!(
        ended.stderr.contains("what was written later is lost"),
        "{ended}"
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let server = Server::start_lasting(directory, &ARGUMENTS);
    nbdsh(&server, there);
    server.close();
}
