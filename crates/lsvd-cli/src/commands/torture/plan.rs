//! What a run is to do: its options, checked as far as that goes without the server.

use std::time::Duration;

use lsvd::words::text::Size;

use super::arguments::{Arguments, Expected, SEED_MAX};
use super::end::End;
use super::hooks::Hook;
use super::server::{Offer, Server};
use super::stamp::SECTOR;
use super::verdict::Expect;
use super::workload::{Area, CHANGE_SECTORS_MAX};
use crate::failure::Failure;

/// A run that can be begun.
pub(super) struct Plan<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) server: Server,
    pub(super) seed: u64,
    pub(super) expect: Expect,
    /// Sectors of the longest piece that must be whole.
    pub(super) atomic: usize,
    pub(super) end: End,
    /// What brings the end about.
    pub(super) kill: Option<Hook<'a>>,
    pub(super) restart: Option<Hook<'a>>,
    pub(super) blocking: Option<Blocking<'a>>,
}

/// What takes something away under load, and what gives it back.
pub(super) struct Blocking<'a> {
    pub(super) block: Hook<'a>,
    pub(super) unblock: Hook<'a>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(arguments: &'a Arguments) -> Result<Self, Failure> {
        let hook = |option, command: &'a Option<String>| {
            command.as_deref().map(|command| Hook { option, command })
        };
        let kill = hook("--kill", &arguments.kill);
        let power_cut = hook("--power-cut", &arguments.power_cut);
        let restart = hook("--restart", &arguments.restart);
        let end = match (&kill, &power_cut, &restart) {
            (Some(_), _, _) => End::Kill,
            (None, Some(_), _) => End::PowerCut,
            (None, None, Some(_)) => End::Restart,
            (None, None, None) => End::Nothing,
        };
        let kill = kill.or(power_cut);
        if arguments.kill_again > 0 && (kill.is_none() || restart.is_none()) {
            return Err(Failure::usage(
                "--kill-again needs both --kill and --restart",
            ));
        }
        if arguments.kill_again > 0 && end == End::PowerCut {
            return Err(Failure::usage(
                "--kill-again is for processes: a machine that was started is still in its firmware when \
                 the second cut would come; have --restart cut its power once more",
            ));
        }
        let block = hook("--block", &arguments.block);
        let unblock = hook("--unblock", &arguments.unblock);
        Ok(Self {
            arguments,
            server: Server {
                uri: arguments.uri.clone(),
                connections: arguments.connections,
                timeout: arguments.timeout.unwrap_or(end.timeout()),
            },
            seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..=SEED_MAX)),
            expect: match arguments.expect {
                _ if end == End::Nothing => Expect::Answered,
                Expected::Flushed => Expect::Flushed,
                Expected::Prefix => Expect::Base,
                Expected::Disk => Expect::Disk,
            },
            atomic: match arguments.expect {
                Expected::Disk => 1,
                Expected::Flushed | Expected::Prefix => {
                    sectors("--atomic", arguments.atomic)?.min(CHANGE_SECTORS_MAX)
                }
            },
            end,
            kill,
            restart,
            blocking: block
                .zip(unblock)
                .map(|(block, unblock)| Blocking { block, unblock }),
        })
    }

    /// How long the server may take to answer anything, and a command to end.
    pub(super) const fn timeout(&self) -> Duration {
        self.server.timeout
    }

    /// The area of a disk like this.
    pub(super) fn area(&self, offer: &Offer) -> Result<Area, Failure> {
        const AREA_DEFAULT: u64 = 64 << 20;
        let size = self
            .arguments
            .area
            .map_or(offer.size.min(AREA_DEFAULT), |Size(size)| size);
        if size > offer.size {
            return Err(Failure::failed(format!(
                "an area of {} does not fit the disk at {}, which has {} bytes",
                Size(size),
                self.server.uri,
                offer.size
            )));
        }
        let whole = |sectors: usize| sectors / offer.grain * offer.grain;
        let sectors_of = |bytes: u64| usize::try_from(bytes / SECTOR as u64).unwrap_or(usize::MAX);
        let sectors = whole(sectors_of(size));
        if sectors == 0 {
            return Err(Failure::failed(format!(
                "the disk at {} has {} bytes, its smallest request {}: too little to write to",
                self.server.uri,
                offer.size,
                offer.grain * SECTOR
            )));
        }
        Ok(Area {
            sectors,
            hot: whole(sectors_of(self.arguments.hot.0)).clamp(offer.grain, sectors),
            grain: offer.grain,
        })
    }
}

/// A size in sectors, of which it must have at least one, and whole ones.
fn sectors(option: &str, size: Size) -> Result<usize, Failure> {
    let sector = SECTOR as u64;
    if size.0 == 0 || !size.0.is_multiple_of(sector) {
        return Err(Failure::usage(format!(
            "{option} {size} is no size in sectors: give a multiple of 512"
        )));
    }
    Ok(usize::try_from(size.0 / sector).unwrap_or(usize::MAX))
}
