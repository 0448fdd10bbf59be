//! The tools of libnbd and QEMU, as people use them.

use serde_json::json;

use crate::harness::{Ended, Server, client};

/// Runs Python in libnbd's shell, connected to the server.
#[track_caller]
fn nbdsh(server: &Server, script: &str) -> Ended {
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]))
}

#[track_caller]
fn qemu_io(server: &Server, commands: &[&str]) -> Ended {
    let mut qemu_io = client("qemu-io");
    // Without `-d unmap` QEMU drops discards.
    qemu_io.args(["-f", "raw", "-d", "unmap"]);
    for command in commands {
        qemu_io.args(["-c", command]);
    }
    Ended::success(qemu_io.arg(server.uri()))
}

#[test]
fn nbdinfo_shows_what_the_server_can() {
    let server = Server::start("64M", &[]);
    let list = Ended::success(client("nbdinfo").args(["--list", "--json", server.uri()])).json();
    assert_eq!(list["protocol"], "newstyle-fixed");
    assert_eq!(list["structured"], true);
    let export = &list["exports"][0];
    assert_eq!(export["export-size"], 64 << 20);
    assert_eq!(export["contexts"], json!(["base:allocation"]));
    for ability in [
        "cache",
        "df",
        "fast_zero",
        "flush",
        "fua",
        "multi_conn",
        "trim",
        "zero",
    ] {
        assert_eq!(
            export[format!("can_{ability}")],
            true,
            "{ability} in {export}"
        );
    }
    assert_eq!(export["is_read_only"], false);
    Ended::success(client("nbdinfo").arg(server.uri()))
        .assert_stdout_has("block_size_minimum: 512")
        .assert_stdout_has("block_size_preferred: 4096")
        .assert_stdout_has("block_size_maximum: 33554432");
    server.close();
}

#[test]
fn maps_show_data_and_holes() {
    let server = Server::start("4G", &[]);
    qemu_io(
        &server,
        &["write -P 1 1M 1M", "write -P 2 3G 64k", "discard 3G 4k"],
    );
    let mut nbdinfo = client("nbdinfo");
    let map = Ended::success(nbdinfo.args(["--map", "--json", server.uri()])).json();
    let hole = |offset: u64, length: u64| json!({ "offset": offset, "length": length, "type": 3, "description": "hole,zero" });
    let data = |offset: u64, length: u64| json!({ "offset": offset, "length": length, "type": 0, "description": "data" });
    let (m, g) = (1 << 20, 3 << 30);
    assert_eq!(
        map,
        json!([
            hole(0, m),
            data(m, m),
            hole(2 * m, g - 2 * m + 4096),
            data(g + 4096, 61440),
            hole(g + 65536, (1 << 30) - 65536),
        ])
    );
    let mut qemu_img = client("qemu-img");
    qemu_img.args(["map", "-f", "raw", "--output=json", server.uri()]);
    let map = Ended::success(&mut qemu_img).json();
    let data: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["data"] == true)
        .collect();
    assert_eq!(data.len(), 2, "{map}");
    assert_eq!(
        (&data[0]["start"], &data[0]["length"]),
        (&json!(m), &json!(m))
    );
    server.close();
}

#[test]
fn qemu_io_writes_discards_zeroes_and_flushes() {
    let server = Server::start("64M", &[]);
    qemu_io(
        &server,
        &[
            "write -P 0xab 0 1M",
            "discard 0 512k",
            "read -P 0 0 512k",
            "read -P 0xab 512k 512k",
            "write -f -P 0xcd 1M 4k",
            "write -z -u 1152k 64k",
            "write -P 0xee 2M 1M",
            "write -z -n 2M 512k",
            "read -P 0 2M 512k",
            "read -P 0xee 2560k 512k",
            "aio_write -P 7 3M 64k",
            "aio_flush",
            "flush",
            "read -P 7 3M 64k",
            "read -P 0xcd 1M 4k",
            // QEMU turns what is not aligned into a read, a change and a write.
            "write -P 0x11 8388609 1022",
            "read -P 0x11 8388609 1022",
            "read -P 0 8389631 1",
        ],
    );
    server.close();
}

