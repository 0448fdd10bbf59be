//! What this machine is called, and where programs keep state on it.

use std::path::{Path, PathBuf};

use lsvd::words::name::VolumeUuid;
use lsvd_store::StoreUrl;

use crate::failure::Failure;

/// Where systemd, and what follows it, keeps the identity of a machine.
const MACHINE_ID: &str = "/etc/machine-id";

/// Identity of this machine: its machine id, or its name where it has none.
pub(crate) fn identity() -> String {
    let id = std::fs::read_to_string(MACHINE_ID).unwrap_or_default();
    let id = id.trim();
    // Images that are to be copied hold "uninitialized".
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return id.to_owned();
    }
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Where the write log and the cache of a volume lie unless somebody says otherwise: beside the
/// objects of a local volume, else among the user's state.
pub(crate) fn local_state(url: &StoreUrl, volume: VolumeUuid) -> Result<PathBuf, Failure> {
    if let Some(beside) = url.local_state() {
        return absolute(&beside);
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state_home = set("XDG_STATE_HOME").map(PathBuf::from);
    let state_home = state_home
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
    let state_home = state_home.ok_or_else(|| {
        Failure::usage(
            "neither XDG_STATE_HOME nor HOME says where to keep the write log: name a directory \
             with --cache-dir",
        )
    })?;
    absolute(&state_home.join("lsvd").join(volume.to_string()))
}

/// The path from the root on.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{:?} is no path: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_one_name() {
        let name = identity();
        assert!(
            !name.is_empty() && !name.contains(char::is_whitespace),
            "{name:?}"
        );
        assert_eq!(name, identity());
    }

    #[test]
    fn a_local_volume_keeps_its_state_beside_its_objects() {
        let url: StoreUrl = "/dir/vol".parse().unwrap();
        let place = local_state(&url, VolumeUuid::from_u128(1)).unwrap();
        assert_eq!(place, Path::new("/dir/vol/cache"));
    }
}
