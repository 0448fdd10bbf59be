//! How the server's lives end, as far as the judge is told, and what its verdict is worth then.

use std::time::Duration;

/// What ends the server at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing: it lives on.
    Nothing,
    /// The command of `--restart`, in its own way.
    Restart,
    /// The command of `--kill`: the kernel that the server ran on lives on.
    Kill,
    /// The command of `--power-cut`: the machine that the server ran on is gone with its memory.
    PowerCut,
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::PowerCut => "power cut",
        }
    }

    /// What a verdict says of the server, and what it cannot say.
    pub(super) const fn proves(self) -> &'static str {
        match self {
            Self::Nothing => "that what was answered can be read: nothing died",
            Self::Restart => "as much as --restart ends: it alone knows how the server went",
            Self::Kill => {
                "order and recovery, and that no flushed write is held back in the process; not \
                 that anything is synced, as the kernel keeps what a killed process wrote"
            }
            Self::PowerCut => {
                "that what was flushed is on the disk, as far as the cut took the machine's memory \
                 and the disk's volatile cache away"
            }
        }
    }

    /// How long the server may take to answer, and a command to end, where nothing is said: a
    /// machine has to boot and mount first.
    pub(super) const fn timeout(self) -> Duration {
        match self {
            Self::Nothing | Self::Restart | Self::Kill => Duration::from_mins(1),
            Self::PowerCut => Duration::from_mins(10),
        }
    }

    /// How long answers are waited for behind the end. A killed process's connections are closed by
    /// its kernel; a machine without power closes none, and only what is on its way can still come.
    pub(super) fn patience(self, timeout: Duration) -> Duration {
        match self {
            Self::Nothing | Self::Restart | Self::Kill => timeout,
            Self::PowerCut => timeout.min(Duration::from_secs(1)),
        }
    }
}
