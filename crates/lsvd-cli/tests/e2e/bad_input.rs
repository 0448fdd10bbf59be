//! Bad input of every kind, and the one line that each gets.
//!
//! The table in `docs/testing.md` is what is compared: a message that changes there and not here,
//! or here and not there, fails. `LSVD_BLESS=1` writes the table anew, to be read before it is
//! committed.

mod cases;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Ended, ObjectDirectory, Server, client, lsvd_within, may_mount};
use cases::{CASES, Case, MOUNT_CASES};

const BEGIN: &str = "<!-- bad input: begin -->\n";
const END: &str = "<!-- bad input: end -->\n";

#[test]
fn every_kind_of_bad_input_gets_the_message_in_the_documentation() {
    let mounts = may_mount();
    let cases = CASES.iter().chain(if mounts { MOUNT_CASES } else { &[] });
    let mut wrong = Vec::new();
    let mut rows: Vec<String> = cases.map(|case| run(case, &mut wrong)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    if mounts {
        rows.push(full_disk());
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/testing.md");
    let text = fs::read_to_string(&document).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's begin");
    let (table, after) = rest.split_once(END).expect("the table's end");
    let mut actual = "| What | Command | Exit | Message |\n| --- | --- | --- | --- |\n".to_owned();
    actual.extend(rows.iter().map(String::as_str));
    if std::env::var_os("LSVD_BLESS").is_some() {
        assert!(mounts, "only a machine that can mount sees every row");
        fs::write(&document, [before, BEGIN, &actual, END, after].concat()).unwrap();
        return;
    }
    for row in &rows {
        assert!(table.contains(row.as_str()), "docs/testing.md lacks\n{row}");
    }
    assert!(
        !mounts || table == actual,
        "docs/testing.md has rows that no test has:\n{actual}"
    );
}

/// Runs a case in a folder of its own and gives its row of the table; what is wrong whatever the
/// table says goes into `wrong`.
fn run(case: &Case, wrong: &mut Vec<String>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let prepared = (case.prepare)(folder.path());
    let before = names(folder.path());
    let place = folder.path().to_str().unwrap();
    let fill_in = |text: &str| {
        text.replace("DIR", place)
            .replace("PORT", &prepared.port.to_string())
    };
    // A case that were to succeed would serve until it is killed, which is another exit code.
    let mut command = lsvd_within(60);
    let (arguments, redirected) = case
        .command
        .split_once(" > ")
        .map_or((case.command, None), |(arguments, file)| {
            (arguments, Some(file))
        });
    command.args(arguments.split_whitespace().map(fill_in));
    command.envs(case.environment.iter().copied());
    let ended = match redirected {
        None => Ended::run(&mut command),
        Some(file) => {
            let file = File::options().write(true).open(file).unwrap();
            Ended::run_into(&mut command, file)
        }
    };
    // Wrong usage makes nothing at all; what fails later may have made the volume's directory.
    let mut left_behind = names(folder.path());
    left_behind.retain(|name| !before.contains(name) && (case.exit == 2 || name != "vol"));
    let line = the_one_line(&ended);
    let as_said = ended.code == Some(case.exit) && ended.stdout.is_empty() && line.is_some();
    if !as_said || !left_behind.is_empty() {
        wrong.push(format!("{} (left: {left_behind:?}): {ended}", case.what));
    }
    let message = line
        .unwrap_or_default()
        .replace(place, "DIR")
        .replace(&format!(":{}", prepared.port), ":PORT")
        .replace(&format!("process {}", std::process::id()), "process PID");
    let message = without_names_of_this_machine(&message);
    let environment: String = case
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value} "))
        .collect();
    row(
        case.what,
        &format!("{environment}lsvd {}", case.command),
        case.exit,
        &message,
    )
}

/// The message as any machine would give it.
fn without_names_of_this_machine(message: &str) -> String {
    let mut words: Vec<&str> = message.split(' ').collect();
    for at in 1..words.len() {
        // The names end with the punctuation of the message.
        let word = words[at].trim_end_matches([':', ';', ',']);
        let behind = &words[at][word.len()..];
        words[at] = match (words[at - 1], behind) {
            ("machine", "") if word.len() > 8 => "ID",
            ("host", ";") => "HOST;",
            _ => continue,
        };
    }
    words.join(" ")
}

fn names(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// A store that fills up under a running server: clients are told, and so is who ends it.
fn full_disk() -> String {
    let directory = ObjectDirectory::on_disk_of("4m");
    let place = directory.path().to_str().unwrap().to_owned();
    let arguments = [
        "--object-size",
        "1M",
        "--window",
        "1",
        "--retry-timeout",
        "1s",
    ];
    let mut server = Server::start_in(
        directory,
        "64M",
        &[&arguments[..], &["--drain-timeout", "4s"]].concat(),
    );
    let script = "
import errno
block = b'x' * 1048576
written = 0
try:
    while True:
        h.pwrite(block, written * 1048576)
        written += 1
except nbd.Error as error:
    assert error.errnum == errno.ENOSPC, error
assert 3 <= written < 60, written
for number in range(written):
    assert h.pread(1048576, number * 1048576) == block, number
";
    Ended::success(client("nbdsh").args(["-u", server.uri(), "-c", script]));
    server.signal(Signal::TERM);
    let ended = server.wait_for_end().assert_code(1);
    let message = ended.stderr.lines().last().unwrap().replace(&place, "DIR");
    let command = "lsvd serve DIR/vol --ephemeral --create 64M --retry-timeout 1s ...";
    row(
        "the disk fills up, seen at the end",
        command,
        1,
        message.trim_start_matches("lsvd: "),
    )
}

/// The message, if it is one line and says whose it is.
fn the_one_line(ended: &Ended) -> Option<String> {
    let message = ended.stderr.strip_prefix("lsvd: ")?.strip_suffix('\n')?;
    (!message.contains('\n')).then(|| message.to_owned())
}

fn row(what: &str, command: &str, exit: i32, message: &str) -> String {
    assert!(!message.contains('|'), "{message} breaks the table");
    // A path that is too long is long in the table, too.
    let message = message.replace(&"x".repeat(100), "xx...");
    let command = command.replace(&"x".repeat(100), "xx...");
    format!("| {what} | `{command}` | {exit} | {message} |\n")
}
