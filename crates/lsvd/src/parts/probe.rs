//! The probe: whether of racing creations of a name exactly one wins, which is what keeps a second
//! writer out. Some stores accept the condition and ignore it, and some check it without atomicity.

use ::bytes::Bytes;
use futures_util::future::join_all;

use crate::doors::runtime::{Runtime, within};
use crate::doors::store::{ObjectStore, StoreErrorKind};
use crate::words::error::{Error, ErrorKind, Result};
use crate::words::limits::STORE_PATIENCE;

/// What the names of probes begin with.
const PREFIX: &str = "probe.";

/// Whether this is what a probe leaves behind when it is cut short.
pub(crate) fn is_probe(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Creators that race.
const RACERS: u128 = 16;

/// Refuses a store that does not keep the condition. Leaves nothing behind but, after a crash, an
/// object named `probe.` and 32 digits.
///
/// # Errors
/// [`ErrorKind::NotEmpty`] for such a store, and what the store says when it fails.
pub(crate) async fn refuse_unless_exclusive(
    store: &dyn ObjectStore,
    runtime: &dyn Runtime,
) -> Result<()> {
    let name = format!("{PREFIX}{:032x}", runtime.random());
    let failed = |error: crate::doors::store::StoreError| {
        let message = format!(
            "cannot try whether {} keeps a second writer out",
            store.url()
        );
        Error::new(error.kind().for_user(), message).because(error)
    };
    let body = |racer: u128| Bytes::from(racer.to_le_bytes().to_vec());
    let racers = (0..RACERS).map(|racer| {
        let put = store.put(&name, vec![body(racer)]);
        within(runtime, STORE_PATIENCE, store, put)
    });
    let mut winners = Vec::new();
    let mut first_error = None;
    for (racer, created) in (0..).zip(join_all(racers).await) {
        match created {
            Ok(()) => winners.push(racer),
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let content = within(runtime, STORE_PATIENCE, store, store.get(&name)).await;
    let removed = within(runtime, STORE_PATIENCE, store, store.delete(&name)).await;
    if let Some(error) = first_error {
        return Err(failed(error));
    }
    let content = content.map_err(failed)?;
    removed.map_err(failed)?;
    match winners[..] {
        [winner] if content == body(winner) => Ok(()),
        _ => {
            let message = format!(
                "{} does not keep a second writer out: of {RACERS} racing creations of one name {} \
                 were said to have won; use another store, or say --unsafe-no-fencing and never serve \
                 the volume twice at once",
                store.url(),
                winners.len()
            );
            Err(Error::new(ErrorKind::NotEmpty, message))
        }
    }
}
