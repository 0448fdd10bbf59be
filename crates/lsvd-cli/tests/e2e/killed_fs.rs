//! A filesystem on a disk whose server is killed: what was synced is there, and fsck finds nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Attached, Ended, ObjectDirectory, Server, client, may_mount};

/// Kills unless `LSVD_TEST_KILLED_FS_ROUNDS` says otherwise.
const ROUNDS: u64 = 3;

/// Threads that change files at once.
const WRITERS: u64 = 4;

/// Names that each of them has.
const NAMES: u64 = 24;

/// Bytes of the largest file.
const FILE_BYTES_MAX: u64 = 200_000;

/// Shortest and longest load before a kill, after the first change that was synced: on a slow disk that
/// one alone takes seconds.
const LOAD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1500));

/// The longest that the first change may take.
const FIRST_WITHIN: Duration = Duration::from_secs(120);

/// A file's content, by the number that determines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content(u64);

impl Content {
    fn bytes(self) -> Vec<u8> {
        let len = 1 + usize::try_from(self.0 % FILE_BYTES_MAX).unwrap();
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(self.0).fill(&mut bytes);
        bytes
    }
}

/// What each name may show: one state once the change was synced, two while it is under way.
type Files = BTreeMap<String, Vec<Option<Content>>>;

/// One thread's files, in one directory with everybody's.
struct Writer {
    at: PathBuf,
    rng: fastrand::Rng,
    prefix: String,
    files: Files,
    /// Changes of all writers that were synced.
    synced: Arc<AtomicU64>,
    /// Set before the server is killed.
    killing: Arc<AtomicBool>,
}

impl Writer {
    /// Changes files until that fails, which it does when the server is gone.
    fn run(mut self) -> Files {
        while self.step().is_ok() {
            self.synced.fetch_add(1, Ordering::SeqCst);
        }
        self.files
    }

    fn step(&mut self) -> io::Result<()> {
        let name = format!("{}.{}", self.prefix, self.rng.u64(..NAMES));
        let path = self.at.join(&name);
        // Nobody waits for these, so nobody checks them; they are between what is checked.
        let loose = self.at.join(format!("{name}.loose"));
        fs::write(loose, Content(self.rng.u64(..)).bytes())?;
        let before = self.files.get(&name).and_then(|states| states[0]);
        let after = match before {
            Some(_) if self.rng.u8(..4) == 0 => None,
            _ => Some(Content(self.rng.u64(..))),
        };
        match after {
            Some(content) => {
                let new = self.at.join(format!("{name}.new"));
                let mut file = File::create(&new)?;
                file.write_all(&content.bytes())?;
                file.sync_all()?;
                self.files.insert(name.clone(), vec![before, after]);
                fs::rename(new, path)?;
            }
            None => {
                self.files.insert(name.clone(), vec![before, after]);
                fs::remove_file(path)?;
            }
        }
        File::open(&self.at)?.sync_all()?;
        // What a client says once its server is dead is not the server's word.
        if self.killing.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.files.insert(name, vec![after]);
        Ok(())
    }
}

/// Names that show what they must not. The others are settled at what they show.
fn check(at: &Path, files: &mut Files) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, states) in files {
        let found = match fs::read(at.join(name)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let is_found = |state: &&Option<Content>| state.map(Content::bytes) == found;
        match states.iter().find(is_found).copied() {
            Some(state) => *states = vec![state],
            None => wrong.push(format!("{name}: {}", difference(states, found.as_deref()))),
        }
    }
    wrong
}

/// How what was found differs from what had to be there.
fn difference(states: &[Option<Content>], found: Option<&[u8]>) -> String {
    let found = match found {
        None => "is absent".to_owned(),
        Some(bytes) => {
            let zeroes = bytes.iter().filter(|byte| **byte == 0).count();
            format!("has {} bytes, {zeroes} of them zero", bytes.len())
        }
    };
    let expected: Vec<_> = states
        .iter()
        .map(|state| {
            state.map_or("absent".to_owned(), |content| {
                content.bytes().len().to_string()
            })
        })
        .collect();
    format!("{found}, and not {}", expected.join(" or "))
}

