//! The machine's parts, from Debian's packages: QEMU, a kernel, busybox. They are unpacked into a
//! folder of the target directory and not installed, so none of it needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Outcome, root, said, timed};

/// Used where the machine's own lists name no mirror.
const MIRROR: &str = "http://deb.debian.org/debian";

/// What QEMU needs to run this machine; what else it depends on may be installed already.
const QEMU: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// The newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

const BUSYBOX: &str = "busybox-static";

/// Says that all is unpacked.
const DONE: &str = "unpacked";

/// The kernel without its packing, where we can undo that.
const UNPACKED_KERNEL: &str = "vmlinux";

/// What begins a stream of zstd.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The unpacked packages.
#[derive(Debug)]
pub(super) struct Packages {
    pub(super) folder: PathBuf,
}

/// Why this machine cannot have them, if so.
pub(super) fn unavailable() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the machine whose power is cut is an x86-64, like the host".to_owned());
    }
    codename().err()
}

/// The name of this machine's release of Debian.
fn codename() -> Result<String, String> {
    let release = fs::read_to_string("/etc/os-release")
        .map_err(|error| format!("cannot read /etc/os-release: {error}"))?;
    let field = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name));
        value.map(|value| value.trim_matches('"').to_owned())
    };
    match (field("ID=").as_deref(), field("VERSION_CODENAME=")) {
        (Some("debian"), Some(codename)) => Ok(codename),
        _ => Err("its machine is put together from Debian's packages: use Debian".to_owned()),
    }
}

impl Packages {
    /// Those of an earlier run, or new ones.
    pub(super) fn get() -> Result<Self, String> {
        if let Some(reason) = unavailable() {
            return Err(reason);
        }
        let this = Self {
            folder: root().join("target/powercut/packages"),
        };
        if !this.folder.join(DONE).exists() {
            timed("unpack QEMU, a kernel and busybox", || this.fetch())?;
        }
        this.unpack_kernel()?;
        Ok(this)
    }

    fn fetch(&self) -> Outcome {
        // What an interrupted run left may be anything.
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .map_err(|error| format!("cannot remove {}: {error}", self.folder.display()))?;
        }
        let apt = Apt::new(&self.folder.join("apt"))?;
        let mut wanted: Vec<String> = QEMU.iter().map(|name| (*name).to_owned()).collect();
        wanted.push(BUSYBOX.to_owned());
        wanted.extend(apt.would_install("qemu-system-x86")?);
        let kernel = apt.would_install(KERNEL)?;
        let is_kernel = |name: &&String| name.starts_with("linux-image-") && *name != KERNEL;
        let kernel = kernel.iter().find(is_kernel);
        wanted.push(kernel.cloned().ok_or("no kernel for virtual machines")?);
        wanted.sort_unstable();
        wanted.dedup();
        apt.unpack(&wanted, &self.folder)?;
        let done = self.folder.join(DONE);
        fs::write(&done, "").map_err(|error| format!("cannot write {}: {error}", done.display()))
    }

    /// Unpacks a kernel that is packed with zstd: the guest would take seconds of each boot for it.
    fn unpack_kernel(&self) -> Outcome {
        let unpacked = self.folder.join(UNPACKED_KERNEL);
        if unpacked.exists() {
            return Ok(());
        }
        let image = self.packed_kernel()?;
        let failed = |path: &Path, error| format!("cannot copy {}: {error}", path.display());
        let image = fs::read(&image).map_err(|error| failed(&image, error))?;
        let Some(packed) = payload(&image).filter(|packed| packed.starts_with(&ZSTD)) else {
            return Ok(());
        };
        let (file, new) = (
            self.folder.join("kernel.zst"),
            self.folder.join("kernel.new"),
        );
        fs::write(&file, packed).map_err(|error| failed(&file, error))?;
        let mut zstd = Command::new("zstd");
        said(zstd.args(["-dqf", "-o"]).args([&new, &file]))?;
        fs::rename(&new, &unpacked).map_err(|error| failed(&new, error))
    }

    fn packed_kernel(&self) -> Result<PathBuf, String> {
        only(&self.folder.join("boot"), "vmlinuz-")
    }

    /// The kernel that QEMU starts.
    pub(super) fn kernel(&self) -> Result<PathBuf, String> {
        let unpacked = self.folder.join(UNPACKED_KERNEL);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        self.packed_kernel()
    }

    /// The folder of the kernel's modules.
    pub(super) fn modules(&self) -> Result<PathBuf, String> {
        // Debian moves them from one to the other.
        let places = ["usr/lib/modules", "lib/modules"];
        let place = places.map(|place| self.folder.join(place));
        let place = place.iter().find(|place| place.is_dir());
        only(place.ok_or("the kernel has no modules")?, "")
    }

    pub(super) fn busybox(&self) -> Result<PathBuf, String> {
        let places = ["usr/bin/busybox", "bin/busybox"];
        let mut places = places.iter().map(|place| self.folder.join(place));
        places
            .find(|place| place.is_file())
            .ok_or_else(|| "there is no busybox in its package".to_owned())
    }

    /// The start of a command line of QEMU, for the shell.
    pub(super) fn qemu(&self) -> String {
        let folder = self.folder.display();
        // Libraries that this machine has are not among them.
        format!(
            "env LD_LIBRARY_PATH='{folder}/usr/lib/x86_64-linux-gnu:{folder}/lib/x86_64-linux-gnu' \
             QEMU_MODULE_DIR='{folder}/usr/lib/x86_64-linux-gnu/qemu' \
             '{folder}/usr/bin/qemu-system-x86_64' -L '{folder}/usr/share/qemu' \
             -L '{folder}/usr/share/seabios'"
        )
    }
}

