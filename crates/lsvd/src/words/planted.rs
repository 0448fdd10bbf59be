//! Planted faults: what tests that should find a fault are tried on. Without the feature `planted`
//! there are none, and asking costs nothing.
//!
//! | name | fault |
//! |---|---|
//! | `segment-early` | the segment of a batch is free when the batch before it is persisted |
//! | `segment-answered` | the segment of a batch is free when the store has answered, before the fence check |
//! | `replay-discard` | the replay of the log forgets discards and zeroes |
//! | `log-sync` | the log is written and never synced, which only the loss of power shows |

/// Whether the fault `name` is planted in this process: by the variable `LSVD_PLANT`, a list with
/// commas between.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(name: &str) -> bool {
    static PLANTED: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("LSVD_PLANT").unwrap_or_default());
    PLANTED.split(',').any(|planted| planted == name)
}

/// Whether the fault `name` is planted in this process: never.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn is(_name: &str) -> bool {
    false
}
