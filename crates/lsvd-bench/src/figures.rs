//! Figures of several rounds: their median and range, and tables of them.

use std::fmt::Write as _;
use std::io::Write as _;

/// What the rounds of one measurement gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one, or the mean of the two in the middle; 0 where nothing was measured.
    pub(crate) fn median(&self) -> f64 {
        let count = self.0.len();
        match (self.0.get(count / 2), count % 2) {
            (None, _) => 0.0,
            (Some(middle), 1) => *middle,
            (Some(upper), _) => f64::midpoint(self.0[count / 2 - 1], *upper),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }

    /// `median (min..max)`.
    pub(crate) fn show(&self) -> String {
        format!(
            "{:.1} ({:.1}..{:.1})",
            self.median(),
            self.min(),
            self.max()
        )
    }
}

/// Measures every row `rounds` times. Each round begins with another row, so that nobody is always
/// first, or always behind the same neighbour's writeback.
pub(crate) fn in_turns<R>(
    rounds: u32,
    rows: &mut [R],
    mut measure: impl FnMut(&mut R) -> Result<(), String>,
) -> Result<(), String> {
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for turn in 0..rows.len() {
            let row = (round as usize + turn) % rows.len();
            measure(&mut rows[row])?;
        }
    }
    Ok(())
}

/// A target and whether it is met.
pub(crate) fn verdict(name: &str, what: &str, actual: f64, target: f64) -> String {
    let met = if actual >= target { "met" } else { "MISSED" };
    format!("{name} {met}: {what} is {actual:.2}, the target is {target:.2}\n")
}

/// The same where less is better.
pub(crate) fn verdict_at_most(name: &str, what: &str, actual: f64, target: f64) -> String {
    let met = if actual <= target { "met" } else { "MISSED" };
    format!("{name} {met}: {what} is {actual:.2}, the target is at most {target:.2}\n")
}

/// Rows in columns; the first is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, "{cell:<width$}", width = widths[column]),
                _ => write!(line, "  {cell:>width$}", width = widths[column]),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Prints results.
pub(crate) fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_median_is_in_the_middle() {
        let mut figures = Figures::default();
        assert_eq!(figures.median(), 0.0);
        for (figure, median) in [(5.0, 5.0), (1.0, 3.0), (9.0, 5.0), (6.0, 5.5)] {
            figures.add(figure);
            assert_eq!(figures.median(), median);
        }
        assert_eq!((figures.min(), figures.max()), (1.0, 9.0));
    }
}
