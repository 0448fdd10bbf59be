//! What is at risk, told in the log for as long as anything is.

use std::time::Duration;

use lsvd::Volume;
use lsvd::words::text::Size;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Age from which what is not persisted is worth a warning: the store is slow or gone.
const LATE: Duration = Duration::from_secs(30);

/// Tells what is at risk until it is dropped.
pub(super) async fn tell(volume: Volume) {
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut late_before = false;
    loop {
        interval.tick().await;
        let status = volume.status();
        let age = status.at_risk_since.unwrap_or_default();
        let late = status.at_risk_bytes > 0 && age >= LATE;
        let (bytes, seconds) = (Size(status.at_risk_bytes), age.as_secs());
        if late {
            let error = status.error.map(|error| error.to_string());
            tracing::warn!(
                %bytes,
                seconds,
                error,
                "not persisted yet: lost if this machine's disk is lost"
            );
        } else if late_before {
            tracing::warn!(%bytes, seconds, "what waited for the store is persisted");
        } else if status.at_risk_bytes > 0 {
            tracing::info!(%bytes, seconds, "not persisted yet");
        }
        late_before = late;
    }
}
