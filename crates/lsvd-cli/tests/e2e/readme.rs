//! The first command of the README does what it says.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Ended, ObjectDirectory, Server, client};

/// The arguments of `lsvd` in the first shell block of the README.
fn first_command() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let (_, block) = text.split_once("```sh\n").unwrap();
    let (line, _) = block.split_once('\n').unwrap();
    let (cargo, arguments) = line.split_once(" -- ").unwrap();
    assert!(
        cargo.starts_with("cargo run ") && cargo.ends_with("--bin lsvd"),
        "{line}"
    );
    arguments.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_first_command_serves_a_disk_that_lasts() {
    let arguments = first_command();
    let mut directory = ObjectDirectory::new();
    for round in 0..2 {
        let place = directory.path().to_str().unwrap().to_owned();
        let moved = arguments
            .iter()
            .map(|argument| argument.replace("/tmp", &place));
        let mut command = Command::new(env!("CARGO_BIN_EXE_lsvd"));
        command
            .env_remove("LSVD_LOG")
            .args(moved)
            .stdin(Stdio::null());
        let server = Server::spawn(directory, command);
        assert!(server.uri().contains("/lsvd.sock"), "{}", server.uri());
        let script = format!(
            "
assert h.get_size() == 10 << 30
assert h.pread(4096, 1 << 30) == (b'kept' * 1024 if {round} else bytes(4096))
h.pwrite(b'kept' * 1024, 1 << 30)
h.flush()
"
        );
        Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", &script]));
        directory = server.kill();
    }
}
