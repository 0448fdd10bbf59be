//! The orderly end of a server: requests in work are finished, memory is stored, within a time.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use lsvd::{ErrorKind, Volume};
use lsvd_nbd::{Drained, Server};
use lsvd_store::StoreUrl;
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

use super::open::Kind;
use crate::failure::Failure;

/// How often a close that takes long says so.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Longest that clients may take to end, and the share of the whole time: what they keep waiting
/// for must not cost others what is in memory.
const CLIENTS_MAX: Duration = Duration::from_secs(10);
const CLIENTS_SHARE: u32 = 2;

/// How long a server that could not store everything tries to say so in the store.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How long to wait before a close that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Ends `server` and closes `volume`, or fails when `limit` is over.
pub(super) async fn in_order(
    server: &Server,
    volume: &Volume,
    kind: &Kind,
    limit: Duration,
) -> Result<(), Failure> {
    let started = Instant::now();
    let closing = close(server, volume, kind, started, limit);
    tokio::pin!(closing);
    let mut progress = interval_at(started + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            biased;
            outcome = &mut closing => return outcome,
            now = progress.tick() => show(now - started, limit),
        }
    }
}

async fn close(
    server: &Server,
    volume: &Volume,
    kind: &Kind,
    started: Instant,
    limit: Duration,
) -> Result<(), Failure> {
    let for_clients = (limit / CLIENTS_SHARE).min(CLIENTS_MAX);
    if let Drained::Cut(count) = server.shutdown(for_clients).await {
        tracing::warn!(count, "connections were cut: they did not end in time");
    }
    let mut last_error = None;
    let stored = timeout_at(started + limit, async {
        // A store that fails is tried for as long as we may.
        while let Err(error) = volume.close_async().await {
            if error.kind() == ErrorKind::Fenced {
                return Err(error);
            }
            last_error = Some(error);
            sleep(RETRY_PAUSE).await;
        }
        Ok(())
    });
    if let Ok(stored) = stored.await {
        return Ok(stored?);
    }
    // The next who opens it without this log is to know what is in it.
    if let Ok(Err(error)) = timeout(LEAVE_MAX, volume.leave_async()).await {
        tracing::warn!(%error, "what is in the write log alone could not be told to the store");
    }
    let cause = last_error.map_or("the store is too slow".to_owned(), |error| {
        error.to_string()
    });
    Err(Failure::failed(match kind {
        Kind::Ephemeral | Kind::ReadOnly => format!(
            "what was in memory could not be stored in time, and is lost ({cause}); a longer \
             --drain-timeout waits longer"
        ),
        Kind::Lasting(local) => format!(
            "not all could be stored in time ({cause}); what was flushed is in the write log in {} \
             and goes on to the store when the volume is served here again",
            local.path().display()
        ),
    }))
}

/// What a signal means to a volume that is still being opened.
pub(super) fn before_it_was_open(url: &StoreUrl) -> Failure {
    Failure::failed(format!(
        "ended by a signal while the volume in {url} was being opened: nothing in it is lost by \
         that; serve it again with the same options"
    ))
}

/// What a second signal means.
pub(super) fn cut_short(kind: &Kind, url: &StoreUrl) -> Failure {
    Failure::failed(match kind {
        Kind::Ephemeral | Kind::ReadOnly => format!(
            "ended at once by a second signal: what was in memory of the volume in {url} is not \
             stored"
        ),
        Kind::Lasting(local) => format!(
            "ended at once by a second signal: what was flushed to the volume in {url} and is not \
             stored is in the write log in {}",
            local.path().display()
        ),
    })
}

/// Progress is for people: elsewhere standard error has one line, and only about a failure.
fn show(elapsed: Duration, limit: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let seconds = elapsed.as_secs();
    // Whoever cannot read standard error has to do without.
    drop(writeln!(
        std::io::stderr(),
        "lsvd: closing: storing what is in memory, {seconds} s of at most {limit:?}; a second \
         signal ends at once"
    ));
}
