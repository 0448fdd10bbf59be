//! Real data end to end: an ext4 made from a real tree goes in, comes back, is mounted and used.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::harness::{Attached, Ended, Server, assert_same_tree, client, gather, may_mount};

/// A tree of real files, and an ext4 image made from it.
struct Image {
    folder: tempfile::TempDir,
    bytes: u64,
}

impl Image {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let content = gather(&tree);
        // Room for inodes, for files that do not fill their blocks, and for what a test writes.
        let mebibytes = (content + content / 2) / (1 << 20) + 96;
        let image = Self {
            folder,
            bytes: mebibytes << 20,
        };
        let mut mke2fs = client("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree);
        mke2fs.arg(image.file()).arg(format!("{mebibytes}M"));
        Ended::success(&mut mke2fs);
        image
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn size(&self) -> String {
        self.bytes.to_string()
    }

    /// What comes back from `uri` by both ways is the image, byte by byte.
    fn assert_same_as(&self, uri: &str) {
        let back = self.folder.path().join("back");
        let copy = [
            client("nbdcopy").arg(uri).arg(&back).status(),
            client("qemu-img")
                .args(["convert", "-f", "raw", "-O", "raw", uri])
                .arg(self.folder.path().join("back2"))
                .status(),
        ];
        for status in copy {
            assert!(status.unwrap().success());
        }
        for name in ["back", "back2"] {
            let back = self.folder.path().join(name);
            Ended::success(client("cmp").arg(self.file()).arg(&back));
            fs::remove_file(back).unwrap();
        }
        let mut compare = client("qemu-img");
        compare.args(["compare", "-f", "raw", "-F", "raw"]);
        Ended::success(compare.arg(self.file()).arg(uri))
            .assert_stdout_has("Images are identical.");
    }
}

#[test]
fn an_image_comes_back_as_it_went_in() {
    let image = Image::new();
    let server = Server::start(&image.size(), &[]);
    let mut convert = client("qemu-img");
    convert.args(["convert", "-n", "-f", "raw", "-O", "raw"]);
    Ended::success(convert.arg(image.file()).arg(server.uri()));
    image.assert_same_as(server.uri());
    server.close();

    let server = Server::start(&image.size(), &["--flush", "store"]);
    Ended::success(
        client("nbdcopy")
            .arg("--flush")
            .arg(image.file())
            .arg(server.uri()),
    );
    image.assert_same_as(server.uri());
    server.close();
}

#[test]
fn a_filesystem_is_mounted_and_used_while_it_is_served() {
    if !may_mount() {
        return;
    }
    let image = Image::new();
    let server = Server::start(&image.size(), &["--store-latency", "1ms..2ms"]);
    Ended::success(client("nbdcopy").arg(image.file()).arg(server.uri()));

    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("mnt");
    let mut attached = Attached::new(server.uri(), folder.path());
    attached.mount(&at, "ro,noload");
    assert_same_tree(&image.tree(), &at);
    attached.unmount();

    attached.mount(&at, "rw,discard");
    change(&at);
    Ended::success(client("fstrim").arg(&at));
    attached.unmount();
    Ended::success(client("fsck.ext4").args(["-fn", attached.device()]));
    // A fresh mount reads from the volume what the page cache had before.
    attached.mount(&at, "ro");
    assert_changed(&at);
    attached.detach();

    let back = image.folder.path().join("after");
    Ended::success(client("nbdcopy").arg(server.uri()).arg(&back));
    Ended::success(client("fsck.ext4").arg("-fn").arg(&back));
    server.close();
}

const NEW_FILES: usize = 200;

fn content(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; 1 + number * 997];
    fastrand::Rng::with_seed(number as u64).fill(&mut bytes);
    bytes
}

/// Makes files, removes every third, renames every other.
fn change(at: &Path) {
    let folder = at.join("new");
    fs::create_dir(&folder).unwrap();
    for number in 0..NEW_FILES {
        fs::write(folder.join(number.to_string()), content(number)).unwrap();
    }
    for number in (0..NEW_FILES).step_by(3) {
        fs::remove_file(folder.join(number.to_string())).unwrap();
    }
    for number in (1..NEW_FILES).step_by(3) {
        let name = |suffix: &str| folder.join(format!("{number}{suffix}"));
        fs::rename(name(""), name(".renamed")).unwrap();
    }
    File::open(&folder).unwrap().sync_all().unwrap();
}

fn assert_changed(at: &Path) {
    let folder = at.join("new");
    let found = fs::read_dir(&folder).unwrap().count();
    assert_eq!(found, NEW_FILES - NEW_FILES.div_ceil(3));
    for number in 0..NEW_FILES {
        let name = match number % 3 {
            0 => continue,
            1 => format!("{number}.renamed"),
            _ => number.to_string(),
        };
        assert!(
            fs::read(folder.join(&name)).unwrap() == content(number),
            "{name} differs"
        );
    }
}
