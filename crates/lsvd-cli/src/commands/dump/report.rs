//! What is shown of a file: named fields, tables of rows, and what is wrong. It is printed as it
//! comes, so that millions of rows take no memory.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// Most problems that are told one by one.
const PROBLEMS_MAX: usize = 1000;

/// What there is to say of a file, in the order in which it is said.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    json: bool,
    section: Section,
    /// Why nothing is printed any more, if that is so.
    broken: Option<io::Error>,
    problems: Problems,
}

/// What does not check.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// One line each, the first ones.
    pub(super) told: Vec<String>,
    /// How many more there are.
    pub(super) more: usize,
}

/// What the last line belongs to.
#[derive(Clone, Copy, Debug)]
enum Section {
    /// Nothing that goes on.
    None,
    Fields(&'static str),
    /// Whether the table has a row already.
    Rows(bool),
}

/// A row of a table: fields by name.
pub(super) type Row = Vec<(&'static str, Value)>;

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self {
            out,
            json,
            section: Section::None,
            broken: None,
            problems: Problems::default(),
        }
    }

    /// What the file is: the first that is said.
    pub(super) fn begin(&mut self, kind: Option<&str>) {
        if self.json {
            self.print(&format!("{{\"kind\":{}", Value::from(kind)));
        } else {
            self.print(kind.unwrap_or("unknown"));
            self.print("\n");
        }
    }

    /// Adds a field to a section, which is begun where the last one is another.
    pub(super) fn field_of(
        &mut self,
        section: &'static str,
        name: &'static str,
        value: impl Into<Value>,
    ) {
        let value = value.into();
        let goes_on = matches!(self.section, Section::Fields(last) if last == section);
        if !goes_on {
            self.end_section();
            self.section = Section::Fields(section);
        }
        let text = match (self.json, goes_on) {
            (true, true) => format!(",{}:{value}", key(name)),
            (true, false) => format!(",{}:{{{}:{value}", key(section), key(name)),
            (false, true) => format!("  {name:<14} {}\n", plain(&value)),
            (false, false) => format!("\n{section}\n  {name:<14} {}\n", plain(&value)),
        };
        self.print(&text);
    }

    /// Begins a table of so many rows.
    pub(super) fn begin_table(&mut self, name: &'static str, rows: u64) {
        self.end_section();
        self.section = Section::Rows(false);
        let text = if self.json {
            format!(",{}:[", key(name))
        } else {
            format!("\n{name}: {rows}\n")
        };
        self.print(&text);
    }

    /// Adds a row to the table that was begun.
    pub(super) fn row(&mut self, row: &[(&'static str, Value)]) {
        debug_assert!(matches!(self.section, Section::Rows(_)), "no table");
        let text = if self.json {
            let comma = matches!(self.section, Section::Rows(true)).then_some(",");
            format!("{}{}", comma.unwrap_or_default(), object(row))
        } else {
            let fields = row.iter();
            let fields = fields.map(|(name, value)| format!(" {name} {}", plain(value)));
            format!(" {}\n", fields.collect::<String>())
        };
        self.section = Section::Rows(true);
        self.print(&text);
    }

    /// Adds what has a form of its own.
    pub(super) fn tree(&mut self, name: &'static str, value: &Value) {
        self.end_section();
        if self.json {
            self.print(&format!(",{}:{value}", key(name)));
        } else {
            self.print(&format!("\n{name}\n"));
            for line in format!("{value:#}").lines() {
                self.print(&format!("  {line}\n"));
            }
        }
    }

    /// Notes something that does not check, once.
    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        if self.problems.told.contains(&problem) {
            return;
        }
        if self.problems.told.len() < PROBLEMS_MAX {
            self.problems.told.push(problem);
        } else {
            self.problems.more += 1;
        }
    }

    /// Whether nothing is printed any more: nobody reads it.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Says what is wrong, and gives it.
    ///
    /// # Errors
    /// Not all could be printed.
    pub(super) fn finish(mut self) -> io::Result<Problems> {
        self.end_section();
        let Problems { told, more } = &self.problems;
        let mut shown = told.clone();
        if *more > 0 {
            shown.push(format!("{more} more"));
        }
        if self.json {
            self.print(&format!(",\"problems\":{}}}\n", Value::from(shown)));
        } else if !shown.is_empty() {
            self.print("\nproblems\n");
            for problem in shown {
                self.print(&format!("  {problem}\n"));
            }
        }
        match self.broken {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.problems),
        }
    }

    fn end_section(&mut self) {
        let section = std::mem::replace(&mut self.section, Section::None);
        match section {
            Section::Fields(_) if self.json => self.print("}"),
            Section::Rows(_) if self.json => self.print("]"),
            Section::None | Section::Fields(_) | Section::Rows(_) => {}
        }
    }

    fn print(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = self.out.write_all(text.as_bytes()).err();
        }
    }
}

/// The name of a field as a name in JSON.
fn key(name: &str) -> Value {
    name.replace(' ', "_").into()
}

fn object(fields: &[(&'static str, Value)]) -> Value {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| (name.replace(' ', "_"), value.clone()));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// A value without the quotation marks of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}
