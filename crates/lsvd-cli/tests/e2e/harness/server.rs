//! A server under test: one process, one socket, one directory of objects.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::{Ended, MemoryMount};

/// A temporary directory with a place for objects and one for the socket.
#[derive(Debug)]
pub(crate) struct ObjectDirectory {
    // The fields are dropped in this order: what is mounted in a folder goes before the folder.
    disk: Option<MemoryMount>,
    folder: TempDir,
}

impl ObjectDirectory {
    pub(crate) fn new() -> Self {
        Self {
            disk: None,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The same with the objects on a disk of its own that has so much room.
    pub(crate) fn on_disk_of(size: &str) -> Self {
        let mut this = Self::new();
        this.disk = Some(MemoryMount::new(&this.objects(), &format!("size={size}")));
        this
    }

    /// Where the objects go; absent until the server makes it.
    pub(crate) fn objects(&self) -> PathBuf {
        self.folder.path().join("vol")
    }

    /// Where the socket goes.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// For files of the test itself.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Names of the objects, in order: each file system has another.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.objects()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names = entries.map(|entry| name(entry).into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    uri: String,
    directory: ObjectDirectory,
}

impl Server {
    /// A server on a unix socket with these arguments, and a volume of `size`.
    pub(crate) fn start(size: &str, arguments: &[&str]) -> Self {
        Self::start_in(ObjectDirectory::new(), size, arguments)
    }

    /// The same in a directory that the test has prepared.
    pub(crate) fn start_in(directory: ObjectDirectory, size: &str, arguments: &[&str]) -> Self {
        let mut command = Self::command(&directory, size);
        command.arg("--socket").arg(directory.socket());
        command.args(arguments);
        Self::spawn(directory, command)
    }

    /// The same on TCP, at a port that the system chooses.
    pub(crate) fn start_tcp(size: &str) -> Self {
        let directory = ObjectDirectory::new();
        let mut command = Self::command(&directory, size);
        command.args(["--listen", "127.0.0.1:0"]);
        Self::spawn(directory, command)
    }

    /// A server of a volume that lasts, in a directory of its own, with a small write log.
    pub(crate) fn start_lasting(directory: ObjectDirectory, arguments: &[&str]) -> Self {
        let command = Self::at(&directory.objects(), &directory, arguments);
        Self::spawn(directory, command)
    }

    /// A server of the volume in `objects`, whose socket and local state are elsewhere.
    pub(crate) fn start_beside(objects: &Path, arguments: &[&str]) -> Self {
        Self::try_start_beside(objects, arguments)
            .unwrap_or_else(|ended| panic!("no server: {ended}"))
    }

    /// The same, or how it ended before it served.
    pub(crate) fn try_start_beside(objects: &Path, arguments: &[&str]) -> Result<Self, Ended> {
        let directory = ObjectDirectory::new();
        let mut command = Self::at(objects, &directory, arguments);
        let cache = directory.path().join("cache");
        command.arg("--cache-dir").arg(cache);
        Self::try_spawn(directory, command)
    }

    /// A server of the volume in `objects`, whose socket is in `directory`.
    pub(crate) fn start_at(objects: &Path, directory: ObjectDirectory, arguments: &[&str]) -> Self {
        let command = Self::at(objects, &directory, arguments);
        Self::spawn(directory, command)
    }

    fn at(objects: &Path, directory: &ObjectDirectory, arguments: &[&str]) -> Command {
        let mut command = Self::lasting(objects);
        command.arg("--socket").arg(directory.socket());
        command.args(arguments);
        command
    }

    fn lasting(objects: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lsvd"));
        command.env_remove("LSVD_LOG");
        command.arg("serve").arg(objects);
        command
    }

    fn command(directory: &ObjectDirectory, size: &str) -> Command {
        // Not under `timeout`, which would stand between us and the process to be signalled.
        let mut command = Command::new(env!("CARGO_BIN_EXE_lsvd"));
        command.env_remove("LSVD_LOG");
        command.arg("serve").arg(directory.objects());
        command.args(["--ephemeral", "--create", size]);
        command
    }

    /// Starts `command`, which serves.
    pub(crate) fn spawn(directory: ObjectDirectory, command: Command) -> Self {
        Self::try_spawn(directory, command).unwrap_or_else(|ended| panic!("no server: {ended}"))
    }

    /// The same, or how it ended before it served.
    pub(crate) fn try_spawn(
        directory: ObjectDirectory,
        mut command: Command,
    ) -> Result<Self, Ended> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut uri = String::new();
        stdout.read_line(&mut uri).unwrap();
        if !uri.ends_with('\n') {
            let output = child.wait_with_output().unwrap();
            return Err(Ended::from_output(output, format!("{command:?}")));
        }
        uri.pop();
        Ok(Self {
            child: Some(child),
            stdout,
            uri,
            directory,
        })
    }

    /// Where clients connect.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn directory(&self) -> &ObjectDirectory {
        &self.directory
    }

    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Stops it, until SIGCONT. The signal alone stops nothing yet: other threads go on until the one
    /// that takes it has its turn, and each ends the call that it is in.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
        assert!(stopped.unwrap().stopped(), "it ended");
    }

    /// Waits for the end, which somebody must have asked for. Nothing but the line with the URI
    /// may be on standard output.
    pub(crate) fn wait_for_end(&mut self) -> Ended {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "serve printed more than its URI");
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        Ended::from_output(output, "lsvd serve".to_owned())
    }

    /// The same, and gives back the directory.
    pub(crate) fn wait(mut self) -> (Ended, ObjectDirectory) {
        let ended = self.wait_for_end();
        let empty = ObjectDirectory::new();
        (ended, std::mem::replace(&mut self.directory, empty))
    }

    /// Ends it as a crash of the program would.
    pub(crate) fn kill(self) -> ObjectDirectory {
        self.signal(Signal::KILL);
        self.wait().1
    }

    /// An orderly close that must succeed without a word.
    pub(crate) fn close(self) -> ObjectDirectory {
        self.signal(Signal::TERM);
        let (ended, directory) = self.wait();
        let ended = ended.assert_code(0);
        assert_eq!(ended.stderr, "", "{ended}");
        directory
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The test has failed already where these do.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
