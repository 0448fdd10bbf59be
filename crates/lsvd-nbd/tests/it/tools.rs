//! Other people's clients: libnbd's tools and Python binding, QEMU's tools, fio.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use lsvd_nbd::{Export, Limits, Listener, MemoryDevice, Server};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A server on a unix socket, with a runtime of its own so that tests can block on tools.
struct Served {
    place: TempDir,
    uri: String,
    runtime: Runtime,
    server: Server,
}

impl Served {
    fn new(size: u64) -> Self {
        let exports = [
            Export::new("", Arc::new(MemoryDevice::new(size))).description("a disk in memory"),
            Export::new("fixed", Arc::new(MemoryDevice::new(size))).read_only(),
        ];
        let server = Server::new(exports, Limits::default()).expect("the settings are right");
        let place = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(Listener::unix(place.path().join("s")));
        let listener = listener.expect("bound");
        let uri = listener.uri("");
        let serving = server.clone();
        runtime.spawn(async move { serving.serve(listener).await });
        Self {
            place,
            uri,
            runtime,
            server,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn tool(&self, package: &str, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        // A Python that a version manager put first does not know the system's modules.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.current_dir(self.place.path()).args(args);
        match command.output() {
            Ok(output) => output,
            Err(error) => panic!("cannot run {program}: {error}; install the package {package}"),
        }
    }

    /// Runs a tool that must succeed; returns what it printed.
    fn run(&self, package: &str, program: &str, args: &[&str]) -> String {
        let output = self.tool(package, program, args);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}\n{printed}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let end = self.server.shutdown(std::time::Duration::from_secs(5));
        self.runtime.block_on(end);
    }
}

/// A file with runs of data and holes, from a fixed seed.
fn image(path: &Path, len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = vec![0; len];
    for (at, block) in data.chunks_mut(64 << 10).enumerate() {
        if at % 5 < 2 {
            continue;
        }
        for word in block.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
    }
    let mut file = std::fs::File::create(path).expect("created");
    file.write_all(&data).expect("written");
    data
}

#[test]
fn nbdinfo_lists_and_maps() {
    let served = Served::new(64 << 20);
    let uri = served.uri.as_str();
    let size = served.run("libnbd-bin", "nbdinfo", &["--size", uri]);
    assert_eq!(size.trim(), (64 << 20).to_string());
    let list = served.run("libnbd-bin", "nbdinfo", &["--list", uri]);
    assert!(
        list.contains("export=\"fixed\"") && list.contains("a disk in memory"),
        "{list}"
    );
    let json = served.run("libnbd-bin", "nbdinfo", &["--json", uri]);
    for part in [
        "\"block_size_minimum\": 512",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
        "\"can_multi_conn\": true",
        "\"can_fast_zero\": true",
        "\"base:allocation\"",
    ] {
        assert!(json.contains(part), "{part} is missing in {json}");
    }
    served.run(
        "qemu-utils",
        "qemu-io",
        &["-f", "raw", "-c", "write -P 7 1M 64k", uri],
    );
    let map = served.run("libnbd-bin", "nbdinfo", &["--map", uri]);
    let map: Vec<Vec<&str>> = map
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        ["0", "1048576", "3", "hole,zero"],
        ["1048576", "65536", "0", "data"],
        ["1114112", "65994752", "3", "hole,zero"],
    ];
    assert_eq!(map, expected);
}

#[test]
fn nbdcopy_brings_an_image_in_and_out() {
    let served = Served::new(64 << 20);
    let original = image(&served.path("in"), 64 << 20);
    let uri = served.uri.as_str();
    for extra in [
        &[][..],
        &["--synchronous"],
        &["--connections=4", "--requests=32"],
    ] {
        let mut args = extra.to_vec();
        args.extend(["in", uri]);
        served.run("libnbd-bin", "nbdcopy", &args);
        let mut args = extra.to_vec();
        args.extend([uri, "out"]);
        served.run("libnbd-bin", "nbdcopy", &args);
        let copy = std::fs::read(served.path("out")).expect("read");
        assert!(copy == original, "{extra:?}");
        std::fs::remove_file(served.path("out")).expect("removed");
    }
}

