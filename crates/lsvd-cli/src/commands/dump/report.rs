//! What is shown of a file: named fields, tables of rows, and what is wrong.

use serde_json::{Map, Value};

/// What there is to say of a file, in the order in which it is said.
pub(super) struct Report {
    kind: Option<String>,
    sections: Vec<Section>,
    /// What does not check, one line each.
    pub(super) problems: Vec<String>,
}

struct Section {
    name: &'static str,
    content: Content,
}

enum Content {
    Fields(Vec<(&'static str, Value)>),
    Rows(Vec<Row>),
    Tree(Value),
}

/// A row of a table: fields by name.
pub(super) type Row = Vec<(&'static str, Value)>;

impl Report {
    pub(super) fn new(kind: Option<String>) -> Self {
        Self {
            kind,
            sections: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Adds a field to a section, which is begun where the last one is another.
    pub(super) fn field_of(
        &mut self,
        section: &'static str,
        name: &'static str,
        value: impl Into<Value>,
    ) {
        let field = (name, value.into());
        match self.sections.last_mut() {
            Some(Section {
                name,
                content: Content::Fields(fields),
            }) if *name == section => fields.push(field),
            _ => self.sections.push(Section {
                name: section,
                content: Content::Fields(vec![field]),
            }),
        }
    }

    /// Adds a table.
    pub(super) fn table(&mut self, name: &'static str, rows: Vec<Row>) {
        self.sections.push(Section {
            name,
            content: Content::Rows(rows),
        });
    }

    /// Adds what has a form of its own.
    pub(super) fn tree(&mut self, name: &'static str, value: Value) {
        self.sections.push(Section {
            name,
            content: Content::Tree(value),
        });
    }

    /// Notes something that does not check, once.
    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.kind.as_deref().unwrap_or("unknown"));
        for Section { name, content } in &self.sections {
            match content {
                Content::Fields(fields) => {
                    text += &format!("\n{name}\n");
                    for (name, value) in fields {
                        text += &format!("  {name:<14} {}\n", plain(value));
                    }
                }
                Content::Rows(rows) => {
                    text += &format!("\n{name}: {}\n", rows.len());
                    for row in rows {
                        let fields = row.iter();
                        let fields =
                            fields.map(|(name, value)| format!(" {name} {}", plain(value)));
                        text += &format!(" {}\n", fields.collect::<String>());
                    }
                }
                Content::Tree(value) => {
                    text += &format!("\n{name}\n");
                    for line in format!("{value:#}").lines() {
                        text += &format!("  {line}\n");
                    }
                }
            }
        }
        if !self.problems.is_empty() {
            text += "\nproblems\n";
            for problem in &self.problems {
                text += &format!("  {problem}\n");
            }
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let mut shown = Map::new();
        shown.insert("kind".to_owned(), self.kind.clone().into());
        for Section { name, content } in &self.sections {
            let value = match content {
                Content::Fields(fields) => object(fields),
                Content::Rows(rows) => rows.iter().map(|row| object(row)).collect(),
                Content::Tree(value) => value.clone(),
            };
            shown.insert((*name).to_owned(), value);
        }
        shown.insert("problems".to_owned(), self.problems.clone().into());
        format!("{}\n", Value::Object(shown))
    }
}

fn object(fields: &[(&'static str, Value)]) -> Value {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| (name.replace(' ', "_"), value.clone()));
    Value::Object(fields.collect())
}

/// A value without the quotation marks of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}
