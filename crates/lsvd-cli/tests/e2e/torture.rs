//! `lsvd torture` before servers that keep their word and servers that lie in one way each.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{Ended, client, lsvd};

/// Bytes of the disks.
const DISK: u64 = 16 << 20;

/// A server of another project, which scripts start and kill.
struct Victim {
    folder: TempDir,
}

impl Victim {
    /// Starts a server that keeps its disk in a file `disk`, by the command that `command` gives
    /// for the socket's path and the file's.
    fn start(command: impl Fn(&str, &str) -> String) -> Self {
        let this = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let path = |name: &str| this.path(name).to_str().unwrap().to_owned();
        let disk = fs::File::create(path("disk")).unwrap();
        disk.set_len(DISK).unwrap();
        let (pid, new) = (path("pid"), path("pid.new"));
        let command = command(&path("s"), &path("disk"));
        // The file with the process's number goes when the process is gone with all its threads,
        // and so with its locks. Nothing of the server may keep our own pipes open.
        let start = format!(
            "rm -f {socket}\n\
             ( {command} & echo $! > {new}; mv {new} {pid}; wait $!; rm -f {pid} ) \\\n\
             > {log} 2>&1 &\n\
             while [ ! -e {pid} ]; do sleep 0.002; done\n",
            socket = path("s"),
            log = path("log"),
        );
        let kill = format!(
            "kill -9 $(cat {pid}) || exit 1\n\
             while [ -e {pid} ]; do sleep 0.002; done\n"
        );
        fs::write(path("start"), start).unwrap();
        fs::write(path("kill"), kill).unwrap();
        Ended::success(client("sh").arg(path("start")));
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.path("s").display())
    }

    /// Tortures it, without a kill.
    fn load(&self, arguments: &[&str]) -> Ended {
        let mut torture = lsvd();
        torture.args(["torture", &self.uri(), "--load", "50ms..300ms", "--json"]);
        Ended::run(torture.args(arguments))
    }

    /// The same with kills.
    fn torture(&self, arguments: &[&str]) -> Ended {
        let command = |name: &str| format!("sh {}", self.path(name).display());
        let hooks = ["--kill", &command("kill"), "--restart", &command("start")];
        self.load(&[&hooks, arguments].concat())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if self.path("pid").exists() {
            drop(client("sh").arg(self.path("kill")).status());
        }
    }
}

/// A volume of ours; its log goes to a folder `cache` beside it.
fn ours(socket: &str, disk: &str) -> String {
    format!(
        "{lsvd} serve {disk}.vol --create {DISK} --object-size 1M --socket {socket} \
         --cache-dir {disk}.cache --log-size 16M --take-over",
        lsvd = env!("CARGO_BIN_EXE_lsvd"),
    )
}

fn qemu_nbd(socket: &str, disk: &str) -> String {
    format!("qemu-nbd -t -e 16 -f raw --discard=unmap -k {socket} {disk}")
}

/// A server made of shell commands, over a file; `write` has the offset in `$4`, the length in `$3`
/// and the data on its standard input.
fn scripted(write: &str, discard: &str) -> impl Fn(&str, &str) -> String {
    move |socket, disk| {
        let mut command = format!("nbdkit -f -U {socket} -t 4 eval");
        for (name, script) in [
            ("get_size", format!("echo {DISK}").as_str()),
            (
                "pread",
                "exec dd if=DISK skip=$4 count=$3 iflag=skip_bytes,count_bytes bs=1M status=none",
            ),
            ("pwrite", write),
            ("trim", discard),
            ("zero", discard),
            ("flush", "exit 0"),
            ("can_write", "exit 0"),
            ("can_flush", "exit 0"),
            ("can_trim", "exit 0"),
            ("can_zero", "exit 0"),
            ("can_multi_conn", "exit 0"),
        ] {
            write!(command, " {name}='{}'", script.replace("DISK", disk)).unwrap();
        }
        command
    }
}

const STORE: &str =
    "exec dd of=DISK seek=$4 oflag=seek_bytes iflag=fullblock conv=notrunc bs=1M status=none";
const ZERO: &str = "exec fallocate -p -o $4 -l $3 DISK";

