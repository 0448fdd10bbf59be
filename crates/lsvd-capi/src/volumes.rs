//! The open volumes, and the numbers by which C names them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use engine::Volume;
use engine::doors::runtime::TokioRuntime;
use lsvd_store::{Latency, StoreUrl};
use parking_lot::{Mutex, RwLock};

use crate::call::Failure;
use crate::settings::Settings;

/// Threads for what goes on behind the calls. The calls themselves run on their callers' threads,
/// and files are written by threads of the store, so there is little left to do.
const RUNTIME_THREADS: usize = 2;

/// Volumes by number. A number is never used twice, so one that was closed names nothing, however
/// often it is closed or used again.
struct Volumes {
    next: u64,
    open: HashMap<u64, Volume>,
}

static VOLUMES: LazyLock<RwLock<Volumes>> = LazyLock::new(|| {
    RwLock::new(Volumes {
        // Zero is what a forgotten variable holds.
        next: 1,
        open: HashMap::new(),
    })
});

static RUNTIME: Mutex<Option<Arc<TokioRuntime>>> = Mutex::new(None);

/// The runtime of all volumes, started with the first.
fn runtime() -> Result<Arc<TokioRuntime>, Failure> {
    let mut runtime = RUNTIME.lock();
    if let Some(started) = &*runtime {
        return Ok(Arc::clone(started));
    }
    let started = TokioRuntime::start(RUNTIME_THREADS)
        .map_err(|error| Failure::io(format!("cannot start threads: {error}")))?;
    Ok(Arc::clone(runtime.insert(Arc::new(started))))
}

/// Opens a volume. Settings that no volume can have are refused before anything is made.
pub(crate) fn open(url: &StoreUrl, settings: Settings) -> Result<Volume, Failure> {
    settings.ephemeral.check()?;
    let runtime = runtime()?;
    let mut store = url.create_empty()?;
    if let Some(latency) = settings.store_latency {
        store = Arc::new(Latency::new(store, Arc::clone(&runtime) as _).writes(latency));
    }
    Ok(Volume::open_ephemeral(store, runtime, settings.ephemeral)?)
}

/// Gives the volume a number.
pub(crate) fn insert(volume: Volume) -> u64 {
    let mut volumes = VOLUMES.write();
    let number = volumes.next;
    volumes.next += 1;
    volumes.open.insert(number, volume);
    number
}

/// The volume with this number. It lives on while it is used, even if it is closed meanwhile.
pub(crate) fn get(number: u64) -> Result<Volume, Failure> {
    let found = VOLUMES.read().open.get(&number).cloned();
    found.ok_or_else(|| Failure::no_such_volume(number))
}

/// Takes the number away.
pub(crate) fn remove(number: u64) {
    let removed = VOLUMES.write().open.remove(&number);
    // What ends with the last clone of a volume is no work to do under the lock.
    drop(removed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::from_options;

    #[test]
    fn settings_out_of_range_make_no_directory() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vol");
        let url = StoreUrl::LocalDirectory(place.clone());
        for options in [
            "ephemeral,size=1000",
            "ephemeral,size=1M,object-size=1K",
            "ephemeral,size=1M,window=0",
            "ephemeral,size=1M,seal-timeout=0",
        ] {
            let failure = open(&url, from_options(options).unwrap()).unwrap_err();
            let message = failure.message();
            assert!(message.contains("cannot be"), "{options}: {message}");
            assert!(!place.exists(), "{options} left a directory");
        }
        let volume = open(&url, from_options("ephemeral,size=1M").unwrap()).unwrap();
        volume.close().unwrap();
        assert!(place.is_dir());
    }
}
