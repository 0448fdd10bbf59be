//! The kinds of bad input. `DIR` stands for a new folder, `PORT` for a port that is taken.

use std::any::Any;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use lsvd_store::{LocalDirectory, Missing, Occupied};

use crate::harness::{Ended, MemoryMount, ObjectDirectory, Server, lsvd};

/// One command that must fail.
pub(super) struct Case {
    pub(super) what: &'static str,
    /// The arguments; what stands behind `>` takes standard output.
    pub(super) command: &'static str,
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) exit: i32,
    pub(super) prepare: fn(&Path) -> Prepared,
}

/// What a case needs while it runs.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) port: u16,
    /// Dropped after the run.
    _guard: Option<Box<dyn Any>>,
}

impl Prepared {
    fn guarded(guard: impl Any) -> Self {
        Self {
            port: 0,
            _guard: Some(Box::new(guard)),
        }
    }
}

const fn usage(what: &'static str, command: &'static str) -> Case {
    Case {
        what,
        command,
        environment: &[],
        exit: 2,
        prepare: |_| Prepared::default(),
    }
}

const fn fails(what: &'static str, command: &'static str, prepare: fn(&Path) -> Prepared) -> Case {
    Case {
        what,
        command,
        environment: &[],
        exit: 1,
        prepare,
    }
}

const fn nothing(_: &Path) -> Prepared {
    Prepared {
        port: 0,
        _guard: None,
    }
}

fn a_directory_with_a_file(folder: &Path) -> Prepared {
    fs::create_dir(folder.join("vol")).unwrap();
    fs::write(folder.join("vol/precious"), "data").unwrap();
    Prepared::default()
}

fn a_directory_in_use(folder: &Path) -> Prepared {
    let store = LocalDirectory::create_empty(folder.join("vol")).unwrap();
    fs::write(folder.join("vol/data.00000000"), "precious").unwrap();
    Prepared::guarded(store)
}

fn a_file(folder: &Path) -> Prepared {
    fs::write(folder.join("vol"), "data").unwrap();
    Prepared::default()
}

fn a_live_socket(folder: &Path) -> Prepared {
    Prepared::guarded(UnixListener::bind(folder.join("s")).unwrap())
}

fn a_taken_port(_: &Path) -> Prepared {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Prepared {
        port: listener.local_addr().unwrap().port(),
        ..Prepared::guarded(listener)
    }
}

fn an_object_of_junk(folder: &Path) -> Prepared {
    fs::create_dir(folder.join("vol")).unwrap();
    fs::write(folder.join("vol/data.00000000"), [b'x'; 5000]).unwrap();
    Prepared::default()
}

fn a_short_object(folder: &Path) -> Prepared {
    fs::create_dir(folder.join("vol")).unwrap();
    fs::write(folder.join("vol/data.00000000"), "LSVD").unwrap();
    Prepared::default()
}

/// A volume of 64 MiB that nobody has opened.
fn a_volume(folder: &Path) -> Prepared {
    let mut create = lsvd();
    create.arg("create").arg(folder.join("vol"));
    Ended::success(create.args(["--size", "64M", "--object-size", "1M"]));
    Prepared::default()
}

fn a_volume_in_use(folder: &Path) -> Prepared {
    a_volume(folder);
    let (missing, occupied) = (Missing::Refuse, Occupied::Refuse);
    let store = LocalDirectory::open_volume(folder.join("vol"), missing, occupied);
    Prepared::guarded(store.unwrap())
}

/// A volume whose server was killed, and its write log elsewhere.
fn a_volume_not_closed(folder: &Path) -> Prepared {
    a_volume(folder);
    let log = folder.join("log");
    let arguments = ["--log-size", "64M", "--cache-dir", log.to_str().unwrap()];
    let server = Server::start_at(&folder.join("vol"), ObjectDirectory::new(), &arguments);
    server.kill();
    Prepared::default()
}

fn a_removed_volume(folder: &Path) -> Prepared {
    a_volume(folder);
    Ended::success(lsvd().arg("rm").arg(folder.join("vol")));
    Prepared::default()
}