/// The entry of `folder` whose name begins so, of which there is one.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf, String> {
    let failed = |error| format!("cannot read {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    let count = found.len();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(_) => Err(format!(
            "{} has {count} entries {prefix}*, not one",
            folder.display()
        )),
    }
}

/// The packed kernel inside an image of the x86 boot protocol, whose header says where it is.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + number(0x248)?;
    // The last four bytes are the unpacked size, which belongs to the protocol and not to zstd.
    let end = start.checked_add(number(0x24c)?.checked_sub(4)?)?;
    image.get(start..end)
}

/// apt with lists of its own, of this Debian and its backports: QEMU 7.2 is not sound without KVM.
#[derive(Debug)]
struct Apt {
    folder: PathBuf,
    backports: String,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, String> {
        let codename = codename()?;
        let this = Self {
            folder: folder.to_path_buf(),
            backports: format!("{codename}-backports"),
        };
        for part in ["lists/partial", "cache/archives/partial", "sources", "debs"] {
            let part = this.folder.join(part);
            fs::create_dir_all(&part)
                .map_err(|error| format!("cannot make {}: {error}", part.display()))?;
        }
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {codename} {}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            this.mirror(&codename),
            this.backports
        );
        let file = this.folder.join("sources/debian.sources");
        fs::write(&file, sources)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        said(this.command("apt-get").arg("update"))?;
        Ok(this)
    }

    /// The mirror that this machine has its packages from.
    fn mirror(&self, codename: &str) -> String {
        let mut targets = Command::new("apt-get");
        targets.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"]);
        let targets = said(targets.current_dir(&self.folder)).unwrap_or_default();
        let of_this = |line: &str| {
            let uri = line.strip_prefix(codename)?.strip_prefix(' ')?;
            uri.trim_end_matches('/')
                .ends_with("/debian")
                .then(|| uri.to_owned())
        };
        let mirror = targets.lines().find_map(of_this);
        mirror.unwrap_or_else(|| MIRROR.to_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={folder}/sources"),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            format!("APT::Default-Release={}", self.backports),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C").current_dir(&self.folder);
        command
    }

    /// The packages that an installation of `package` would bring to this machine.
    fn would_install(&self, package: &str) -> Result<Vec<String>, String> {
        let mut simulate = self.command("apt-get");
        simulate.args(["install", "--simulate", "--no-install-recommends", package]);
        let text = said(&mut simulate)?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
        let names = lines.filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads packages, checked by apt, and unpacks them into `folder`.
    fn unpack(&self, packages: &[String], folder: &Path) -> Outcome {
        let debs = self.folder.join("debs");
        let mut download = self.command("apt-get");
        said(download.arg("download").args(packages).current_dir(&debs))?;
        let failed = |error| format!("cannot read {}: {error}", debs.display());
        for deb in fs::read_dir(&debs).map_err(failed)? {
            let deb = deb.map_err(failed)?.path();
            said(Command::new("dpkg").arg("-x").args([&deb, folder]))?;
        }
        fs::remove_dir_all(&self.folder)
            .map_err(|error| format!("cannot remove {}: {error}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::payload;

    #[test]
    fn the_packed_kernel_is_where_the_header_says() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = 9;
        image[1040..1049].copy_from_slice(b"KERNEL..!");
        assert_eq!(payload(&image), Some(&b"KERNE"[..]));
        image[0x24f] = 0xff;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"no kernel"), None);
    }
}
