//! Mounts that end with the test: a served volume by way of nbdfuse and a loop device, tmpfs, and a
//! small disk that can be full or hang.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Ended, client};

/// Whether this machine can mount. Where it cannot, the tests that need it fail and say why,
/// unless `LSVD_TEST_NO_MOUNT=1` says that this is known.
pub(crate) fn may_mount() -> bool {
    let mut lacks = Vec::new();
    if !rustix::process::geteuid().is_root() {
        lacks.push("root");
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            lacks.push(device);
        }
    }
    if lacks.is_empty() {
        return true;
    }
    let lacks = lacks.join(", ");
    assert!(
        std::env::var_os("LSVD_TEST_NO_MOUNT").is_some_and(|value| value == "1"),
        "mounting a filesystem needs {lacks}; LSVD_TEST_NO_MOUNT=1 leaves these tests out"
    );
    eprintln!("left out, because LSVD_TEST_NO_MOUNT=1: this machine lacks {lacks}");
    false
}

/// An export as a loop device. Dropping it undoes everything, in order.
#[derive(Debug)]
pub(crate) struct Attached {
    nbdfuse: Child,
    file: PathBuf,
    device: Option<String>,
    mounts: Vec<PathBuf>,
}

impl Attached {
    /// Attaches `uri` by way of the file `folder/disk`.
    pub(crate) fn new(uri: &str, folder: &Path) -> Self {
        let file = folder.join("disk");
        let pid_file = folder.join("nbdfuse.pid");
        drop(fs::remove_file(&pid_file));
        File::create(&file).unwrap();
        // Not under `timeout`: it lives as long as this value, and dies by our hand.
        let nbdfuse = Command::new("nbdfuse")
            .arg("-P")
            .args([&pid_file, &file])
            .arg(uri)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut attached = Self {
            nbdfuse,
            file,
            device: None,
            mounts: Vec::new(),
        };
        let started = Instant::now();
        while !pid_file.exists() {
            assert!(
                attached.nbdfuse.try_wait().unwrap().is_none(),
                "nbdfuse ended"
            );
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "nbdfuse is not ready"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut losetup = client("losetup");
        losetup
            .args(["-f", "--show", "--direct-io=on"])
            .arg(&attached.file);
        let ended = Ended::success(&mut losetup);
        attached.device = Some(ended.stdout.trim().to_owned());
        attached
    }

    /// The block device.
    pub(crate) fn device(&self) -> &str {
        self.device.as_deref().unwrap()
    }

    /// Mounts the filesystem at `at`, which is made.
    pub(crate) fn mount(&mut self, at: &Path, options: &str) {
        fs::create_dir_all(at).unwrap();
        let mut mount = client("mount");
        mount.args(["-o", options, self.device()]).arg(at);
        Ended::success(&mut mount);
        self.mounts.push(at.to_path_buf());
    }

    /// Undoes the last mount.
    pub(crate) fn unmount(&mut self) {
        // One that stays mounted stays known, for the end to try once more.
        let at = self.mounts.last().unwrap();
        // A process that another test has just started has the files that were open here, too, until
        // its program runs.
        until_free(|| Ended::run(client("umount").arg(at)));
        self.mounts.pop();
    }

    /// Undoes all but the mounts.
    fn let_go(&mut self) {
        let device = self.device.take().unwrap();
        Ended::success(client("losetup").args(["-d", &device]));
        // The device goes when the last who has it open closes it, and then the file is free: a
        // machine's udev looks into each device that appears or changes.
        until_free(|| Ended::run(client("fusermount3").arg("-u").arg(&self.file)));
    }

    /// Undoes everything, and fails where that fails.
    pub(crate) fn detach(mut self) {
        while !self.mounts.is_empty() {
            self.unmount();
        }
        self.let_go();
        assert!(self.nbdfuse.wait().unwrap().success(), "nbdfuse failed");
    }

    /// Undoes everything after the server died: what is not written by now never will be.
    pub(crate) fn abandon(mut self) {
        // Only when the filesystem is gone may it be mounted from another device.
        while !self.mounts.is_empty() {
            self.unmount();
        }
        self.let_go();
        // It has lost its server, which it may say by its exit code.
        self.nbdfuse.wait().unwrap();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // After `detach` nothing is left to do; after a failure all of it is tried, and the failure
        // is what the test reports.
        for at in self.mounts.drain(..).rev() {
            drop(client("umount").arg("-l").arg(at).status());
        }
        if let Some(device) = self.device.take() {
            drop(client("losetup").args(["-d", &device]).status());
        }
        if matches!(self.nbdfuse.try_wait(), Ok(None)) {
            let mut fusermount = client("fusermount3");
            drop(fusermount.args(["-u", "-z"]).arg(&self.file).status());
            drop(self.nbdfuse.kill());
            drop(self.nbdfuse.wait());
        }
    }
}

/// Unmounts what somebody may still have open for a moment.
#[track_caller]
fn until_free(unmount: impl Fn() -> Ended) {
    let started = Instant::now();
    loop {
        let ended = unmount();
        if ended.code == Some(0) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{ended}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A filesystem in memory, small on purpose. Dropping it undoes the mount.
#[derive(Debug)]
pub(crate) struct MemoryMount(PathBuf);

impl MemoryMount {
    /// Mounts one at `at`, which is made, with these options.
    pub(crate) fn new(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let mut mount = client("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        Ended::success(&mut mount);
        Self(at.to_path_buf())
    }
}

impl Drop for MemoryMount {
    fn drop(&mut self) {
        drop(client("umount").arg("-l").arg(&self.0).status());
    }
}

/// A small ext4 on a loop device, which can be full, or hang. Dropping it undoes everything.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes one of so many mebibytes in `folder`.
    pub(crate) fn new(folder: &Path, mebibytes: u64) -> Self {
        let image = folder.join("small-disk.image");
        let at = folder.join("small-disk");
        File::create(&image)
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        fs::create_dir(&at).unwrap();
        Ended::success(
            client("mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-m", "0"])
                .arg(&image),
        );
        Ended::success(client("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        Self(at)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it to the last byte with a file.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        // Ever smaller pieces: what is left is less than any file needs.
        for piece in [1 << 20, 4096, 1] {
            let piece = vec![b'b'; piece];
            loop {
                match ballast.write_all(&piece).and_then(|()| ballast.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Makes room again.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Lets whoever writes to it wait; reads go on.
    pub(crate) fn hang(&self) -> Hanging<'_> {
        Ended::success(client("fsfreeze").arg("--freeze").arg(&self.0));
        Hanging(self)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(client("umount").arg("-l").arg(&self.0).status());
    }
}

/// Whoever writes to a disk waits until this is dropped.
#[derive(Debug)]
pub(crate) struct Hanging<'a>(&'a SmallDisk);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        drop(client("fsfreeze").arg("--unfreeze").arg(&self.0.0).status());
    }
}
