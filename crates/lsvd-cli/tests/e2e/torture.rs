//! `lsvd torture` before servers that keep their word and servers that lie in one way each.

mod ends;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Ended, SmallDisk, client, lsvd, may_mount};

/// Bytes of the disks.
const DISK: u64 = 16 << 20;

/// A server of another project, which scripts start and kill.
struct Victim {
    folder: TempDir,
    /// Shortest and longest load of a round.
    load: String,
}

/// How long a round's load takes where the disk syncs as it does in `folder`: long enough for some
/// flushes to be answered, or nothing would be judged. Under the load a sync takes several times as long.
fn load_beside(folder: &Path) -> String {
    let sync = |n: u64| {
        let begun = Instant::now();
        let file = fs::File::create(folder.join("sync")).unwrap();
        file.set_len(4096 * n).unwrap();
        file.sync_all().unwrap();
        begun.elapsed()
    };
    // The shortest of some: a machine that stands still for a moment is no slow disk.
    let sync = (1..=3).map(sync).min().unwrap_or_default();
    let (least, most) = (
        Duration::from_millis(150) + 8 * sync,
        Duration::from_millis(400) + 16 * sync,
    );
    format!("{}ms..{}ms", least.as_millis(), most.as_millis())
}

impl Victim {
    /// Starts a server that keeps its disk in a file `disk`, by the command that `command` gives
    /// for the socket's path and the file's.
    fn start(command: impl Fn(&str, &str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let load = load_beside(folder.path());
        let this = Self { folder, load };
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
        torture.args(["torture", &self.uri(), "--load", &self.load, "--json"]);
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
    assert_eq!(report["prefix_rounds"], 6, "{ended}");
    assert_eq!(report["ended_by"], "kill", "{ended}");
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
    let again = ["--kill-again", "100", "--rounds", "6", "--atomic", "512"];
    victim.torture(&again).assert_code(0);
}

#[test]
fn a_disk_in_memory_is_caught_unless_a_prefix_is_enough() {
    let memory = |socket: &str, _: &str| format!("nbdkit -f -U {socket} memory {DISK}");
    let victim = Victim::start(memory);
    let ended = victim.torture(&["--rounds", "10"]).assert_code(1);
    assert!(faults(&ended, "flushed_writes_lost") > 0, "{ended}");
    assert!(ended.stderr.contains("flushed writes lost"), "{ended}");
    let lost = &ended.json()["lost"];
    assert!(lost["flushed"].as_u64().unwrap() > 0, "{ended}");
    // Nothing at all is a prefix as well.
    assert_eq!(ended.json()["prefix_rounds"], ended.json()["rounds"]);
    // The empty disk is a prefix of whatever was written since.
    let ended = victim
        .torture(&["--rounds", "4", "--expect", "prefix"])
        .assert_code(0);
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
    let report = ended.json();
    assert!(
        report["prefix_rounds"].as_u64() < report["rounds"].as_u64(),
        "{ended}"
    );
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

/// The third kill brings back the disk as it was at the first.
#[test]
fn stale_sectors_are_caught() {
    let victim = Victim::start(qemu_nbd);
    let path = |name: &str| victim.path(name).display().to_string();
    let kill = format!(
        "sh {kill}; case $LSVD_TORTURE_ROUND in 1) cp {disk} {old};; 3) cp {old} {disk};; esac",
        kill = path("kill"),
        disk = path("disk"),
        old = path("old"),
    );
    let restart = format!("sh {}", path("start"));
    let hooks = ["--kill", &kill, "--restart", &restart, "--atomic", "512"];
    // Large enough that no zeroing of the last round covers, and so explains, all of it.
    let large = ["--area", "12M", "--hot", "64K", "--rounds", "3"];
    let prefix = ["--expect", "prefix"];
    let ended = victim.load(&[&hooks[..], &large, &prefix].concat());
    let ended = ended.assert_code(1);
    assert!(faults(&ended, "stale_sectors") > 0, "{ended}");
    assert_eq!(ended.json()["wrong_rounds"], 1, "{ended}");
    assert_eq!(ended.json()["prefix_rounds"], 2, "{ended}");
}

/// It keeps what was flushed, and of the rest what it happens to have written.
#[test]
fn a_volatile_cache_is_right_for_a_disk_and_no_prefix() {
    let victim = Victim::start(|socket, disk| {
        format!("nbdkit -f -U {socket} --filter=cache file {disk} cache=writeback")
    });
    let load = ["--connections", "1", "--depth", "16", "--rounds", "10"];
    let disk = [&load[..], &["--expect", "disk", "--no-trim"]].concat();
    let ended = victim.torture(&disk).assert_code(0);
    let report = ended.json();
    assert_eq!(report["expect"], "disk", "{ended}");
    assert_eq!(report["lost"]["flushed"], 0, "{ended}");
    assert!(
        report["lost"]["answered_not_flushed"].as_u64().unwrap() > 0,
        "{ended}"
    );
    // What it owes is still asked for.
    let memory = |socket: &str, _: &str| format!("nbdkit -f -U {socket} memory {DISK}");
    let victim = Victim::start(memory);
    let ended = victim.torture(&disk).assert_code(1);
    assert!(faults(&ended, "flushed_writes_lost") > 0, "{ended}");
}

/// What stands before a machine that boots takes connections and lets them hang.
#[test]
fn a_handshake_that_hangs_is_tried_anew() {
    let victim = Victim::start(qemu_nbd);
    let path = |name: &str| victim.path(name).display().to_string();
    let hanging = format!(
        "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('{}'); s.listen(64); \
         time.sleep(600)",
        path("s")
    );
    fs::write(victim.path("hanging"), hanging).unwrap();
    // The socket is there as long as the server under test is not, and then another is.
    let restart = format!(
        "rm -f {socket}; python3 {hanging} > {log} 2>&1 & echo $! > {hanging}.pid\n\
         while [ ! -e {socket} ]; do sleep 0.01; done\n\
         ( sleep 0.5; sh {start} ) >> {log} 2>&1 &",
        socket = path("s"),
        hanging = path("hanging"),
        start = path("start"),
        log = path("hanging.log"),
    );
    let kill = format!("sh {}", path("kill"));
    let hooks = ["--kill", &kill, "--restart", &restart, "--atomic", "512"];
    // On a busy disk the one round may end before anything is flushed.
    let ended = victim.load(&[&hooks[..], &["--expect", "prefix"]].concat());
    let end = format!("kill $(cat {}.pid)", path("hanging"));
    Ended::success(client("sh").args(["-c", &end]));
    ended.assert_code(0);
}

/// A server that answers with errors as long as a file is there.
#[test]
fn what_is_blocked_under_load_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("blocked").display().to_string();
    let victim = Victim::start(|socket, disk| {
        format!(
            "nbdkit -f -U {socket} --filter=error file {disk} error-rate=100% error-file={flag}"
        )
    });
    let (block, unblock) = (format!("touch {flag}"), format!("rm {flag}"));
    let hooks = ["--block", &block, "--unblock", &unblock];
    let more = ["--atomic", "512", "--no-trim", "--rounds", "6"];
    let hooks = [&hooks, &more[..]].concat();
    for ended in [victim.load(&hooks), victim.torture(&hooks)] {
        let ended = ended.assert_code(0);
        assert_eq!(ended.json()["blocked_rounds"], 6, "{ended}");
        assert!(ended.json()["errors"].as_u64().unwrap() > 0, "{ended}");
    }
    // Also by a run that ends before its time.
    let failing = [&hooks[..], &["--kill", "exit 3"]].concat();
    for _ in 0..3 {
        victim.load(&failing).assert_code(1);
        assert!(!fs::exists(&flag).unwrap());
    }
}

/// Its objects lie on a disk that is filled up under load; the log is somewhere else.
#[test]
fn our_volume_survives_kills_without_its_store() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = SmallDisk::new(folder.path(), 2048);
    let volume = store.path().join("vol");
    let victim = Victim::start(|socket, disk| {
        format!(
            "{lsvd} serve {volume} --create {DISK} --object-size 1M --socket {socket} \
             --cache-dir {disk}.cache --log-size 16M --retry-timeout 1s",
            lsvd = env!("CARGO_BIN_EXE_lsvd"),
            volume = volume.display(),
        )
    });
    let ballast = store.path().join("ballast").display().to_string();
    // Most of the room at once, then all that is left.
    let block = format!(
        "fallocate -l $(($(stat -f -c %a {at}) * 4096 - 1048576)) {ballast}\n\
         dd if=/dev/zero of={ballast} oflag=append conv=notrunc bs=4K 2> /dev/null || true",
        at = store.path().display(),
    );
    let unblock = format!("rm {ballast}");
    let hooks = ["--block", &block, "--unblock", &unblock];
    let load = ["--rounds", "6", "--connections", "2", "--kill-again", "30"];
    let ended = victim.torture(&[&hooks, &load[..]].concat()).assert_code(0);
    assert_eq!(ended.json()["blocked_rounds"], 6, "{ended}");
    assert_eq!(ended.json()["lost"]["flushed"], 0, "{ended}");
}

#[test]
fn data_is_overwritten_only_when_told_to() {
    let victim = Victim::start(qemu_nbd);
    let precious = [b'x'; 512];
    let disk = fs::File::options()
        .write(true)
        .open(victim.path("disk"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &precious, 2048).unwrap();
    // So small that a run overwrites all of it, however few requests it has time for.
    let small = ["--area", "4K", "--hot", "4K"];
    let ended = victim.load(&small).assert_code(1);
    assert!(ended.stderr.contains("holds data"), "{ended}");
    assert_eq!(fs::read(victim.path("disk")).unwrap()[2048..2560], precious);
    victim
        .load(&[&small[..], &["--destroy"]].concat())
        .assert_code(0);
    // What a run left is no data.
    victim.load(&small).assert_code(0);
}

#[test]
fn a_seed_is_told_and_taken() {
    let victim = Victim::start(qemu_nbd);
    let mut torture = lsvd();
    torture.args(["torture", &victim.uri(), "--load", "400ms", "--seed", "77"]);
    let ended = Ended::success(&mut torture).assert_stdout_has("seed 77");
    for line in [
        "proves   that what was answered can be read",
        "prefix   exactly, in 1 of 1 rounds",
        "lost     0 flushed, 0 answered and not flushed",
        "sectors  0 torn, 0 stale, 0 misplaced, 0 zeroed",
    ] {
        assert!(ended.stdout.contains(line), "{line:?} {ended}");
    }
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
    // All that the server answers must be answered in this time as well.
    let hangs = ["--kill", "sleep 100", "--timeout", "5s"];
    let ended = victim.load(&hangs).assert_code(1);
    assert!(ended.stderr.contains("did not end within 5s"), "{ended}");
    let kill = format!("sh {}", victim.path("kill").display());
    let ended = victim
        .load(&["--kill", &kill, "--timeout", "5s"])
        .assert_code(1);
    assert!(ended.stderr.contains("no server answers"), "{ended}");
    // What was seen before is told all the same.
    assert_eq!(ended.json()["right"], false, "{ended}");
    assert_eq!(ended.json()["rounds"], 0, "{ended}");
}
