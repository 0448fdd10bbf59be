//! What the benchmark prints.

use std::io::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use lsvd::words::text::Size;
use serde_json::json;

use super::worker::Tally;
use super::{Arguments, Pattern};
use crate::failure::Failure;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// The figures of one run.
#[derive(Debug)]
pub(super) struct Report {
    pattern: Pattern,
    request: Size,
    threads: u16,
    tally: Tally,
    /// From the last answer until all was in the store.
    closing: Duration,
}

impl Report {
    pub(super) fn new(arguments: &Arguments, tally: Tally, closing: Duration) -> Self {
        Self {
            pattern: arguments.rw,
            request: arguments.bs,
            threads: arguments.threads,
            tally,
            closing,
        }
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let text = if as_json { self.json() } else { self.text() };
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(Failure::from_output)
    }

    fn answered(&self) -> f64 {
        megabytes_per_second(self.tally.bytes, self.tally.elapsed)
    }

    fn stored(&self) -> f64 {
        megabytes_per_second(self.tally.bytes, self.tally.elapsed + self.closing)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn requests_per_second(&self) -> f64 {
        self.tally.requests as f64 / self.tally.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} {} x {} threads: {} requests, {} bytes in {:.2?}\n",
            self.pattern.name(),
            self.request,
            self.threads,
            self.tally.requests,
            self.tally.bytes,
            self.tally.elapsed,
        );
        text += &format!(
            "  answered  {:.1} MB/s, {:.0} requests/s\n",
            self.answered(),
            self.requests_per_second()
        );
        if self.pattern.writes() {
            text += &format!(
                "  stored    {:.1} MB/s, with {:.2?} to store the rest\n",
                self.stored(),
                self.closing
            );
        }
        text += "  latency  ";
        for (name, quantile) in QUANTILES {
            let microseconds = microseconds(&self.tally.latencies, quantile);
            text += &format!(" {name} {microseconds:.1} us");
        }
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let latencies: serde_json::Map<_, _> = QUANTILES
            .iter()
            .map(|(name, quantile)| {
                let microseconds = microseconds(&self.tally.latencies, *quantile);
                ((*name).to_owned(), json!(microseconds))
            })
            .collect();
        let mut text = json!({
            "rw": self.pattern.name(),
            "bs": self.request.0,
            "threads": self.threads,
            "requests": self.tally.requests,
            "bytes": self.tally.bytes,
            "seconds": self.tally.elapsed.as_secs_f64(),
            "closing_seconds": self.closing.as_secs_f64(),
            "answered_mb_per_second": self.answered(),
            "stored_mb_per_second": self.pattern.writes().then(|| self.stored()),
            "requests_per_second": self.requests_per_second(),
            "latency_us": latencies,
        })
        .to_string();
        text.push('\n');
        text
    }
}

/// A million bytes is a megabyte here, as in fio and on the labels of disks.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[expect(clippy::cast_precision_loss, reason = "a latency for people")]
fn microseconds(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}
