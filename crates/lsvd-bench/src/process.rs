//! Programs that are measured or that measure.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a server may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a server may take to end once it is told to.
const END_WITHIN: Duration = Duration::from_secs(60);

/// A program of this project that stands beside this one, or in the folder `examples` there.
pub(crate) fn own_program(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let found = [folder.join(name), folder.join("examples").join(name)]
        .into_iter()
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        format!(
            "{name} is not in {}: run this by `cargo x bench`, which builds it",
            folder.display()
        )
    })
}

/// Runs a program to its end and takes its standard output as JSON.
pub(crate) fn json_of(command: &mut Command) -> Result<Value, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    // fio says on standard output that it is connected, before its report.
    let start = output
        .stdout
        .iter()
        .position(|byte| *byte == b'{')
        .unwrap_or(0);
    serde_json::from_slice(&output.stdout[start..])
        .map_err(|error| format!("{command:?} printed no JSON: {error}"))
}

/// A server that listens on a unix socket. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Listening {
    child: Child,
}

impl Listening {
    /// Starts a server and waits until it takes connections at `socket`.
    pub(crate) fn start(command: &mut Command, socket: &Path) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut this = Self { child };
        let started = Instant::now();
        while UnixStream::connect(socket).is_err() {
            let ended = this.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || started.elapsed() > READY_WITHIN {
                this.end();
                return Err(format!("{command:?} does not listen: {}", this.stderr()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(this)
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What cannot be read is not there to be shown.
            drop(stderr.read_to_string(&mut text));
        }
        text
    }

    /// Tells it to end, waits, and in the end kills it.
    fn end(&mut self) {
        // A process that was waited for has no number any more that is sure to be its own.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Err(error) = kill_process(Pid::from_child(&self.child), Signal::TERM) {
            eprintln!("a server cannot be told to end: {error}");
        }
        let started = Instant::now();
        while started.elapsed() < END_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}
