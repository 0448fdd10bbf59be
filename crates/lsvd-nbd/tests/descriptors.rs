//! A server without file descriptors. A test of its own process, because the bound is one of the
//! process.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lsvd_nbd::{Export, Limits, Listener, MemoryDevice, Server};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn without_descriptors_one_warning_is_given_and_serving_goes_on_later() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("nbd.sock");
    let warnings = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(Arc::clone(&warnings)));
    let export = Export::new("", Arc::new(MemoryDevice::new(1 << 20)));
    let server = Server::new([export], Limits::default()).expect("right settings");
    let listener = Listener::unix(&path).await.expect("bound");
    let mut client = UnixStream::connect(&path).await.expect("connected");
    let limited = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), "--nofile=128:"])
        .status();
    assert!(limited.expect("prlimit runs").success());
    let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(files.len() < 128);

    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let warned = timeout(Duration::from_secs(60), async {
        while warnings.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    warned.await.expect("a warning");
    // It goes on trying, ten times a second.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(warnings.load(Ordering::Relaxed), 1);
    drop(files);
    let mut greeting = [0; 18];
    let greeted = timeout(Duration::from_secs(60), client.read_exact(&mut greeting)).await;
    greeted.expect("it is accepted").expect("a greeting");
    server.shutdown(Duration::from_secs(10)).await;
    serving.await.expect("it ends");
}
