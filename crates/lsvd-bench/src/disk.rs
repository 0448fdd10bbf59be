//! What the disk itself can do, past the page cache, as fio finds it.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use serde_json::Value;

use crate::process::json_of;

/// Requests in flight.
const DEPTH: &str = "8";

/// Direct reads are multiples of this.
const UNIT: u64 = 4096;

fn fio(name: &str) -> Command {
    let mut fio = Command::new("fio");
    fio.arg(format!("--name={name}"));
    fio.args(["--direct=1", "--output-format=json"]);
    fio
}

fn figure(report: &Value, side: &str, name: &str) -> Result<f64, String> {
    report["jobs"][0][side][name]
        .as_f64()
        .filter(|figure| *figure > 0.0)
        .ok_or_else(|| format!("fio measured nothing: {report}"))
}

/// MB/s of a file in `folder` that is written from its start to its end.
pub(crate) fn sequential_write(folder: &Path, mebibytes: u64) -> Result<f64, String> {
    let mut fio = fio("disk");
    fio.args(["--ioengine=libaio", "--iodepth", DEPTH, "--rw=write"]);
    fio.args(["--bs=8m", "--end_fsync=1", "--unlink=1"]);
    fio.arg(format!("--size={mebibytes}m"));
    fio.arg(format!("--directory={}", folder.display()));
    Ok(figure(&json_of(&mut fio)?, "write", "bw_bytes")? / 1e6)
}

/// Seconds that it takes to read `file` from its start to its end.
pub(crate) fn sequential_read(file: &Path) -> Result<f64, String> {
    let failed = |error| format!("{}: {error}", file.display());
    let bytes = fs::metadata(file).map_err(failed)?.len();
    if bytes < UNIT {
        return Ok(0.0);
    }
    let mut fio = fio("disk");
    fio.args(["--ioengine=libaio", "--iodepth", DEPTH, "--rw=read"]);
    fio.args(["--bs=1m", "--readonly", "--allow_file_create=0"]);
    fio.arg(format!("--size={}", bytes - bytes % UNIT));
    fio.arg(format!("--filename={}", file.display()));
    let bytes_per_second = figure(&json_of(&mut fio)?, "read", "bw_bytes")?;
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    let seconds = bytes as f64 / bytes_per_second;
    Ok(seconds)
}

/// Thousands of 4 KiB writes in a second, each followed by a sync, by so many at once into one file
/// whose blocks are all there.
pub(crate) fn synced_writes(file: &Path, jobs: u32, seconds: u32) -> Result<f64, String> {
    let mut fio = fio("disk");
    fio.args(["--ioengine=psync", "--rw=randwrite", "--bs=4k"]);
    fio.args(["--fdatasync=1", "--time_based", "--thread=1"]);
    fio.args(["--group_reporting=1", "--norandommap", "--randrepeat=0"]);
    fio.arg(format!("--numjobs={jobs}"));
    fio.arg(format!("--runtime={seconds}"));
    fio.arg(format!("--filename={}", file.display()));
    Ok(figure(&json_of(&mut fio)?, "write", "iops")? / 1e3)
}

/// Puts the files of a folder on the disk and out of the page cache, so that who reads them next
/// reads the disk.
pub(crate) fn forget(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            let file = fs::File::open(&path).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            fadvise(&file, 0, None, Advice::DontNeed).map_err(|errno| failed(errno.into()))?;
        }
    }
    Ok(())
}
