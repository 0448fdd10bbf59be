//! A store whose requests take longer.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lsvd::doors::BoxFuture;
use lsvd::doors::runtime::Runtime;
use lsvd::doors::store::{ListedObject, ObjectStore, StoreError};
use lsvd::{Error, ErrorKind};

/// How long a request takes on top: between two durations, all of them equally likely.
///
/// Written `5ms..10ms`, or `5ms` where both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyRange {
    min: Duration,
    max: Duration,
}

impl LatencyRange {
    /// From `min` to `max`, or nothing where `max` is the shorter one.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Option<Self> {
        (min <= max).then_some(Self { min, max })
    }

    /// The shortest.
    #[must_use]
    pub const fn min(&self) -> Duration {
        self.min
    }

    /// The longest.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The duration that these random bits choose.
    fn choose(&self, random: u128) -> Duration {
        let span = (self.max - self.min).as_nanos();
        // 64 of the bits as a fraction of the span; ranges longer than 584 years lose their tail.
        let span = u128::from(u64::try_from(span).unwrap_or(u64::MAX));
        let chosen = ((random & u128::from(u64::MAX)) * (span + 1)) >> 64;
        self.min + Duration::from_nanos(u64::try_from(chosen).unwrap_or(u64::MAX))
    }
}

impl FromStr for LatencyRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{text:?} is not a latency ({why}); write it as 5ms..10ms or 5ms"),
            )
        };
        let duration = |text: &str| {
            humantime::parse_duration(text).map_err(|error| wrong(format!("{text:?}: {error}")))
        };
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        Self::new(duration(min)?, duration(max)?)
            .ok_or_else(|| wrong("the second is shorter than the first".to_owned()))
    }
}

impl fmt::Display for LatencyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min = humantime::format_duration(self.min);
        let max = humantime::format_duration(self.max);
        write!(f, "{min}..{max}")
    }
}

/// Adds latency to the requests of any store, to each on its own: many at once do not wait for one
/// another.
#[derive(Clone, Debug)]
pub struct Latency {
    inner: Arc<dyn ObjectStore>,
    runtime: Arc<dyn Runtime>,
    writes: Option<LatencyRange>,
    reads: Option<LatencyRange>,
}

impl Latency {
    /// The store `inner`, as fast as it is.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            inner,
            runtime,
            writes: None,
            reads: None,
        }
    }

    /// Each put and delete takes `latency` longer.
    #[must_use]
    pub fn writes(mut self, latency: LatencyRange) -> Self {
        self.writes = Some(latency);
        self
    }

    /// Each get and list takes `latency` longer, and no read is answered at once.
    #[must_use]
    pub fn reads(mut self, latency: LatencyRange) -> Self {
        self.reads = Some(latency);
        self
    }

    async fn wait(&self, latency: Option<LatencyRange>) {
        if let Some(latency) = latency {
            self.runtime
                .sleep(latency.choose(self.runtime.random()))
                .await;
        }
    }
}

impl ObjectStore for Latency {
    fn put<'a>(&'a self, name: &'a str, body: Vec<Bytes>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.wait(self.writes).await;
            self.inner.put(name, body).await
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            self.wait(self.reads).await;
            self.inner.get(name).await
        })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move {
            self.wait(self.reads).await;
            self.inner.get_range(name, range).await
        })
    }

    fn try_get_range(
        &self,
        name: &str,
        offset: u64,
        buffer: &mut [u8],
    ) -> Option<Result<(), StoreError>> {
        match self.reads {
            Some(_) => None,
            None => self.inner.try_get_range(name, offset, buffer),
        }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ListedObject>, StoreError>> {
        Box::pin(async move {
            self.wait(self.reads).await;
            self.inner.list().await
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.wait(self.writes).await;
            self.inner.delete(name).await
        })
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u64, max: u64) -> LatencyRange {
        LatencyRange::new(Duration::from_millis(min), Duration::from_millis(max)).unwrap()
    }

    #[test]
    fn latencies_are_read_and_printed_as_people_write_them() {
        assert_eq!("5ms..10ms".parse::<LatencyRange>().unwrap(), range(5, 10));
        assert_eq!("7ms".parse::<LatencyRange>().unwrap(), range(7, 7));
        assert_eq!(
            "1s..1m".parse::<LatencyRange>().unwrap(),
            range(1000, 60_000)
        );
        assert_eq!(range(5, 10).to_string(), "5ms..10ms");
        for wrong in [
            "",
            "..",
            "5",
            "5ms..",
            "10ms..5ms",
            "-1ms",
            "5ms..10ms..20ms",
            "5 apples",
        ] {
            let error = wrong.parse::<LatencyRange>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
            assert!(error.to_string().contains("5ms..10ms"), "{error}");
        }
    }

    #[test]
    fn both_ends_and_the_middle_are_chosen() {
        let latency = range(5, 10);
        assert_eq!(latency.choose(0), latency.min());
        assert_eq!(latency.choose(u128::from(u64::MAX)), latency.max());
        assert_eq!(latency.choose(1 << 63).as_micros(), 7500);
        assert_eq!(range(3, 3).choose(u128::MAX), Duration::from_millis(3));
        let longest = LatencyRange::new(Duration::ZERO, Duration::MAX).unwrap();
        assert!(longest.choose(u128::MAX) > Duration::from_secs(1 << 33));
    }
}