fn a_damaged_superblock(folder: &Path) -> Prepared {
    a_volume(folder);
    let path = folder.join("vol/superblock.00000000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[150] ^= 1;
    fs::write(&path, bytes).unwrap();
    Prepared::default()
}

fn a_volume_and_a_file(folder: &Path) -> Prepared {
    a_volume(folder);
    fs::write(folder.join("file"), "data").unwrap();
    Prepared::default()
}

fn a_read_only_filesystem(folder: &Path) -> Prepared {
    Prepared::guarded(MemoryMount::new(&folder.join("mnt"), "ro,size=4m"))
}

fn a_filesystem_without_room(folder: &Path) -> Prepared {
    let mount = MemoryMount::new(&folder.join("mnt"), "size=4m,nr_inodes=2");
    fs::create_dir(folder.join("mnt/vol")).unwrap();
    Prepared::guarded(mount)
}

pub(super) const CASES: &[Case] = &[
    usage("no command", ""),
    usage("no such command", "serv /tmp/lsvd"),
    usage("no volume", "serve --ephemeral --create 1G"),
    usage("no such option", "serve DIR/vol --ephemeral --creat 1G"),
    usage(
        "an option twice",
        "serve DIR/vol --ephemeral --create 1G --create 2G",
    ),
    usage(
        "an option without its value",
        "serve DIR/vol --ephemeral --create",
    ),
    usage(
        "a benchmark of a volume that lasts in memory",
        "bench memory://",
    ),
    usage(
        "a benchmark of a scratch disk with a write log",
        "bench DIR/vol --ephemeral --log-size 1G",
    ),
    usage(
        "a store without bandwidth",
        "serve DIR/vol --ephemeral --create 1G --store-bandwidth 0",
    ),
    usage(
        "a volume that lasts in memory",
        "serve memory:// --create 1G --listen 127.0.0.1:0",
    ),
    usage("no size", "serve DIR/vol --ephemeral"),
    usage(
        "a size that is no number",
        "serve DIR/vol --ephemeral --create big",
    ),
    usage(
        "a size with an unknown unit",
        "serve DIR/vol --ephemeral --create 10X",
    ),
    usage("a size below zero", "serve DIR/vol --ephemeral --create=-1"),
    usage("a size of zero", "serve DIR/vol --ephemeral --create 0"),
    usage(
        "a size in half sectors",
        "serve DIR/vol --ephemeral --create 1000",
    ),
    usage(
        "a size that no volume has",
        "serve DIR/vol --ephemeral --create 100000T",
    ),
    usage(
        "a size past 64 bits",
        "serve DIR/vol --ephemeral --create 17000000T",
    ),
    usage(
        "objects too small",
        "serve DIR/vol --ephemeral --create 1G --object-size 4K",
    ),
    usage(
        "objects too large",
        "serve DIR/vol --ephemeral --create 1G --object-size 1G",
    ),
    usage(
        "objects of odd size",
        "serve DIR/vol --ephemeral --create 1G --object-size 1048577",
    ),
    usage(
        "no window",
        "serve DIR/vol --ephemeral --create 1G --window 0",
    ),
    usage(
        "a window too large",
        "serve DIR/vol --ephemeral --create 1G --window 1000",
    ),
    usage(
        "a seal timeout of zero",
        "serve DIR/vol --ephemeral --create 1G --seal-timeout 0",
    ),
    usage(
        "a duration without unit",
        "serve DIR/vol --ephemeral --create 1G --seal-timeout 2",
    ),
    usage(
        "a latency without unit",
        "serve DIR/vol --ephemeral --create 1G --store-latency 5",
    ),
    usage(
        "a latency that ends before it begins",
        "serve DIR/vol --ephemeral --create 1G --store-latency 10ms..5ms",
    ),
    usage(
        "an unknown flush",
        "serve DIR/vol --ephemeral --create 1G --flush never",
    ),
    usage(
        "no connections",
        "serve DIR/vol --ephemeral --create 1G --connections 0",
    ),
    usage(
        "an address without port",
        "serve DIR/vol --ephemeral --create 1G --listen localhost",
    ),
    usage(
        "a port too large",
        "serve DIR/vol --ephemeral --create 1G --listen localhost:65536",
    ),
    usage(
        "two places to listen",
        "serve DIR/vol --ephemeral --create 1G --listen localhost:0 --socket DIR/s",
    ),
    usage(
        "no place to listen",
        "serve memory:// --ephemeral --create 1G",
    ),
    usage(
        "a socket path that is too long",
        "serve DIR/vol --ephemeral --create 1G --socket /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
         xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/s.sock",
    ),
    usage(
        "a directory without a name",
        "serve / --ephemeral --create 1G",
    ),
    usage(
        "a URL of unknown kind",
        "serve s3://bucket/vol --ephemeral --create 1G",
    ),
    usage(
        "a URL without a path",
        "serve file://vol --ephemeral --create 1G",
    ),
    usage(
        "requests of odd size",
        "bench memory:// --ephemeral --bs 1000",
    ),
    usage(
        "a window too large for a benchmark",
        "bench DIR/vol --ephemeral --window 65",
    ),
    usage(
        "a volume too small to measure",
        "bench memory:// --ephemeral --create 4K --threads 2",
    ),
    usage(
        "an unknown pattern",
        "bench memory:// --ephemeral --rw sideways",
    ),
    usage(
        "a socket that is no URI",
        "torture /run/lsvd.sock --rounds 5",
    ),
    usage(
        "a piece that is no sector",
        "torture nbd+unix:///?socket=DIR/s --atomic 100",
    ),
    usage(
        "a second kill without a first",
        "torture nbd+unix:///?socket=DIR/s --kill-again 10",
    ),
    usage(
        "a kill and a loss of power",
        "torture nbd+unix:///?socket=DIR/s --kill true --power-cut true",
    ),
    usage(
        "something taken away for ever",
        "torture nbd+unix:///?socket=DIR/s --block true",
    ),
    usage(
        "a load that ends before it begins",
        "torture nbd+unix:///?socket=DIR/s --load 2s..1s",
    ),
    usage(
        "a seed that JSON does not keep",
        "torture nbd+unix:///?socket=DIR/s --seed 18446744073709551615",
    ),
    usage("an unknown shell", "completions ksh93"),
    usage("no size for a new volume", "create DIR/vol"),
    usage("a new volume of no size", "create DIR/vol --size 0"),
    usage(
        "a new volume with objects too small",
        "create DIR/vol --size 1G --object-size 4K",
    ),
    usage(
        "a scratch disk with a write log",
        "serve DIR/vol --ephemeral --create 1G --log-size 2G",
    ),
    usage(
        "a scratch disk that is taken over",
        "serve DIR/vol --ephemeral --create 1G --take-over",
    ),
    usage(
        "reading only what is to be made",
        "serve DIR/vol --read-only --create 1G",
    ),
    usage(
        "reading only, with a write log",
        "serve DIR/vol --read-only --cache-dir DIR/c",
    ),
    usage("an unknown durability", "serve DIR/vol --durability always"),
    usage(
        "a window too large for a volume that lasts",
        "serve DIR/vol --create 1G --window 65",
    ),
    usage(
        "a seal timeout of zero for a volume that lasts",
        "serve DIR/vol --create 1G --seal-timeout 0",
    ),
    usage(
        "a write log too small",
        "serve DIR/vol --create 1G --log-size 1M",
    ),
    usage(
        "a write log too large",
        "serve DIR/vol --create 1G --log-size 16000000T",
    ),
    usage(
        "a new volume with the name of a snapshot",
        "create DIR/vol@monday --size 1G",
    ),
    usage(
        "a new volume to serve with the name of a snapshot",
        "serve DIR/vol@monday --create 1G",
    ),
    usage(
        "a scratch disk with the name of a snapshot",
        "serve DIR/vol@monday --ephemeral --create 1G",
    ),
    usage("the volumes in memory", "list memory://"),
    usage("an object in memory", "dump memory://"),
    usage("nothing to remove", "rm"),
    Case {
        environment: &[("LSVD_LOG", "loud")],
        ..usage("an unknown log level", "completions bash")
    },
    fails(
        "the directory is not empty",
        "serve DIR/vol --ephemeral --create 1G",
        a_directory_with_a_file,
    ),
    fails(
        "the directory of a benchmark is not empty",
        "bench DIR/vol --ephemeral",
        a_directory_with_a_file,
    ),
    fails(
        "the directory is in use",
        "serve DIR/vol --ephemeral --create 1G --socket DIR/s",
        a_directory_in_use,
    ),
    fails(
        "not a directory",
        "serve DIR/vol --ephemeral --create 1G",
        a_file,
    ),
    fails(
        "no parent directory",
        "serve DIR/none/vol --ephemeral --create 1G --socket DIR/s",
        nothing,
    ),
    fails(
        "the socket is in use",
        "serve DIR/vol --ephemeral --create 1G --socket DIR/s",
        a_live_socket,
    ),
    fails(
        "the socket is a file",
        "serve DIR/other --ephemeral --create 1G --socket DIR/vol",
        a_file,
    ),
    fails(
        "the socket's folder does not exist",
        "serve DIR/vol --ephemeral --create 1G --socket DIR/none/s",
        nothing,
    ),
    fails(
        "the port is in use",
        "serve DIR/vol --ephemeral --create 1G --listen 127.0.0.1:PORT",
        a_taken_port,
    ),
    fails(
        "an address of another machine",
        "serve DIR/vol --ephemeral --create 1G --listen 192.0.2.1:10809",
        nothing,
    ),
    fails(
        "standard output is full",
        "serve DIR/vol --ephemeral --create 1G > /dev/full",
        nothing,
    ),
    fails(
        "no server to judge",
        "torture nbd+unix:///?socket=DIR/s --timeout 10ms",
        nothing,
    ),
    fails(
        "no volume to serve",
        "serve DIR/vol --socket DIR/s",
        nothing,
    ),
    fails(
        "no volume to read",
        "serve DIR/vol --read-only --socket DIR/s",
        nothing,
    ),
    fails("no volume to remove", "rm DIR/vol", nothing),
    fails(
        "a volume that was removed",
        "serve DIR/vol --socket DIR/s",
        a_removed_volume,
    ),
    fails(
        "a volume that was removed already",
        "rm DIR/vol",
        a_removed_volume,
    ),
    fails(
        "a new volume where something else is",
        "create DIR/vol --size 1G",
        a_directory_with_a_file,
    ),
    fails(
        "a new volume to serve where something else is",
        "serve DIR/vol --create 1G --socket DIR/s",
        a_directory_with_a_file,
    ),
    fails(
        "a scratch disk where a volume is",
        "serve DIR/vol --ephemeral --create 1G --socket DIR/s",
        a_volume,
    ),
    fails(
        "a new volume where one is",
        "create DIR/vol --size 1G",
        a_volume,
    ),
    fails(
        "a volume of another size",
        "serve DIR/vol --create 1G --socket DIR/s",
        a_volume,
    ),
    fails(
        "a volume of other objects",
        "serve DIR/vol --object-size 2M --socket DIR/s",
        a_volume,
    ),
    fails(
        "a volume in use",
        "serve DIR/vol --socket DIR/s",
        a_volume_in_use,
    ),
    fails("a volume in use to remove", "rm DIR/vol", a_volume_in_use),
    fails(
        "a volume that was not closed",
        "serve DIR/vol --socket DIR/s",
        a_volume_not_closed,
    ),
    fails(
        "a volume that was not closed to remove",
        "rm DIR/vol",
        a_volume_not_closed,
    ),
    fails(
        "no place for the write log",
        "serve DIR/vol --cache-dir DIR/file --socket DIR/s",
        a_volume_and_a_file,
    ),
    Case {
        exit: 2,
        ..fails(
            "a write log too small for a volume that is there",
            "serve DIR/vol --log-size 1M --socket DIR/s",
            a_volume,
        )
    },
    fails(
        "a damaged superblock",
        "serve DIR/vol --socket DIR/s",
        a_damaged_superblock,
    ),
    fails(
        "a damaged superblock to show",
        "info DIR/vol",
        a_damaged_superblock,
    ),
    fails(
        "a damaged superblock to look into",
        "dump DIR/vol/superblock.00000000 > /dev/null",
        a_damaged_superblock,
    ),
    fails("no volumes to list", "list DIR/vol", nothing),
    fails(
        "no object to look into",
        "dump DIR/vol/data.00000000",
        nothing,
    ),
    fails(
        "a directory to look into",
        "dump DIR/vol",
        a_directory_with_a_file,
    ),
    fails(
        "a foreign file to look into",
        "dump DIR/vol/precious",
        a_directory_with_a_file,
    ),
    fails("nothing to show", "info DIR/vol", nothing),
    fails("nothing to show in memory", "info memory://", nothing),
    fails(
        "an object of junk",
        "info DIR/vol --json > /dev/null",
        an_object_of_junk,
    ),
    fails(
        "an object cut short",
        "info DIR/vol --json > /dev/null",
        a_short_object,
    ),
];

/// Those that need a mount, and so root.
pub(super) const MOUNT_CASES: &[Case] = &[
    fails(
        "a read-only file system",
        "serve DIR/mnt/vol --ephemeral --create 1G --socket DIR/s",
        a_read_only_filesystem,
    ),
    fails(
        "a read-only directory",
        "serve DIR/mnt --ephemeral --create 1G --socket DIR/s",
        a_read_only_filesystem,
    ),
    fails(
        "a file system without room for a file",
        "serve DIR/mnt/vol --ephemeral --create 1G --socket DIR/s",
        a_filesystem_without_room,
    ),
];