#[test]
fn qemu_img_converts_compares_maps_and_benches() {
    let served = Served::new(64 << 20);
    image(&served.path("in"), 64 << 20);
    let uri = served.uri.as_str();
    let run = |args: &[&str]| served.run("qemu-utils", "qemu-img", args);
    assert!(run(&["info", uri]).contains("64 MiB (67108864 bytes)"));
    run(&["convert", "-n", "-f", "raw", "-O", "raw", "in", uri]);
    let compared = run(&["compare", "-f", "raw", "-F", "raw", "in", uri]);
    assert!(compared.contains("Images are identical"), "{compared}");
    let map = run(&["map", "--output=json", "-f", "raw", uri]);
    assert!(
        map.contains("\"zero\": true") && map.contains("\"data\": true"),
        "{map}"
    );
    let bench = [
        "bench", "-f", "raw", "-t", "none", "-c", "2000", "-d", "64", "-s",
    ];
    for more in [
        &["4096"][..],
        &["4096", "-w", "--flush-interval=64"],
        &["1M", "-w"],
    ] {
        run(&[&bench[..], more, &[uri]].concat());
    }
}

#[test]
fn qemu_io_writes_zeroes_and_discards() {
    let served = Served::new(64 << 20);
    let script = [
        "write -P 0xab 0 1M",
        "discard 0 512k",
        "read -P 0 0 512k",
        "read -P 0xab 512k 512k",
        "write -f -P 0xcd 1M 4k",
        "write -z -u 600k 64k",
        "read -P 0 600k 64k",
        "write -z 2M 1M",
        "write -z -u -n 3M 1M",
        "aio_write -P 7 5M 64k",
        "aio_write -P 8 6M 2M",
        "aio_flush",
        "flush",
        "read -P 7 5M 64k",
        "read -P 8 6M 2M",
        "write -P 9 10M 32M",
        "read -P 9 10M 32M",
        // Not a multiple of 512: qemu makes whole sectors of it.
        "write -P 3 50000001 333",
        "read -P 3 50000001 333",
    ];
    let mut args = vec!["-f", "raw", "-d", "unmap"];
    for line in &script {
        args.extend(["-c", line]);
    }
    args.push(&served.uri);
    let printed = served.run("qemu-utils", "qemu-io", &args);
    assert!(!printed.contains("failed"), "{printed}");
}

#[test]
fn fio_verifies_mixed_sizes_on_several_connections() {
    let served = Served::new(256 << 20);
    let uri = format!("--uri={}", served.uri);
    let common = [
        "--ioengine=nbd",
        uri.as_str(),
        "--output=fio.log",
        "--verify_fatal=1",
    ];
    let verified = [
        "--name=mixed",
        "--rw=randrw",
        "--bssplit=512/10:4k/50:64k/30:1m/10",
        "--iodepth=16",
        "--numjobs=2",
        "--size=64m",
        "--offset_increment=64m",
        "--verify=crc32c",
    ];
    served.run("fio", "fio", &[&common[..], &verified].concat());
    let trimmed = [
        "--name=trim",
        "--rw=randtrim",
        "--bs=64k",
        "--iodepth=8",
        "--size=64m",
        "--offset=128m",
    ];
    served.run("fio", "fio", &[&common[..], &trimmed].concat());
}

#[test]
fn libnbd_in_python_passes_the_protocol_checks() {
    let served = Served::new(256 << 20);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/protocol_checks.py");
    let socket = served.path("s");
    let args = [script, socket.to_str().expect("a path in ASCII")];
    let printed = served.run("python3-libnbd", "/usr/bin/python3", &args);
    assert!(printed.contains("all checks passed"), "{printed}");
}

#[test]
fn nbdsh_reads_and_writes() {
    let served = Served::new(1 << 20);
    let line = "h.pwrite(b'x' * 512, 512); assert h.pread(512, 512) == b'x' * 512; h.flush()";
    served.run("libnbd-bin", "nbdsh", &["-u", &served.uri, "-c", line]);
}
