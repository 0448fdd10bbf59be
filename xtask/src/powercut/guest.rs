//! One guest with its disk: made, booted, tortured, taken down.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::initramfs::{self, Program};
use super::packages::Packages;
use super::{Cuts, Machines};
use crate::judge::{Run, Total, judge};
use crate::servers::Server;
use crate::step::{Outcome, quietly};

/// Size of the guest's disk. It is kept in memory, as far as it is written to.
const DISK: &str = "1G";

/// Where the server listens in the guest, and at an address of ours outside.
const PORT: u16 = 10809;

const BOOT: &str = include_str!("boot.sh");
const CUT: &str = include_str!("cut.sh");

/// A guest and the process that is its disk. Dropping it ends both.
#[derive(Debug)]
pub(super) struct Guest {
    place: PathBuf,
    seed: u64,
    disk: Child,
    uri: String,
}

/// How a disk differs from the next, by the seed.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Bytes of a sector: what the disk writes whole.
    unit: u32,
    /// What a flush waits for.
    flush: &'static str,
}

impl Kind {
    const fn of(seed: u64) -> Self {
        Self {
            unit: if seed.is_multiple_of(2) { 512 } else { 4096 },
            flush: if seed % 4 == 3 { "store" } else { "local" },
        }
    }
}

impl Guest {
    /// Makes the disk with its file system, and all that the guest boots from.
    pub(super) fn new(
        cuts: &Cuts<'_>,
        machines: &Machines,
        place: PathBuf,
        seed: u64,
    ) -> Result<Self, String> {
        fs::create_dir(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        let kind = Kind::of(seed);
        // Nobody else listens at an address that the process number makes ours, so the port stays
        // free from one boot to the next.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{middle}.{low}", 64 + high % 64);
        let packages = &machines.packages;
        let programs = programs(cuts.server, &machines.stripped)?;
        initramfs::write(
            &place.join("initramfs"),
            packages,
            &programs,
            &serve(cuts, kind),
        )?;
        let scripts = Scripts {
            place: &place,
            command: machine(packages, kind, &address)?,
            again: cuts.again,
        };
        scripts.write("boot.sh", BOOT)?;
        scripts.write("cut.sh", CUT)?;
        let disk = start_disk(&place, &machines.disk, kind, seed)?;
        Ok(Self {
            place,
            seed,
            disk,
            uri: format!("nbd://{address}:{PORT}"),
        })
    }

    /// Gives it power, and waits until it serves.
    pub(super) fn boot(&self) -> Outcome {
        quietly(Command::new("sh").arg("-c").arg(self.script("boot.sh")))
    }

    fn script(&self, name: &str) -> String {
        format!("sh '{}'", self.place.join(name).display())
    }

    /// Runs the judge.
    pub(super) fn torture(
        &self,
        cuts: &Cuts<'_>,
        lsvd: &Path,
        rounds: u32,
        total: &mut Total,
    ) -> Outcome {
        let mut torture = Command::new(lsvd);
        torture
            .args(["torture", &self.uri])
            .args(["--power-cut", &self.script("cut.sh")])
            .args(["--restart", &self.script("boot.sh")])
            .args(["--rounds", &rounds.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .args(cuts.server.owes());
        let run = Run {
            about: &format!("seed {}, {:?}", self.seed, Kind::of(self.seed)),
            defaults: &[("--load", "100ms..2s"), ("--area", "8M"), ("--hot", "512K")],
            given: cuts.given,
            keep_going: cuts.keep_going,
        };
        judge(torture, &run, total)
    }

    /// Ends the guest and its disk.
    pub(super) fn end(&mut self) -> Outcome {
        let cut = quietly(Command::new("sh").arg("-c").arg(self.script("cut.sh")));
        // It has all that it was sent in memory, and nothing to say any more.
        let killed = self.disk.kill().and_then(|()| self.disk.wait());
        cut?;
        killed.map_err(|error| format!("cannot end the disk: {error}"))?;
        Ok(())
    }

    /// What its disk has forgotten.
    pub(super) fn losses(&self) -> Result<Losses, String> {
        let read = |name: &str| {
            let path = self.place.join(name);
            if !path.exists() {
                return Ok(String::new());
            }
            fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let mut losses = Losses::default();
        for line in read("disk.log")?.lines() {
            losses.add_line(line);
        }
        let count = |text: String| u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
        losses.again = count(read("again")?);
        losses.stillborn = count(read("stillborn")?);
        Ok(losses)
    }

    /// The last that the guest said.
    pub(super) fn end_of_console(&self) -> String {
        let consoles = fs::read_dir(&self.place).into_iter().flatten().flatten();
        let consoles = consoles.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("console.")
        });
        let Some(last) = consoles.max() else {
            return "the guest said nothing".to_owned();
        };
        let text = fs::read(last).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        format!("the last that the guest said:\n{}", last.join("\n"))
    }

    /// Removes what is left of it.
    pub(super) fn remove(self) -> Outcome {
        fs::remove_dir_all(&self.place)
            .map_err(|error| format!("cannot remove {}: {error}", self.place.display()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // After `end` there is nothing left to do; after a failure that is what is reported.
        if matches!(self.disk.try_wait(), Ok(None)) {
            drop(self.end());
        }
    }
}

/// The files that the server consists of, and where they go.
fn programs(server: Server, lsvd: &Path) -> Result<Vec<Program>, String> {
    if server == Server::Lsvd {
        return Ok(vec![Program {
            file: lsvd.to_path_buf(),
            to: PathBuf::from("/bin/lsvd"),
        }]);
    }
    // Plugins are looked for where they are here.
    let files = server.files()?.into_iter();
    let kept = files.map(|file| Program {
        to: file.clone(),
        file,
    });
    Ok(kept.collect())
}

/// What serves in the guest, for its shell. Our log has four segments, the fewest that it can have,
/// so that each is soon used again; objects are of 1 MiB, so that writes up to there are whole or not
/// there. Others serve a file, and do not say on their own when they listen.
fn serve(cuts: &Cuts<'_>, kind: Kind) -> String {
    let plant = cuts.plant;
    match cuts.server.at_port("/disk/raw", PORT) {
        None => format!(
            "LSVD_PLANT='{plant}' /bin/lsvd serve /disk/vol --create 64M --object-size 1M \
             --cache-dir /disk/cache --log-size 5M --flush {} --listen 0.0.0.0:{PORT}\n",
            kind.flush
        ),
        Some(command) => format!(
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
             if [ ! -e /disk/raw ]; then $bb truncate -s 64M /disk/raw; $bb sync; fi\n\
             {command} &\n\
             server=$!\n\
             while kill -0 $server && ! $bb grep -q '0:{PORT:04X} 0*:0000 0A' /proc/net/tcp; do\n\
             $bb usleep 20000\n\
             done\n\
             echo 'nbd://0.0.0.0:{PORT}'\n\
             wait $server\n"
        ),
    }
}

/// The command that is the machine, but for its console.
fn machine(packages: &Packages, kind: Kind, address: &str) -> Result<String, String> {
    let unit = kind.unit;
    Ok(format!(
        "{qemu} -accel tcg -cpu max,-cx16 -machine q35 -smp 1 -m 512 \
         -nodefaults -no-user-config -display none -no-reboot \
         -kernel '{kernel}' -initrd initramfs \
         -append 'console=ttyS0 quiet panic=-1 mitigations=off' \
         -blockdev driver=nbd,node-name=disk,server.type=unix,server.path=$PWD/disk.sock,\
cache.direct=on,cache.no-flush=off \
         -device virtio-blk-pci,drive=disk,logical_block_size={unit},physical_block_size={unit} \
         -netdev user,id=net,restrict=on,hostfwd=tcp:{address}:{PORT}-:{PORT} \
         -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci",
        qemu = packages.qemu(),
        kernel = packages.kernel()?.display(),
    ))
}

/// Makes the file system and starts the disk that begins as it.
fn start_disk(place: &Path, disk: &Path, kind: Kind, seed: u64) -> Result<Child, String> {
    let image = place.join("image");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-E"]);
    mke2fs.arg("lazy_itable_init=0,lazy_journal_init=0");
    if kind.unit == 512 {
        // A disk that tears at every sector tears the superblock's checksum off, too: no mount
        // finds its way back from that, and it would be no fault of what is tested.
        mke2fs.args(["-O", "^metadata_csum"]);
    }
    quietly(mke2fs.arg(&image).arg(DISK))?;
    let failed = |error| format!("cannot start the disk: {error}");
    let log = File::create(place.join("disk.log")).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let socket = place.join("disk.sock");
    let mut disk = Command::new(disk)
        .arg(&socket)
        .arg(&image)
        .args([kind.unit.to_string(), seed.to_string()])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    let started = Instant::now();
    while !socket.exists() {
        let ended = disk.try_wait().map_err(failed)?;
        if ended.is_some() || started.elapsed() > Duration::from_secs(60) {
            drop(disk.kill());
            drop(disk.wait());
            return Err(format!("the disk does not serve: see {}", place.display()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(disk)
}

/// The scripts' blanks.
struct Scripts<'a> {
    place: &'a Path,
    command: String,
    again: u8,
}

impl Scripts<'_> {
    fn write(&self, name: &str, text: &str) -> Outcome {
        let text = text
            .replace("PLACE", &format!("'{}'", self.place.display()))
            .replace("COMMAND", &self.command)
            .replace("AGAIN", &self.again.to_string());
        let path = self.place.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Sums of what the disks say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    cuts: u64,
    /// Cuts with something unflushed in the disk's cache.
    unflushed: u64,
    units: u64,
    lost: u64,
    again: u64,
    stillborn: u64,
}

/// Cuts below which a run that lost nothing may have been lucky.
const ROUNDS_THAT_LOSE: u64 = 10;

impl Losses {
    /// Cuts after which everything is there, also what nobody flushed, prove nothing: whether syncs
    /// are left out shows only where what was not synced is lost.
    pub(crate) fn refuse_none(&self, rounds: u64) -> Outcome {
        if self.lost == 0 && rounds >= ROUNDS_THAT_LOSE {
            return Err(format!(
                "the run proves nothing: no cut in {rounds} rounds lost anything at the disk"
            ));
        }
        Ok(())
    }

    /// Takes `power lost: 3 of 8 unflushed units lost (...)` in, and nothing else.
    pub(crate) fn add_line(&mut self, line: &str) {
        let mut words = line
            .strip_prefix("power lost: ")
            .unwrap_or_default()
            .split(' ');
        let (Some(Ok(lost)), Some("of"), Some(Ok(units))) = (
            words.next().map(str::parse::<u64>),
            words.next(),
            words.next().map(str::parse::<u64>),
        ) else {
            return;
        };
        self.cuts += 1;
        self.unflushed += u64::from(units > 0);
        self.units += units;
        self.lost += lost;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.unflushed += other.unflushed;
        self.units += other.units;
        self.lost += other.lost;
        self.again += other.again;
        self.stillborn += other.stillborn;
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} times without power, {} of them while it booted or opened; {} times the \
             disk held what was not flushed, {} sectors in all, and lost {} of them; {} boots \
             failed",
            self.cuts, self.again, self.unflushed, self.units, self.lost, self.stillborn,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Losses;

    #[test]
    fn many_cuts_that_lost_nothing_prove_nothing() {
        let mut losses = Losses::default();
        losses.add_line("power lost: 0 of 8 unflushed units lost (None)");
        losses.refuse_none(9).unwrap();
        let refused = losses.refuse_none(10).unwrap_err();
        assert!(refused.contains("proves nothing"), "{refused}");
        losses.add_line("power lost: 1 of 8 unflushed units lost (None)");
        losses.refuse_none(10).unwrap();
    }

    #[test]
    fn only_losses_are_counted() {
        let mut losses = Losses::default();
        losses.add_line("power lost: 3 of 8 unflushed units lost (None)");
        losses.add_line("power lost: 0 of 0 unflushed units lost (None)");
        losses.add_line("something else");
        let expected = Losses {
            cuts: 2,
            unflushed: 1,
            units: 8,
            lost: 3,
            again: 0,
            stillborn: 0,
        };
        assert_eq!(losses, expected);
    }
}
