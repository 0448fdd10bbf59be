//! What the tests need from outside the workspace, and how to get it on Debian.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Outcome, run};

/// Programs that the tests start, and the Debian packages they come in.
const PROGRAMS: &[(&str, &str)] = &[
    ("cmp", "diffutils"),
    ("fio", "fio"),
    ("fusermount3", "fuse3"),
    ("gcc", "gcc"),
    ("git", "git"),
    ("losetup", "mount"),
    ("make", "make"),
    ("mke2fs", "e2fsprogs"),
    ("mount", "mount"),
    ("nm", "binutils"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdfuse", "libnbd-bin"),
    ("nbdinfo", "libnbd-bin"),
    ("nbdkit", "nbdkit"),
    ("nbdsh", "python3-libnbd"),
    ("pkg-config", "pkg-config"),
    ("prlimit", "util-linux"),
    ("python3", "python3"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("strace", "strace"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Where to look for programs besides `PATH`: an ordinary user's may lack these.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs what is missing, as root or through sudo.
pub(crate) fn install() -> Outcome {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new("/usr/include/stdio.h").is_file() {
        packages.push("libc6-dev");
    }
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_there("apt-get") {
        return Err(format!(
            "the tests need what Debian calls {}: install it, then try again",
            packages.join(" ")
        ));
    }
    run(
        "read the package lists",
        apt_get(&["update", "-q"])?.arg("-y"),
    )?;
    let mut install = apt_get(&["install", "-q", "-y", "--no-install-recommends"])?;
    run("install what the tests need", install.args(&packages))
}

fn apt_get(arguments: &[&str]) -> Result<Command, String> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else if is_there("sudo") {
        let mut command = Command::new("sudo");
        command.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        command
    } else {
        return Err("packages are missing and there is no sudo: run this as root once".to_owned());
    };
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

fn is_root() -> bool {
    // The owner of our own entry in /proc is who we are.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether a program of this name can be started.
pub(crate) fn is_there(program: &str) -> bool {
    find(program).is_some()
}

/// Where the program of this name is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).into()))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
