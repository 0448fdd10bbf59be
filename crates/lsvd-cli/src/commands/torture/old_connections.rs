//! Whether the server is gone that a command was to end: what the connections from before it say.
//!
//! A verdict on a server that nothing ended proves nothing. An answer is a sign of life, an error as
//! well as data. A broken connection is an end. Silence is neither: a process that is stopped, or
//! slow, is silent too.

use std::time::Duration;

use lsvd_nbd::client::{Client, ClientError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::end::End;
use crate::failure::Failure;

/// How long a connection must be silent to count as one to a machine without power, which breaks
/// none. Whether it was without power its silence does not say; see [`Questions`].
const SILENCE: Duration = Duration::from_secs(1);

/// How long a server that answers is left alone before it is asked anew.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// What a connection says of the server at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Answer,
    Silence,
    Broken,
}

impl Sign {
    fn of(answer: Result<Vec<u8>, ClientError>) -> Self {
        match answer {
            Ok(_) | Err(ClientError::Server { .. }) => Self::Answer,
            Err(_) => Self::Broken,
        }
    }
}

/// Waits until every connection is broken or, where the power is cut, silent. `len` bytes are what
/// the server can be asked for.
///
/// # Errors
/// At the deadline a connection still answers or, where a process is killed, is still there.
pub(super) async fn wait_for_end(
    clients: &[Client],
    len: u32,
    end: End,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    for client in clients.iter().cloned() {
        connections.spawn(last_sign(client, len, end, deadline));
    }
    while let Some(sign) = connections.join_next().await {
        let sign =
            sign.map_err(|error| Failure::failed(format!("a question did not end: {error}")))?;
        match sign {
            Sign::Broken => {}
            Sign::Silence if end == End::PowerCut => {}
            Sign::Silence => {
                return Err(Failure::failed(
                    "a connection from before is silent and does not break; have the command end \
                     the process, or call it --power-cut if it ends the machine",
                ));
            }
            Sign::Answer => {
                return Err(Failure::failed(
                    "a connection from before still answers; have the command end the server, or \
                     give it longer to go (--timeout)",
                ));
            }
        }
    }
    Ok(())
}

/// What a connection says that breaks or is silent, or at the deadline.
async fn last_sign(client: Client, len: u32, end: End, deadline: Instant) -> Sign {
    loop {
        let until = match end {
            End::PowerCut => Instant::now() + SILENCE,
            End::Nothing | End::Restart | End::Kill => deadline,
        };
        let answer = tokio::time::timeout_at(until, client.read(0, len)).await;
        let sign = answer.map_or(Sign::Silence, Sign::of);
        // What it had read already a server may answer while it dies.
        if sign != Sign::Answer || Instant::now() >= deadline {
            return sign;
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// What connections from before a power cut are asked behind the restart. Nothing answers there but
/// a server that has kept its memory.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: JoinSet<Sign>,
}

impl Questions {
    /// Asks each for `len` bytes.
    pub(super) fn ask(&mut self, clients: Vec<Client>, len: u32) {
        for client in clients {
            self.asked
                .spawn(async move { Sign::of(client.read(0, len).await) });
        }
    }

    /// Looks for answers, and gives up waiting for them. Best called when new connections have
    /// answered as much as they are asked: a server that is slow has had its time then.
    ///
    /// # Errors
    /// There is one.
    pub(super) async fn refuse_answers(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + SILENCE;
        let mut outcome = Ok(());
        while let Ok(Some(sign)) = tokio::time::timeout_at(until, self.asked.join_next()).await {
            let sign =
                sign.map_err(|error| Failure::failed(format!("a question did not end: {error}")))?;
            if sign == Sign::Answer {
                outcome = Err(Failure::failed(
                    "a connection from before answers again behind the restart; have the command \
                     take the power from the machine",
                ));
            }
        }
        self.asked.abort_all();
        while self.asked.join_next().await.is_some() {}
        outcome
    }
}
