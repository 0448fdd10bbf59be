//! `cargo x torture`: the judge before our server and others, and one table of its verdicts.
//!
//! Each server is killed so many times, or with `--power-cut` loses its power, under the same load.
//! Each is asked for what it promises. Ours must keep all of that; the others are reported as they
//! are.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::crash::{LOAD, build, in_new_folder, serve_volume, time_as_seed};
use crate::judge::{Run, Total, judge};
use crate::powercut::{Cuts, Losses, Machines};
use crate::servers::Server;
use crate::step::{Outcome, timed};
use crate::victim::Victim;

/// Who is judged, and how often; arguments behind `--` go to `lsvd torture`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Kills, or cuts, of each server [default: 100 kills, 20 cuts]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Who is judged [default: all that this machine has]
    #[arg(long, value_enum, value_name = "NAME", num_args = 1..)]
    server: Vec<Server>,

    /// Cut the power of a guest that the server runs in, instead of killing the server
    #[arg(long)]
    power_cut: bool,

    /// Use this `lsvd` instead of building one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    /// What decides the load, the same for all [default: the time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Where the disks go; a folder of its own is made in it [default: the one for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// More arguments of `lsvd torture`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Bytes of the other servers' disks, as many as our volume has.
const DISK: u64 = 256 << 20;

/// Cuts before a new disk takes the place of the old one: disks differ, by their seeds.
const CUTS_PER_DISK: u32 = 10;

/// How many of a hundred boots lose the power once more before the server is there.
const CUTS_AGAIN: u8 = 20;

pub(crate) fn run_all(arguments: &Arguments) -> Outcome {
    let servers = arguments.servers()?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => build(false)?,
    };
    let seed = arguments.seed.map_or_else(time_as_seed, Ok)?;
    in_new_folder("torture", arguments.dir.as_deref(), |folder| {
        all_servers(arguments, &servers, (&program, folder), seed)
    })
}

impl Arguments {
    /// Who is judged; who is not, for lack of a program, is named.
    fn servers(&self) -> Result<Vec<Server>, String> {
        let mut servers = Vec::new();
        for server in Server::ALL {
            let asked = self.server.contains(&server);
            if !asked && !self.server.is_empty() {
                continue;
            }
            // Nobody learns anything from a machine's memory that is gone with the machine.
            if self.power_cut && server == Server::NbdkitMemory {
                if asked {
                    return Err("a disk in memory has no power cut: leave it out".to_owned());
                }
                continue;
            }
            match server.lacks() {
                Some(program) => eprintln!(
                    "torture: {} is left out: this machine has no {program}",
                    server.title()
                ),
                None => servers.push(server),
            }
        }
        if servers.is_empty() {
            return Err("this machine has none of these servers".to_owned());
        }
        Ok(servers)
    }

    fn rounds(&self) -> u32 {
        let rounds = if self.power_cut { 20 } else { 100 };
        self.rounds.unwrap_or(rounds)
    }
}

fn all_servers(
    arguments: &Arguments,
    servers: &[Server],
    (program, folder): (&Path, &Path),
    seed: u64,
) -> Outcome {
    // The run's own copy: a build beside a long run is not to change what is run.
    let lsvd = folder.join("lsvd");
    fs::copy(program, &lsvd)
        .map_err(|error| format!("cannot copy {}: {error}", program.display()))?;
    let machines = if arguments.power_cut {
        Some(Machines::new(folder, &lsvd)?)
    } else {
        None
    };
    let mut rows = Vec::new();
    for &server in servers {
        let mut row = Row {
            server,
            version: server.version(&lsvd)?,
            total: Total::default(),
            losses: None,
            outcome: Ok(()),
        };
        // The row tells how it ended; a server that fails does not keep the next from being judged.
        timed(server.title(), || {
            row.outcome = match &machines {
                Some(machines) => row.cut(arguments, machines, folder, seed),
                None => row.kill(arguments, &lsvd, folder, seed),
            };
            Ok(())
        })?;
        rows.push(row);
    }
    std::io::stdout()
        .write_all(table(&rows, arguments.power_cut).as_bytes())
        .map_err(|error| format!("cannot print the table: {error}"))?;
    rows.iter().try_for_each(Row::refuse)
}

/// One server's verdict.
struct Row {
    server: Server,
    version: String,
    total: Total,
    /// What the disks of its machines forgot.
    losses: Option<Losses>,
    /// Whether all its rounds were judged, and whether ours kept its word.
    outcome: Outcome,
}

