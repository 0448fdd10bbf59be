//! Benchmarks of LSVD beside other systems, one subcommand each.

use std::process::ExitCode;

mod map;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((name, args)) if name == "map" => map::run(args),
        _ => Err("usage: lsvd-bench map [OPTIONS]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lsvd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
