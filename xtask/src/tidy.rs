//! The rules of the sources that no compiler checks, made executable.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::step::{Outcome, root};

/// Longest source file, in lines: a file is one noun.
const LINES_MAX: usize = 800;

/// Marks of work that was put off. Spelled in halves, so that this file obeys its own rule.
const PUT_OFF: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("unimpl", "emented!("),
];

/// Endings of what people read and write here.
const TEXT: [&str; 8] = ["rs", "toml", "md", "c", "h", "py", "sh", "yml"];

/// Checks every file that git knows, and lists all that is wrong.
pub(crate) fn check() -> Outcome {
    let root = root();
    let mut wrong = Vec::new();
    for name in tracked_files(&root)? {
        let path = root.join(&name);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !ending.is_some_and(|ending| TEXT.contains(&ending)) {
            continue;
        }
        lines(&name, &text, &mut wrong);
        // Documents are for people; what a compiler or a shell reads is ASCII.
        if ending != Some("md") {
            ascii(&name, &text, &mut wrong);
        }
        match ending {
            Some("rs") => source(&name, &text, &mut wrong),
            Some("md") => links(&root, &name, &text, &mut wrong),
            _ => {}
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    Err(format!("tidy: {} places to mend", wrong.len()))
}

/// Files that are committed or about to be.
fn tracked_files(root: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("git")
        // The checkout may belong to another user, as in a container.
        .args(["-c", "safe.directory=*"])
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.lines().map(str::to_owned).collect())
}

fn lines(name: &str, text: &str, wrong: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.ends_with([' ', '\t']) {
            wrong.push(format!("{name}:{number}: blanks at the end of the line"));
        }
        for word in PUT_OFF {
            if line.contains(word) {
                wrong.push(format!("{name}:{number}: `{word}`: do it or leave it out"));
            }
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        wrong.push(format!("{name}: the last line has no end"));
    }
}

fn ascii(name: &str, text: &str, wrong: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        if !line.is_ascii() {
            wrong.push(format!("{name}:{}: not ASCII", index + 1));
        }
    }
}

fn source(name: &str, text: &str, wrong: &mut Vec<String>) {
    if !text.starts_with("//!") {
        wrong.push(format!(
            "{name}: does not begin with `//!` and what it owns"
        ));
    }
    let count = text.lines().count();
    if count > LINES_MAX {
        wrong.push(format!("{name}: {count} lines, at most {LINES_MAX}"));
    }
}

/// Relative links of a document must lead somewhere.
fn links(root: &Path, name: &str, text: &str, wrong: &mut Vec<String>) {
    let folder = root.join(name);
    let folder = folder.parent().unwrap_or(root);
    for piece in text.split("](").skip(1) {
        let Some((target, _)) = piece.split_once(')') else {
            continue;
        };
        let target = target.split('#').next().unwrap_or_default();
        let outside = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !outside && !folder.join(target).exists() {
            wrong.push(format!("{name}: the link to {target} leads nowhere"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let mut wrong = Vec::new();
        lines("f", concat!("fine\nend \n// TO", "DO\nlast"), &mut wrong);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        wrong.clear();
        ascii("f", "ok\ncaf\u{e9}", &mut wrong);
        assert_eq!(wrong, ["f:2: not ASCII"]);
        wrong.clear();
        source("f", &"fn f() {}\n".repeat(801), &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        wrong.clear();
        let text = "[a](README.md) [b](nowhere.md#x) [c](https://example.org) [d](#here)";
        let folder = tempfile_with("README.md");
        links(&folder, "f.md", text, &mut wrong);
        assert_eq!(wrong, ["f.md: the link to nowhere.md leads nowhere"]);
        fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile_with(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), "").unwrap();
        folder
    }
}