impl Row {
    fn kill(&mut self, arguments: &Arguments, lsvd: &Path, folder: &Path, seed: u64) -> Outcome {
        let place = folder.join(format!("{:?}", self.server));
        let failed = |error| format!("cannot make a disk in {}: {error}", place.display());
        fs::create_dir(&place).map_err(failed)?;
        let command = match self.server.at_socket() {
            None => serve_volume(lsvd, &place)?,
            Some(command) => {
                let disk = fs::File::create(place.join("disk")).map_err(failed)?;
                disk.set_len(DISK).map_err(failed)?;
                command
            }
        };
        let victim = Victim::start(place, &command, "")?;
        let mut torture = victim.torture(lsvd);
        torture
            .args(["--rounds", &arguments.rounds().to_string()])
            .args(["--seed", &seed.to_string()])
            .args(self.server.owes());
        let run = Run {
            about: &format!("seed {seed}"),
            defaults: &LOAD,
            given: &arguments.rest,
            keep_going: true,
        };
        victim.end(judge(torture, &run, &mut self.total))
    }

    fn cut(
        &mut self,
        arguments: &Arguments,
        machines: &Machines,
        folder: &Path,
        seed: u64,
    ) -> Outcome {
        let cuts = Cuts {
            server: self.server,
            rounds: arguments.rounds(),
            rounds_per_disk: CUTS_PER_DISK,
            again: CUTS_AGAIN,
            plant: "",
            keep_going: true,
            given: &arguments.rest,
        };
        let losses = self.losses.insert(Losses::default());
        machines.cut(&cuts, folder, seed, (&mut self.total, losses))
    }

    /// Ours must be without fault. The others need not; but what was not judged has no row, and what
    /// cuts that lost nothing say of a server is nothing.
    fn refuse(&self) -> Outcome {
        let title = self.server.title();
        let lost = self.losses.as_ref().map_or(Ok(()), |losses| {
            let refused = losses.refuse_none(self.total.rounds);
            refused.map_err(|error| format!("{title}: {error}"))
        });
        if self.server != Server::Lsvd {
            return match &self.outcome {
                Err(error) if self.total.rounds == 0 => Err(format!("{title}: {error}")),
                _ => lost,
            };
        }
        self.outcome.clone()?;
        if self.total.wrong > 0 || self.total.flushed_lost > 0 {
            return Err(format!("{title} did not keep its word: {}", self.total));
        }
        lost.and_then(|()| self.total.refuse_idle())
    }
}

/// The verdicts, as Markdown.
fn table(rows: &[Row], power_cut: bool) -> String {
    let mut text = String::new();
    let end = if power_cut { "Cuts" } else { "Kills" };
    let columns = [
        "Server",
        end,
        "Wrong states",
        "Exact prefixes",
        "Flushed writes lost",
        "Answered, not flushed, lost",
        "Torn sectors",
        "Stale sectors",
    ];
    text += &format!("\n| {} |\n", columns.join(" | "));
    text += &format!("|{}\n", " --- |".repeat(columns.len()));
    for row in rows {
        let total = &row.total;
        let cells = [
            row.server.title().to_owned(),
            thousands(total.rounds),
            thousands(total.wrong),
            thousands(total.prefixes),
            format!(
                "{} of {}",
                thousands(total.flushed_lost),
                thousands(total.flushed)
            ),
            thousands(total.unflushed_lost),
            thousands(total.torn),
            thousands(total.stale),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text.push('\n');
    for row in rows {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}: {}", row.server.title(), row.version);
        if let Some(losses) = &row.losses {
            let _ = writeln!(text, "  {losses}");
        }
        if let Err(error) = &row.outcome {
            let _ = writeln!(text, "  {error}");
        }
    }
    text
}

/// A number with its digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, thousands};
    use crate::judge::Total;
    use crate::powercut::Losses;
    use crate::servers::Server;

    /// A server with twenty rounds in which nothing was wrong.
    fn row(server: Server, losses: Option<Losses>) -> Row {
        let mut total = Total::default();
        (total.rounds, total.flushed) = (20, 100);
        Row {
            server,
            version: String::new(),
            total,
            losses,
            outcome: Ok(()),
        }
    }

    #[test]
    fn cuts_that_lost_nothing_are_refused_for_every_server() {
        for server in [Server::Lsvd, Server::QemuNbd] {
            let refused = row(server, Some(Losses::default())).refuse().unwrap_err();
            assert!(refused.contains(server.title()), "{refused}");
            assert!(refused.contains("proves nothing"), "{refused}");
            let mut losses = Losses::default();
            losses.add_line("power lost: 3 of 8 unflushed units lost (None)");
            row(server, Some(losses)).refuse().unwrap();
            // A kill loses nothing at a disk.
            row(server, None).refuse().unwrap();
        }
    }

    #[test]
    fn numbers_are_written_in_groups() {
        let written = [0, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(written, ["0", "999", "1,000", "1,234,567"]);
    }
}