#[track_caller]
fn faults(ended: &Ended, name: &str) -> u64 {
    let report = ended.json();
    report["faults"][name]["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{ended}"))
}

#[test]
fn a_raw_file_survives_kills() {
    let victim = Victim::start(qemu_nbd);
    let ended = victim
        .torture(&["--rounds", "6", "--atomic", "512"])
        .assert_code(0);
    let report = ended.json();
    assert_eq!(report["right"], true, "{ended}");
    assert_eq!(report["rounds"], 6, "{ended}");
    assert_eq!(report["lost"]["flushed"], 0, "{ended}");
    assert_eq!(report["lost"]["answered_not_flushed"], 0, "{ended}");
    assert!(
        report["writes"]["answered"].as_u64().unwrap() > 100,
        "{ended}"
    );
}

#[test]
fn our_volume_survives_kills_whole() {
    let victim = Victim::start(ours);
    let ended = victim.torture(&["--rounds", "8", "--kill-again", "30"]);
    let ended = ended.assert_code(0);
    assert_eq!(ended.json()["lost"]["flushed"], 0, "{ended}");
    assert_eq!(ended.json()["errors"], 0, "{ended}");
}

#[test]
fn our_volume_without_its_log_is_a_prefix() {
    let victim = Victim::start(ours);
    let path = |name: &str| victim.path(name).display().to_string();
    let kill = format!("sh {} && rm -rf {}", path("kill"), path("disk.cache"));
    let restart = format!("sh {}", path("start"));
    let hooks = ["--kill", &kill, "--restart", &restart, "--rounds", "8"];
    let ended = victim.load(&[&hooks[..], &["--expect", "prefix"]].concat());
    let ended = ended.assert_code(0);
    // It had something to lose.
    assert!(
        ended.json()["lost"]["most_in_a_round"].as_u64().unwrap() > 0,
        "{ended}"
    );
}

#[test]
fn a_second_kill_during_the_restart_is_survived_as_well() {
    let victim = Victim::start(qemu_nbd);
    let again = ["--kill-again", "100", "--rounds", "3", "--atomic", "512"];
    victim.torture(&again).assert_code(0);
}

#[test]
fn a_disk_in_memory_is_caught_unless_a_prefix_is_enough() {
    let memory = |socket: &str, _: &str| format!("nbdkit -f -U {socket} memory {DISK}");
    let victim = Victim::start(memory);
    let ended = victim.torture(&["--rounds", "10"]).assert_code(1);
    assert!(faults(&ended, "flushed_writes_lost") > 0, "{ended}");
    assert!(ended.stderr.contains("flushed writes lost"), "{ended}");
    // The empty disk is a prefix of whatever was written since.
    let ended = victim.torture(&["--expect", "prefix"]).assert_code(0);
    assert!(
        ended.json()["lost"]["most_in_a_round"].as_u64().unwrap() > 0,
        "{ended}"
    );
}

#[test]
fn a_server_that_is_not_killed_shows_every_answered_write() {
    let victim = Victim::start(qemu_nbd);
    let ended = victim
        .load(&["--rounds", "3", "--connections", "3"])
        .assert_code(0);
    assert_eq!(ended.json()["expect"], "answered", "{ended}");
    assert_eq!(ended.json()["writes"]["unanswered"], 0, "{ended}");
}

#[test]
fn a_write_dropped_now_and_then_is_caught() {
    // One in five is forgotten, by the sector at which it begins.
    let drops = format!("if [ $(($4 / 512 % 5)) = 3 ]; then cat > /dev/null; else {STORE}; fi");
    let victim = Victim::start(scripted(&drops, ZERO));
    // The kill may cut a shell's write short, which is another fault and none to be seen here.
    let whole_sectors = ["--atomic", "512", "--keep-going", "--rounds", "10"];
    let prefix = ["--expect", "prefix"];
    let ended = victim
        .torture(&[&whole_sectors[..], &prefix].concat())
        .assert_code(1);
    assert!(
        faults(&ended, "writes_there_although_one_before_them_is_not") > 0,
        "{ended}"
    );
    assert_eq!(faults(&ended, "flushed_writes_lost"), 0, "{ended}");
    let ended = victim.load(&whole_sectors).assert_code(1);
    assert!(faults(&ended, "answered_writes_lost") > 0, "{ended}");
}

