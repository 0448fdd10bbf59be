//! The end of a server, in two steps: requests in work are finished, then connections are cut.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No new connections and requests; what is in work is finished.
    Draining,
    /// Nothing is waited for any more.
    Cut,
}

/// How far the end of a server has come.
pub(crate) struct Shutdown {
    stage: watch::Sender<Stage>,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    pub(crate) fn request(&self) {
        self.raise(Stage::Draining);
    }

    pub(crate) fn cut(&self) {
        self.raise(Stage::Cut);
    }

    fn raise(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let higher = to > *stage;
            if higher {
                *stage = to;
            }
            higher
        });
    }

    /// Completes when no new requests are to be taken up.
    pub(crate) async fn requested(&self) {
        self.reached(Stage::Draining).await;
    }

    /// Completes when connections are to be cut.
    pub(crate) async fn is_cut(&self) {
        self.reached(Stage::Cut).await;
    }

    async fn reached(&self, wanted: Stage) {
        // It fails only when the sender is gone, and `self` holds it.
        let _ = self
            .stage
            .subscribe()
            .wait_for(|stage| *stage >= wanted)
            .await;
    }
}
