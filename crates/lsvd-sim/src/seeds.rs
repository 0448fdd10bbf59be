//! Which seeds a run takes.

use std::io::Write as _;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads seeds from the first to before the end, as `0..1000`.
///
/// # Errors
/// What would be right.
pub fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text} is no range: give it as 0..1000");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Ok(number(first)?..number(end)?)
}

/// The seeds of a test's run: the fixed ones, and so many that no other second has; or those that
/// `variable` chooses. Which ones they are is printed.
///
/// # Panics
/// Where the variable is no range.
#[must_use]
pub fn of_run(title: &str, variable: &str, fixed: Range<u64>, fresh: u64) -> Vec<u64> {
    let (fixed, fresh) = match std::env::var(variable) {
        Ok(chosen) => match parse_range(&chosen) {
            Ok(chosen) => (chosen, 0..0),
            Err(wrong) => panic!("{variable}: {wrong}"),
        },
        Err(_) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let first = since.map_or(0, |since| since.as_secs()) * fresh;
            (fixed, first..first + fresh)
        }
    };
    // Not by `eprintln`, which is heard of failed tests alone; where nobody hears, nobody asks.
    let line = format!("{title}: seeds {fixed:?}, and new ones {fresh:?}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    fixed.chain(fresh).collect()
}
