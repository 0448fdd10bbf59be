//! fio over NBD: what was written is what is read, whatever the sizes, jobs and delays.

use std::process::Command;

use crate::harness::{Ended, Server, client};

const SLOW_STORE: [&str; 2] = ["--store-latency", "5ms..10ms"];

/// fio against `server`; its report goes into the server's directory.
fn fio(server: &Server) -> Command {
    let mut fio = client("fio");
    fio.current_dir(server.directory().path())
        .env("LSVD_TEST_URI", server.uri())
        .arg("--output=fio.txt");
    fio
}

/// Four jobs, each on a connection of its own, sizes from 512 bytes to 1 MiB mixed.
fn mixed(server: &Server, rw: &str, mebibytes: u32) -> Ended {
    let mut fio = fio(server);
    fio.args([
        "--name=mixed",
        "--ioengine=nbd",
        "--thread",
        "--numjobs=4",
        "--iodepth=16",
    ]);
    fio.args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"]);
    fio.arg("--bssplit=512/20:4k/40:64k/30:1m/10");
    fio.arg(format!("--uri={}", server.uri()));
    fio.arg(format!("--rw={rw}"));
    // Odd starts, so that the jobs' ranges do not meet at the edge of anything.
    fio.arg(format!("--size={mebibytes}m"));
    fio.arg(format!("--offset_increment={}", (mebibytes << 20) + 512));
    Ended::run(&mut fio)
}

#[test]
fn random_writes_of_mixed_sizes_verify() {
    let server = Server::start("1G", &[]);
    mixed(&server, "randwrite", 64).assert_code(0);
    mixed(&server, "randrw", 64).assert_code(0);
    server.close();
}

#[test]
fn random_writes_of_mixed_sizes_verify_on_a_slow_store() {
    let server = Server::start("1G", &SLOW_STORE);
    mixed(&server, "randwrite", 48).assert_code(0);
    mixed(&server, "randrw", 32).assert_code(0);
    server.close();
}

#[test]
fn random_writes_verify_over_tcp() {
    let server = Server::start_tcp("1G");
    assert!(
        server.uri().starts_with("nbd://127.0.0.1:"),
        "{}",
        server.uri()
    );
    mixed(&server, "randwrite", 32).assert_code(0);
    server.close();
}

/// Writes, trims a half, finds zeroes there and the rest untouched.
const TRIM_JOBS: &str = "\
[global]
ioengine=nbd
uri=${LSVD_TEST_URI}
iodepth=16
bs=4k
allrandrepeat=1
thread=1
verify_fatal=1

[write]
rw=randwrite
size=64m
verify=crc32c
do_verify=1

[trim]
stonewall
rw=randtrim
offset=32m
size=32m
bs=64k

[zero]
stonewall
rw=read
offset=32m
size=32m
verify=pattern
verify_pattern=0x00

[rest]
stonewall
rw=randread
size=32m
verify=crc32c
";

fn trim(server: &Server) {
    std::fs::write(server.directory().path().join("trim.fio"), TRIM_JOBS).unwrap();
    Ended::success(fio(server).arg("trim.fio"));
}

#[test]
fn trimmed_ranges_read_as_zeroes_and_the_rest_stays() {
    let server = Server::start("64M", &[]);
    trim(&server);
    server.close();
}

#[test]
fn trimmed_ranges_read_as_zeroes_on_a_slow_store() {
    let server = Server::start("64M", &SLOW_STORE);
    trim(&server);
    server.close();
}

/// Without this one, the tests above could not be believed.
#[test]
fn a_changed_sector_is_noticed() {
    let server = Server::start("64M", &[]);
    trim(&server);
    let change = "h.pwrite(b'x' * 512, 1048576 + 512)";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", change]));
    let ended = Ended::run(fio(&server).args(["--section=rest", "trim.fio"]));
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("verify failed"), "{ended}");
    server.close();
}
