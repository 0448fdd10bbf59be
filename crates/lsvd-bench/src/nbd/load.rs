//! The load: fio's NBD client.

use std::process::Command;

use serde_json::Value;

use crate::process::json_of;

/// A client and where it connects.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) uri: String,
    pub(crate) mebibytes: u64,
    pub(crate) depth: u32,
    pub(crate) seconds: u32,
}

/// What the client reached.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Thousands of requests in a second.
    pub(crate) thousands: f64,
    /// The same had the client never waited: its rate by the share of a processor that it took.
    pub(crate) ceiling: f64,
}

impl Load {
    fn fio(&self) -> Command {
        let mut fio = Command::new("fio");
        fio.args(["--name=load", "--ioengine=nbd", "--output-format=json"]);
        fio.arg(format!("--uri={}", self.uri));
        fio.arg(format!("--size={}m", self.mebibytes));
        fio
    }

    /// Writes all of the disk once, so that reads find data everywhere.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let mut fio = self.fio();
        fio.args(["--rw=write", "--bs=1m", "--iodepth=4", "--end_fsync=1"]);
        json_of(&mut fio).map(drop)
    }

    /// 4 KiB requests at random places.
    pub(crate) fn random(&self, rw: &str) -> Result<Reached, String> {
        let mut fio = self.fio();
        fio.args(["--bs=4k", "--time_based", "--norandommap", "--randrepeat=0"]);
        fio.arg(format!("--rw={rw}"));
        fio.arg(format!("--iodepth={}", self.depth));
        fio.arg(format!("--runtime={}", self.seconds));
        let report = json_of(&mut fio)?;
        let job = &report["jobs"][0];
        let side = if rw == "randread" { "read" } else { "write" };
        let number = |value: &Value| {
            value
                .as_f64()
                .ok_or_else(|| format!("fio's report lacks a figure: {report}"))
        };
        let thousands = number(&job[side]["iops"])? / 1e3;
        let busy = (number(&job["usr_cpu"])? + number(&job["sys_cpu"])?) / 100.0;
        Ok(Reached {
            thousands,
            ceiling: thousands / busy.max(0.01),
        })
    }

    /// 4 KiB writes at random places, each followed by a flush, over so many connections with one
    /// request at a time each: thousands in a second, all together.
    pub(crate) fn flushed_writes(&self, connections: u32) -> Result<f64, String> {
        let mut fio = self.fio();
        fio.args(["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"]);
        fio.args(["--time_based", "--norandommap", "--randrepeat=0"]);
        fio.args(["--thread=1", "--group_reporting=1"]);
        fio.arg(format!("--numjobs={connections}"));
        fio.arg(format!("--runtime={}", self.seconds));
        let report = json_of(&mut fio)?;
        let iops = report["jobs"][0]["write"]["iops"].as_f64();
        iops.filter(|iops| *iops > 0.0)
            .map(|iops| iops / 1e3)
            .ok_or_else(|| format!("fio measured nothing: {report}"))
    }
}