#[test]
fn qemu_img_measures_and_shows() {
    let server = Server::start("64M", &[]);
    let mut info = client("qemu-img");
    info.args(["info", "--output=json", server.uri()]);
    assert_eq!(Ended::success(&mut info).json()["virtual-size"], 64 << 20);
    for extra in [&["-w"][..], &[], &["-w", "--flush-interval=16"]] {
        let mut bench = client("qemu-img");
        bench.args([
            "bench", "-f", "raw", "-t", "none", "-c", "4000", "-d", "16", "-s", "4096",
        ]);
        Ended::success(bench.args(extra).arg(server.uri())).assert_stdout_has("Run completed");
    }
    server.close();
}

#[test]
fn requests_that_break_a_rule_get_the_protocols_errors_and_the_connection_lives() {
    let server = Server::start("1M", &[]);
    nbdsh(
        &server,
        "
import errno
h.set_strict_mode(0)
size = h.get_size()
def fails(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, (call, arguments, error)
    else:
        raise AssertionError(('no error', call, arguments))
fails(errno.EINVAL, h.pread, 511, 0)
fails(errno.EINVAL, h.pread, 512, 1)
fails(errno.EINVAL, h.pwrite, b'x' * 100, 0)
fails(errno.EINVAL, h.pwrite, b'x' * 512, 100)
fails(errno.EINVAL, h.pread, 512, size)
fails(errno.ENOSPC, h.pwrite, b'x' * 512, size)
fails(errno.ENOSPC, h.pwrite, b'x' * 1024, size - 512)
fails(errno.EINVAL, h.trim, 100, 0)
fails(errno.EINVAL, h.zero, 512, 256)
h.pwrite(b'y' * 512, size - 512)
assert h.pread(512, size - 512) == bytearray(b'y' * 512)
",
    );
    server.close();
}

#[test]
fn many_connections_see_one_another_after_a_flush() {
    let server = Server::start("64M", &[]);
    let script = format!(
        "
uri = '{}'
handles = [nbd.NBD() for _ in range(64)]
for handle in handles:
    handle.connect_uri(uri)
    assert handle.can_multi_conn()
for round in range(4):
    for number, handle in enumerate(handles):
        handle.pwrite(bytes([1 + (number + round) % 255]) * 4096, number * 4096)
    handles[round].flush()
    for number in range(64):
        other = handles[(number + 1) % 64]
        assert other.pread(4096, number * 4096) == bytearray([1 + (number + round) % 255]) * 4096
for handle in handles:
    handle.shutdown()
",
        server.uri()
    );
    nbdsh(&server, &script);
    server.close();
}

#[test]
fn clients_come_and_go() {
    let server = Server::start("1M", &[]);
    let script = format!(
        "
uri = '{}'
for number in range(200):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    if number:
        assert handle.pread(512, 0) == bytearray([number % 255]) * 512
    handle.pwrite(bytes([(number + 1) % 255]) * 512, 0)
    if number % 2:
        handle.shutdown()
    del handle
",
        server.uri()
    );
    nbdsh(&server, &script);
    server.close();
}

#[test]
fn many_requests_in_flight_come_back_right() {
    let server = Server::start("64M", &["--store-latency", "1ms..3ms"]);
    nbdsh(
        &server,
        "
buffers = {}
for number in range(256):
    data = nbd.Buffer.from_bytearray(bytearray([number]) * 65536)
    buffers[h.aio_pwrite(data, number * 65536)] = data
while h.aio_in_flight():
    h.poll(-1)
reads = []
for number in range(256):
    buffer = nbd.Buffer(65536)
    reads.append((h.aio_pread(buffer, number * 65536), buffer, number))
while h.aio_in_flight():
    h.poll(-1)
for cookie, buffer, number in reads:
    assert h.aio_command_completed(cookie)
    assert buffer.to_bytearray() == bytearray([number]) * 65536, number
",
    );
    server.close();
}

#[test]
fn a_sparse_disk_is_copied_in_no_time() {
    let server = Server::start("8T", &[]);
    qemu_io(&server, &["write -P 5 4T 1M"]);
    let back = server.directory().path().join("back");
    Ended::success(client("nbdcopy").arg(server.uri()).arg(&back));
    assert_eq!(std::fs::metadata(&back).unwrap().len(), 8 << 40);
    let other = Server::start("8T", &[]);
    Ended::success(client("nbdcopy").args([server.uri(), other.uri()]));
    qemu_io(&other, &["read -P 5 4T 1M", "read -P 0 1T 1M"]);
    other.close();
    server.close();
}
