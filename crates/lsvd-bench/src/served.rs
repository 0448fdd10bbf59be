//! A server of this project with a volume that lasts.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::own_program;

/// `lsvd serve`, ready for clients. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    volume: PathBuf,
    /// From the start of the process to the line that says that clients can connect.
    pub(crate) ready_after: Duration,
}

/// How a served volume is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    /// Bytes that are not in the store.
    pub(crate) at_risk: u64,
    pub(crate) map_bytes: u64,
    pub(crate) map_extents: u64,
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    /// The most that it ever was.
    pub(crate) peak: u64,
}

impl Served {
    /// Serves the volume in `volume` at `volume` with `.sock` behind it.
    pub(crate) fn start(
        volume: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self, String> {
        let mut command = Command::new(own_program("lsvd")?);
        command.arg("serve").arg(volume).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // Nothing follows it, so it is all that is buffered.
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|error| format!("{command:?}: {error}"))?;
        }
        let mut this = Self {
            child,
            volume: volume.to_owned(),
            ready_after: started.elapsed(),
        };
        if line.is_empty() {
            return Err(format!("{command:?} does not serve: {}", this.ended()));
        }
        Ok(this)
    }

    pub(crate) fn socket(volume: &Path) -> PathBuf {
        volume.with_extension("sock")
    }

    /// How the volume is, from the server itself: `lsvd info` would look at every object, too.
    fn status(&self) -> Result<Value, String> {
        let control = self.volume.join("cache").join("control.sock");
        let failed = |error: std::io::Error| format!("{}: {error}", control.display());
        let mut stream = UnixStream::connect(&control).map_err(failed)?;
        let request = "{\"verb\":\"status\",\"version\":1}\n";
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut reply = String::new();
        BufReader::new(stream)
            .read_line(&mut reply)
            .map_err(failed)?;
        let reply: Value = serde_json::from_str(&reply)
            .map_err(|error| format!("{}: {error}: {reply}", control.display()))?;
        Ok(reply["status"].clone())
    }

    /// The figures of it that are measured here.
    pub(crate) fn figures(&self) -> Result<Status, String> {
        let status = self.status()?;
        let number = |name: &str| {
            status[name]
                .as_u64()
                .ok_or_else(|| format!("the server does not say its {name}: {status}"))
        };
        Ok(Status {
            at_risk: number("at_risk_bytes")?,
            map_bytes: number("map_bytes")?,
            map_extents: number("map_extents")?,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, with everything stored.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|errno| format!("a server cannot be told to end: {errno}"))?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        Err(format!("a server ended with {status}: {}", self.ended()))
    }

    /// What a server that ended said of it.
    fn ended(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What cannot be read is not there to be shown.
            drop(stderr.read_to_string(&mut text));
        }
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The memory of a process that is there.
pub(crate) fn resident(pid: u32) -> Result<Resident, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kibibytes| kibibytes << 10)
            .ok_or_else(|| format!("{path} does not say {name}"))
    };
    Ok(Resident {
        now: kibibytes("VmRSS:")?,
        peak: kibibytes("VmHWM:")?,
    })
}
