//! The names of the files: those that are read now, and those that a loss of power leaves.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::crash::Chooser;

pub(super) type SharedContent = Arc<Mutex<Content>>;

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: BTreeMap<String, SharedContent>,
    durable: BTreeMap<String, SharedContent>,
    /// What was changed since then, the oldest first. A file system keeps that order: what it has
    /// lost of it is the end.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create {
        name: String,
        content: SharedContent,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
}

impl Change {
    fn apply(self, files: &mut BTreeMap<String, SharedContent>) {
        match self {
            Self::Create { name, content } => {
                files.insert(name, content);
            }
            Self::Rename { from, to } => {
                if let Some(content) = files.remove(&from) {
                    files.insert(to, content);
                }
            }
            Self::Remove { name } => {
                files.remove(&name);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<SharedContent> {
        self.files.get(name).cloned()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// All names, sorted.
    pub(super) fn list(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Bytes of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.lock().len()).sum()
    }

    pub(super) fn create(&mut self, name: &str, content: SharedContent) {
        let name = name.to_owned();
        self.change(Change::Create { name, content });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(Change::Rename { from, to });
    }

    pub(super) fn remove(&mut self, name: &str) {
        let name = name.to_owned();
        self.change(Change::Remove { name });
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.files);
        self.changes.push(change);
    }

    /// Puts a file there that was always there.
    pub(super) fn put(&mut self, name: &str, content: SharedContent) {
        self.files.insert(name.to_owned(), Arc::clone(&content));
        self.durable.insert(name.to_owned(), content);
    }

    /// Makes all changes durable.
    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.files);
        self.changes.clear();
    }

    /// The same names of copies of the files.
    pub(super) fn copy(&self) -> Self {
        let mut copies = Copies::default();
        let mut of = |content: &SharedContent| copies.of(content, Content::clone);
        let changes = self.changes.iter().map(|change| match change {
            Change::Create { name, content } => Change::Create {
                name: name.clone(),
                content: of(content),
            },
            Change::Rename { .. } | Change::Remove { .. } => change.clone(),
        });
        let changes = changes.collect();
        let mut all = |files: &BTreeMap<String, SharedContent>| {
            let copied = files.iter().map(|(name, file)| (name.clone(), of(file)));
            copied.collect()
        };
        Self {
            files: all(&self.files),
            durable: all(&self.durable),
            changes,
        }
    }

    /// What a loss of power leaves, all of it durable.
    pub(super) fn after_power_loss(self, chooser: &mut Chooser) -> Self {
        let mut files = self.durable;
        for change in self.changes {
            if !chooser.happens() {
                break;
            }
            change.apply(&mut files);
        }
        let mut copies = Copies::default();
        let files: BTreeMap<_, _> = files
            .into_iter()
            .map(|(name, file)| (name, copies.of(&file, |content| content.crash(chooser))))
            .collect();
        Self {
            durable: files.clone(),
            files,
            changes: Vec::new(),
        }
    }
}

/// Copies of files, one of each, by whatever names it is found.
#[derive(Default)]
struct Copies(HashMap<*const Mutex<Content>, SharedContent>);

impl Copies {
    fn of(
        &mut self,
        file: &SharedContent,
        copy: impl FnOnce(&Content) -> Content,
    ) -> SharedContent {
        let made = self
            .0
            .entry(Arc::as_ptr(file))
            .or_insert_with(|| Arc::new(Mutex::new(copy(&file.lock()))));
        Arc::clone(made)
    }
}
