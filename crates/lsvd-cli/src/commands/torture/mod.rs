//! `lsvd torture`: kills an NBD server under load, again and again, and judges what it comes back
//! with.
//!
//! It talks nothing but NBD, so it judges any server. A round is: load on several connections, the
//! kill, the restart, all of the area read back, the verdict (see [`verdict`]). The next round goes
//! on from what was found ([`rounds`]).

mod arguments;
mod end;
mod history;
mod hooks;
mod load;
mod old_connections;
mod plan;
mod report;
mod rounds;
mod server;
mod stamp;
mod verdict;
mod workload;

use std::io::Write;

use super::volume;
use crate::failure::Failure;
use crate::signals::Signals;
pub(crate) use arguments::Arguments;
use plan::Plan;
use rounds::Torture;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments)?;
    let runtime = volume::start_runtime()?;
    let report = runtime.block_on(async {
        let torture = Torture::begin(plan).await?;
        // Until now nothing was touched that a signal would leave so.
        let signals = Signals::listen()?;
        Ok::<_, Failure>(torture.run(signals).await)
    })?;
    let text = if arguments.json {
        report.json()
    } else {
        report.text()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::from_output)?;
    match report.complaint() {
        None => Ok(()),
        Some(complaint) => Err(Failure::failed(format!(
            "{complaint}; seed {}",
            report.seed
        ))),
    }
}