/// A volume with a filesystem, served again and again.
struct Disk {
    folder: tempfile::TempDir,
    at: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("mnt");
        Self { folder, at }
    }

    fn serve(&self, directory: ObjectDirectory) -> (Server, Attached) {
        let size = ["--create", "256M", "--object-size", "1M"];
        let server =
            Server::start_lasting(directory, &[&size, &["--log-size", "16M"][..]].concat());
        let attached = Attached::new(server.uri(), self.folder.path());
        (server, attached)
    }

    /// Changes files for a while, kills the server, and gives what must be there.
    fn load_and_kill(
        &self,
        (server, mut attached): (Server, Attached),
        rng: &mut fastrand::Rng,
        files: &mut Files,
    ) -> (ObjectDirectory, u64) {
        attached.mount(&self.at, "rw");
        let killing = Arc::new(AtomicBool::new(false));
        let synced = Arc::new(AtomicU64::new(0));
        let writers = (0..WRITERS).map(|number| {
            let prefix = number.to_string();
            let own = |name: &&String| name.starts_with(&format!("{prefix}."));
            let own: Vec<String> = files.keys().filter(own).cloned().collect();
            let own = own
                .into_iter()
                .map(|name| files.remove_entry(&name).unwrap());
            let writer = Writer {
                at: self.at.clone(),
                rng: rng.fork(),
                files: own.collect(),
                prefix: prefix.clone(),
                synced: Arc::clone(&synced),
                killing: Arc::clone(&killing),
            };
            std::thread::spawn(move || writer.run())
        });
        let writers: Vec<_> = writers.collect();
        let began = Instant::now();
        while synced.load(Ordering::SeqCst) == 0 {
            assert!(began.elapsed() < FIRST_WITHIN, "nothing is synced");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(LOAD.0 + (LOAD.1 - LOAD.0).mul_f64(rng.f64()));
        killing.store(true, Ordering::SeqCst);
        let directory = server.kill();
        for writer in writers {
            files.extend(writer.join().unwrap());
        }
        attached.abandon();
        (directory, synced.load(Ordering::SeqCst))
    }
}

#[test]
fn what_was_synced_on_a_filesystem_survives_a_kill() {
    if !may_mount() {
        return;
    }
    let rounds = std::env::var("LSVD_TEST_KILLED_FS_ROUNDS").map_or(ROUNDS, |rounds| {
        rounds
            .parse()
            .expect("LSVD_TEST_KILLED_FS_ROUNDS is a number")
    });
    let started = Instant::now();
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = Disk::new();
    let (server, attached) = disk.serve(ObjectDirectory::new());
    Ended::success(client("mkfs.ext4").args(["-q", "-F", attached.device()]));
    let mut serving = (server, attached);
    let mut files = Files::new();
    let mut synced = 0;
    for round in 1..=rounds {
        let (directory, count) = disk.load_and_kill(serving, &mut rng, &mut files);
        synced += count;
        serving = disk.serve(directory);
        let (_, attached) = &mut serving;
        // The filesystem replays its journal, and then has nothing to complain about.
        attached.mount(&disk.at, "rw");
        let wrong = check(&disk.at, &mut files);
        assert!(wrong.is_empty(), "seed {seed}, round {round}: {wrong:?}");
        attached.unmount();
        Ended::success(client("fsck.ext4").args(["-fn", attached.device()]));
    }
    println!(
        "{rounds} kills, {synced} changes synced, {} names at the end, {:.1?}",
        files.len(),
        started.elapsed()
    );
    assert_damage_is_found(&disk, &mut serving.1, &mut files);
    serving.1.detach();
    serving.0.close();
}

/// The check before one changed, one cut, and one removed file.
fn assert_damage_is_found(disk: &Disk, attached: &mut Attached, files: &mut Files) {
    attached.mount(&disk.at, "rw");
    let names = ["changed", "cut", "removed"];
    let path = |name: &str| disk.at.join(name);
    for (number, name) in (1..).zip(names) {
        let content = Content(number);
        fs::write(path(name), content.bytes()).unwrap();
        files.insert(name.to_owned(), vec![Some(content)]);
    }
    assert_eq!(check(&disk.at, files), [""; 0]);
    let mut bytes = fs::read(path("changed")).unwrap();
    bytes[0] ^= 1;
    fs::write(path("changed"), &bytes).unwrap();
    fs::write(path("cut"), "").unwrap();
    fs::remove_file(path("removed")).unwrap();
    let wrong = check(&disk.at, files);
    let named = |name: &str| {
        wrong
            .iter()
            .any(|line| line.starts_with(&format!("{name}: ")))
    };
    assert!(
        wrong.len() == names.len() && names.into_iter().all(named),
        "{wrong:?}"
    );
    attached.unmount();
}
