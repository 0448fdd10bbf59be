//! A server in a folder of its own, with the scripts that start and kill it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Outcome, quietly};

/// Starts the server in the background. Its process number is in a file that goes when it is gone
/// with all its threads, and so with its locks: a zombie or a thread that still exits would make
/// the next one find the volume in use.
const START: &str = r#"cd PLACE || exit 1
rm -f s
( COMMAND & echo $! > pid.new; mv pid.new pid; wait $!; rm -f pid ) >> log 2>&1 &
while [ ! -e pid ]; do sleep 0.001; done
"#;

const KILL: &str = r#"cd PLACE || exit 1
kill -9 "$(cat pid)" || exit 1
while [ -e pid ]; do sleep 0.001; done
AFTER
"#;

/// A server that can be killed and started. It listens at the socket `s` in its folder.
#[derive(Debug)]
pub(crate) struct Victim {
    place: PathBuf,
}

impl Victim {
    /// Starts a server in `place`, which is there: by `command`, and with `after` behind each kill,
    /// both for the shell and in that folder.
    pub(crate) fn start(place: PathBuf, command: &str, after: &str) -> Result<Self, String> {
        let this = Self { place };
        this.write("start", &START.replace("COMMAND", command))?;
        this.write("kill", &KILL.replace("AFTER", after))?;
        this.run("start")?;
        Ok(this)
    }

    /// Its folder.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        let place = format!("'{}'", self.place.display());
        let path = self.place.join(name);
        fs::write(&path, text.replace("PLACE", &place))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn script(&self, name: &str) -> String {
        format!("sh '{}'", self.place.join(name).display())
    }

    fn run(&self, name: &str) -> Outcome {
        quietly(Command::new("sh").arg("-c").arg(self.script(name)))
    }

    /// The judge before this server, with its scripts.
    pub(crate) fn torture(&self, lsvd: &Path) -> Command {
        let mut torture = Command::new(lsvd);
        torture
            .arg("torture")
            .arg(format!("nbd+unix:///?socket={}/s", self.place.display()))
            .args(["--kill", &self.script("kill")])
            .args(["--restart", &self.script("start")]);
        torture
    }

    /// Ends it, and gives what was said of it the last that it said itself, if that was bad.
    pub(crate) fn end(&self, judged: Outcome) -> Outcome {
        // One that died of itself has been heard of already.
        let killed = if self.place.join("pid").exists() {
            self.run("kill")
        } else {
            Ok(())
        };
        judged.map_err(|error| format!("{error}\n{}", self.end_of_log()))?;
        killed?;
        fs::remove_dir_all(&self.place)
            .map_err(|error| format!("cannot remove {}: {error}", self.place.display()))
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(self.place.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        format!("the last that the server said:\n{}", last.join("\n"))
    }
}
