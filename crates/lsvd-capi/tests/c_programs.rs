//! The C programs in `examples/`, compiled against the installed library, shared and static, and
//! run. The installation is that of the Makefile, and the compiler gets its flags from pkg-config,
//! as it does for a user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Rounds of each thread in `threads.c`, enough for some gigabytes in all.
const ROUNDS: &str = "400";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linking {
    Shared,
    Static,
}

/// Runs a command to its end, or tells what it said.
fn run(command: &mut Command, package: &str) -> Output {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (install the Debian package {package})")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// Installs the library, built as this test was, below `prefix`.
fn install(prefix: &Path) {
    let test = std::env::current_exe().expect("the test knows its own program");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    let target = profile.parent().expect("target/PROFILE");
    let profile = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("{} names no profile", profile.display()),
    };
    let mut make = Command::new("make");
    make.args(["-C", HERE, "install"])
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("PROFILE={profile}"))
        .arg(format!("CARGO={}", env!("CARGO")))
        .env("CARGO_TARGET_DIR", target)
        // A make around the tests, or its jobs, are not this one's.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    run(&mut make, "make");
}

fn pkg_config(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command
        .args(arguments)
        .arg("lsvd")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let output = run(&mut command, "pkg-config");
    let text = String::from_utf8(output.stdout).expect("flags are text");
    text.split_whitespace().map(str::to_owned).collect()
}

/// Compiles an example and gives its program.
fn compile(prefix: &Path, example: &str, linking: Linking) -> PathBuf {
    let program = prefix.join(format!("{example}-{linking:?}"));
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-std=c11",
        "-O1",
        "-g",
        "-pthread",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
    ])
    .arg(Path::new(HERE).join(format!("examples/{example}.c")))
    .args(pkg_config(prefix, &["--cflags"]))
    .arg("-o")
    .arg(&program);
    match linking {
        Linking::Shared => gcc.args(pkg_config(prefix, &["--libs"])),
        Linking::Static => {
            // The linker prefers the shared library of the same name, so this one goes by its path.
            let libs = pkg_config(prefix, &["--libs", "--static"]);
            gcc.arg(prefix.join("lib/liblsvd.a"))
                .args(libs.iter().filter(|flag| *flag != "-llsvd"))
        }
    };
    run(&mut gcc, "gcc");
    program
}

/// Runs a program as its user would, with these variables and no others of ours.
fn execute(program: &Path, arguments: &[&OsStr], variables: &[(&str, &OsStr)]) -> String {
    let prefix = program.parent().expect("programs lie in the prefix");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LD_LIBRARY_PATH", prefix.join("lib"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LSVD_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let output = run(&mut command, "gcc");
    String::from_utf8(output.stdout).expect("programs print text")
}

fn needs_shared_library(program: &Path) -> bool {
    let output = run(Command::new("readelf").arg("-d").arg(program), "binutils");
    String::from_utf8_lossy(&output.stdout).contains("[liblsvd.so.0]")
}

#[test]
fn c_programs_work_with_the_shared_and_the_static_library() {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let prefix = temporary.path();
    install(prefix);
    assert_exports_are_the_header(prefix);
    for linking in [Linking::Shared, Linking::Static] {
        let place = |name: &str| {
            let place = prefix.join(format!("{linking:?}-{name}"));
            std::fs::create_dir(&place).expect("a directory can be made");
            place
        };

        let program = compile(prefix, "hello", linking);
        assert_eq!(needs_shared_library(&program), linking == Linking::Shared);
        let directory = place("hello");
        let said = execute(&program, &[], &[("LSVD_DIR", directory.as_os_str())]);
        assert_eq!(said, "hello, disk\n");

        let program = compile(prefix, "bad_arguments", linking);
        let directory = place("bad-arguments");
        let said = execute(&program, &[directory.as_os_str()], &[]);
        assert_eq!(said, "ok\n");

        let program = compile(prefix, "handles", linking);
        let directory = place("handles");
        let said = execute(&program, &[directory.as_os_str()], &[]);
        assert_eq!(said, "ok\n");

        let program = compile(prefix, "threads", linking);
        let directory = place("threads");
        let variables = [
            ("LSVD_DIR", directory.as_os_str()),
            ("LSVD_SIZE", OsStr::new("96M")),
            ("LSVD_OBJECT_SIZE", OsStr::new("2M")),
            ("LSVD_STORE_LATENCY", OsStr::new("5ms..10ms")),
        ];
        let seed = if linking == Linking::Shared { "1" } else { "2" };
        let said = execute(
            &program,
            &[OsStr::new(ROUNDS), OsStr::new(seed)],
            &variables,
        );
        assert!(said.starts_with("ok: "), "{said}");
        assert_only_data_objects(&directory);
        std::fs::remove_dir_all(directory).expect("what is no longer needed can be removed");
    }
}

/// What the shared library exports is what its header declares, no more and no less.
fn assert_exports_are_the_header(prefix: &Path) {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=just-symbols"])
        .arg(prefix.join("lib/liblsvd.so"));
    let exported = String::from_utf8(run(&mut nm, "binutils").stdout).expect("symbols are text");
    let mut exported: Vec<&str> = exported.split_whitespace().collect();
    let header = std::fs::read_to_string(prefix.join("include/lsvd.h")).expect("it was installed");
    let functions = header.lines().filter(|line| line.ends_with(");"));
    let name = |line: &'_ str| -> Option<String> {
        let before = line.split('(').next()?;
        Some(before.rsplit([' ', '*']).next()?.to_owned())
    };
    let mut declared: Vec<String> = functions.filter_map(name).collect();
    exported.sort_unstable();
    declared.sort_unstable();
    assert_eq!(exported, declared);
}

/// A scratch disk leaves nothing but its data objects.
fn assert_only_data_objects(directory: &Path) {
    let mut objects = 0;
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let name = entry.expect("and its entries").file_name();
        let name = name.to_string_lossy();
        let digits = name.strip_prefix("data.").unwrap_or_default();
        let ours = digits.len() == 8 && u64::from_str_radix(digits, 16).is_ok();
        assert!(ours, "{name} was left in the directory");
        objects += 1;
    }
    assert!(objects > 0, "nothing was stored");
}