#[test]
fn a_torn_write_is_caught() {
    let half = format!(
        "head -c $((($3 / 512 + 1) / 2 * 512)) | {}",
        &STORE["exec ".len()..]
    );
    let victim = Victim::start(scripted(&format!("{half}; cat > /dev/null"), ZERO));
    let ended = victim
        .torture(&["--rounds", "10", "--expect", "prefix", "--keep-going"])
        .assert_code(1);
    assert!(faults(&ended, "torn_writes") > 0, "{ended}");
}

#[test]
fn a_forgotten_discard_is_caught() {
    let victim = Victim::start(scripted(STORE, "exit 0"));
    let load = ["--rounds", "20", "--hot", "64K", "--area", "1M"];
    victim.torture(&load).assert_code(1);
    // Nobody who does not discard is hurt by that; zeroing is no discard.
    let victim = Victim::start(|socket, disk| {
        format!("qemu-nbd -t -e 16 -f raw --discard=ignore -k {socket} {disk}")
    });
    victim
        .torture(&[&load[..], &["--atomic", "512"]].concat())
        .assert_code(1);
    let fewer = [&load[2..], &["--atomic", "512", "--no-trim", "--destroy"]].concat();
    victim.torture(&fewer).assert_code(0);
}

#[test]
fn a_sector_that_rots_is_caught() {
    let victim = Victim::start(qemu_nbd);
    let rot = format!(
        "sh {} && printf x | dd of={} bs=1 seek=700 conv=notrunc status=none",
        victim.path("kill").display(),
        victim.path("disk").display(),
    );
    let restart = format!("sh {}", victim.path("start").display());
    let small = [
        "--area", "4K", "--hot", "4K", "--atomic", "512", "--rounds", "20",
    ];
    let hooks = ["--kill", &rot, "--restart", &restart];
    let ended = victim.load(&[&hooks, &small[..]].concat()).assert_code(1);
    assert_eq!(faults(&ended, "torn_sectors"), 1, "{ended}");
}

#[test]
fn data_is_overwritten_only_when_told_to() {
    let victim = Victim::start(qemu_nbd);
    let precious = [b'x'; 512];
    let disk = fs::File::options()
        .write(true)
        .open(victim.path("disk"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &precious, 8192).unwrap();
    let ended = victim.load(&[]).assert_code(1);
    assert!(ended.stderr.contains("holds data"), "{ended}");
    assert_eq!(fs::read(victim.path("disk")).unwrap()[8192..8704], precious);
    victim.load(&["--destroy"]).assert_code(0);
    // What a run left is no data.
    victim.load(&[]).assert_code(0);
}

#[test]
fn a_seed_is_told_and_taken() {
    let victim = Victim::start(qemu_nbd);
    let mut torture = lsvd();
    torture.args(["torture", &victim.uri(), "--load", "50ms", "--seed", "77"]);
    Ended::success(&mut torture).assert_stdout_has("seed 77");
    let drawn = victim.load(&[]).assert_code(0).json()["seed"].as_u64();
    let other = victim.load(&[]).assert_code(0).json()["seed"].as_u64();
    assert_ne!(drawn.unwrap(), other.unwrap());
}

#[test]
fn what_goes_wrong_with_the_commands_is_told() {
    let victim = Victim::start(qemu_nbd);
    let ended = victim.load(&["--kill", "exit 3"]).assert_code(1);
    assert!(
        ended.stderr.contains("--kill") && ended.stderr.contains("exit 3"),
        "{ended}"
    );
    let hangs = ["--kill", "sleep 100", "--timeout", "1s"];
    let ended = victim.load(&hangs).assert_code(1);
    assert!(ended.stderr.contains("did not end within 1s"), "{ended}");
    let kill = format!("sh {}", victim.path("kill").display());
    let ended = victim
        .load(&["--kill", &kill, "--timeout", "1s"])
        .assert_code(1);
    assert!(ended.stderr.contains("no server answers"), "{ended}");
    // What was seen before is told all the same.
    assert_eq!(ended.json()["right"], false, "{ended}");
    assert_eq!(ended.json()["rounds"], 0, "{ended}");
}
