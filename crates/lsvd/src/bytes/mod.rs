//! Formats at rest: pure encoding and decoding, no I/O. `docs/format.md` has the byte tables.

pub mod block;
pub mod checkpoint;
pub mod data_object;
pub mod entry;
mod fields;
#[cfg(any(test, feature = "fuzzed"))]
#[doc(hidden)]
pub mod fuzzed;
pub mod log;
pub mod object_header;
pub mod superblock;

/// Rows of a marked table of fields in the format's documentation: name, offset, size.
#[cfg(test)]
fn documented_fields(mark: &str) -> Vec<(String, usize, usize)> {
    let text = include_str!("../../../../docs/format.md");
    let table = text
        .split(&format!("<!-- {mark} -->"))
        .nth(1)
        .expect("the table is marked");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').skip(1).map(str::trim).collect();
        (
            cells[2].to_owned(),
            cells[0].parse().unwrap(),
            cells[1].parse().unwrap(),
        )
    })
    .collect()
}
